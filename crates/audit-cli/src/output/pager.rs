//! The pager, as git has it: `$PAGER`, or `less` that shows colours and ends by itself where one screen is enough.

use std::io::{self, IsTerminal};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{STDOUT, Stdout};

/// The process that shows the output.
pub(super) struct Pager {
    pub(super) input: ChildStdin,
    process: Child,
}

impl Pager {
    /// Waits until the reader has finished.
    pub(super) fn wait(self) {
        let Self { input, mut process } = self;
        drop(input);
        // Its exit code says nothing about what was read.
        let _ = process.wait();
    }
}

/// Sends what is printed from now on to a pager, if standard output is a terminal. Without a pager that can be started it
/// is printed as it is.
pub(crate) fn paged() {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return;
    }
    if let Some(Ok(pager)) = chosen().map(start) {
        let mut state = STDOUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if matches!(*state, Stdout::Open) {
            *state = Stdout::Paged(pager);
        }
    }
}

/// The command of the pager. None if the variable is empty or `cat`, which pages nothing.
fn chosen() -> Option<String> {
    match std::env::var("PAGER") {
        Ok(pager) if matches!(pager.trim(), "" | "cat") => None,
        Ok(pager) => Some(pager),
        Err(_) => Some("less".to_owned()),
    }
}

/// Without a shell: that would start even where the pager is missing, and the output would be lost.
fn start(pager: String) -> io::Result<Pager> {
    let mut words = pager.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::piped());
    // -F ends after one screen, -R shows colours, -X keeps the text on the screen.
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    let mut process = command.spawn()?;
    ignore_interrupts();
    let input = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Pager { input, process })
}

/// Leaves Ctrl-C to the pager: if this process ended, the pager would lose the terminal with it.
fn ignore_interrupts() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // The handler stays when the stream is dropped.
        let _ = signal(SignalKind::interrupt());
    }
}
