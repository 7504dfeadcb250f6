//! The supervisor of a private server, which stops it when the test process ends.
//!
//! It is a shell that runs the server as its child and reads commands from standard input. The
//! operating system closes that when the process ends, even if it is killed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::SetupError;
use crate::os_user::OsUser;

/// Replies to each command with a line when it is done. At the end of its input it stops the server and
/// removes its files. The trap keeps it alive when nobody reads a reply.
const SCRIPT: &str = r#"
trap '' PIPE
bin=$1 home=$2 data=$3 server=
shift 3
start() {
    rm -f "$home"/.s.PGSQL.*
    : >"$home/log"
    "$bin/postgres" -D "$data" -k "$home" "$@" >"$home/log" 2>&1 </dev/null &
    server=$!
}
stop() {
    if [ -n "$server" ]; then
        kill "-$1" "$server"
        wait "$server"
    fi
    server=
}
runs() {
    [ -n "$server" ] || return
    # Wait for one that is about to end or to recover.
    while [ -e "$data/postmaster.pid" ]; do
        grep -q '^ready' "$data/postmaster.pid" && return
        sleep 0.02
    done
    wait "$server"
    return 1
}
start "$@"
while read -r command; do
    case $command in
    start) runs || start "$@" ;;
    *) stop "$command" ;;
    esac
    echo done
done
stop QUIT
rm -rf "$home" "$data"
"#;

/// The shell. Dropping it stops the server and waits until its files are removed.
pub(crate) struct Supervisor {
    shell: Child,
    commands: Option<ChildStdin>,
    replies: Option<BufReader<ChildStdout>>,
}

impl Supervisor {
    /// Starts the server with these settings, in its own process group, so that Ctrl-C does not stop it
    /// before the tests.
    pub(crate) fn start(
        account: OsUser,
        bin: &Path,
        home: &Path,
        data: &Path,
        settings: impl Iterator<Item = String>,
    ) -> Result<Self, SetupError> {
        let mut shell = account
            .command(Path::new("/bin/sh"), home)
            .args(["-c", SCRIPT, "supervisor"])
            .args([bin, home, data])
            .args(settings.flat_map(|setting| ["-c".to_owned(), setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(SetupError::start("starting its supervisor"))?;
        let (commands, replies) = (shell.stdin.take(), shell.stdout.take().map(BufReader::new));
        Ok(Self {
            shell,
            commands,
            replies,
        })
    }

    /// Sends a command: `start`, or the name of a signal that stops the server. Returns when it is done.
    pub(crate) fn send(&mut self, command: &str) -> Result<(), SetupError> {
        let (Some(commands), Some(replies)) = (&mut self.commands, &mut self.replies) else {
            return Ok(());
        };
        let failed = SetupError::start("a command to its supervisor");
        writeln!(commands, "{command}").map_err(&failed)?;
        let mut reply = String::new();
        replies.read_line(&mut reply).map_err(&failed)?;
        if reply.is_empty() {
            Err(failed(std::io::ErrorKind::UnexpectedEof.into()))
        } else {
            Ok(())
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}
