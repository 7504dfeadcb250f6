//! A terminal of a given width, on which the command runs.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fixture::CliFixture;

/// Runs the command on a terminal of this width, without a pager. Returns its exit code and what the terminal got, without
/// colours.
pub(crate) fn run_on_terminal(cli: &CliFixture, columns: u16, arguments: &[&str]) -> (i32, String) {
    let mut command = cli.command(arguments);
    let (code, shown) = on_terminal(command.env("PAGER", "cat"), columns);
    (code, without_colors(&shown))
}

/// Runs a command on a terminal of this width.
pub(crate) fn on_terminal(command: &mut Command, columns: u16) -> (i32, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal: OwnedFd = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let size = Winsize {
        ws_row: 50,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm");
    let stderr = terminal.try_clone().unwrap();
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(terminal)
        .stderr(stderr)
        .spawn()
        .unwrap();
    // The command keeps its ends of the terminal open, and reading would not end.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut shown = Vec::new();
    // It ends with an error once nobody has the other end.
    let _ = File::from(controller).read_to_end(&mut shown);
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
}

fn without_colors(shown: &str) -> String {
    let mut parts = shown.split("\x1b[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').unwrap().1);
    }
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
