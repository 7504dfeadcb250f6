//! Output: tables on a terminal, plain lines for programs, progress on standard error.
//!
//! Everything that the command prints goes through this module. A failing output never ends the command in the
//! middle of its work, and never changes its verdict: [`finish`] decides about the exit code at the end.

mod pager;
mod printable;
mod progress;
mod table;

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use clap::builder::StyledStr;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::error::{CliError, FAILED};
use pager::Pager;
pub(crate) use pager::paged;
pub(crate) use printable::printable;
use printable::{masked, without_secrets};
pub(crate) use progress::{progress, spinner};
pub(crate) use table::{Cell, fitting_table, outcome_style, shortened_id, single_row, table, terminal_width};

/// Prints a line to standard output, with the arguments of `format!`.
macro_rules! print_line {
    ($($argument:tt)*) => { $crate::output::text(&format!($($argument)*)) };
}

/// Prints a line to standard error, with the arguments of `format!`.
macro_rules! print_note {
    ($($argument:tt)*) => { $crate::output::note(&format!($($argument)*)) };
}

pub(crate) use {print_line, print_note};

/// What became of standard output.
enum Stdout {
    Open,
    /// A pager reads what is printed.
    Paged(Pager),
    /// The reader closed the pipe (`| head`). It wants no more, so this is no error.
    Closed,
    /// A write failed, for example because the disk is full.
    Failed(std::io::Error),
}

impl Stdout {
    fn after(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

static STDOUT: Mutex<Stdout> = Mutex::new(Stdout::Open);

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints a line. Control characters are replaced.
pub(crate) fn text(line: &str) {
    raw_line(&printable::lines(line));
}

/// Prints a text in a style, where standard output shows styles. Control characters are replaced.
pub(crate) fn styled(style: Style, line: &str) {
    styled_after("", style, line);
}

/// The same after a text without a style.
pub(crate) fn styled_after(text: &str, style: Style, styled: &str) {
    let (text, styled) = (printable::lines(text), printable::lines(styled));
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => raw_line(&format!("{text}{styled}")),
        _ => raw_line(&format!("{text}{style}{styled}{style:#}")),
    }
}

/// Prints a value as a line of JSON. Control characters and those that change the writing direction are escaped.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    raw_line(&json_text(value)?);
    Ok(())
}

/// A value as JSON in one line, with the same characters escaped.
pub(crate) fn json_text(value: &(impl Serialize + ?Sized)) -> Result<String, CliError> {
    Ok(printable::json(serde_json::to_string(value)?))
}

/// Prints clap's help, with its styles where standard output shows them.
pub(crate) fn help(text: &StyledStr) {
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => raw_line(text.to_string().trim_end()),
        _ => raw_line(text.ansi().to_string().trim_end()),
    }
}

/// Prints a line as it is. After the first error nothing more is printed.
fn raw_line(line: &str) {
    let mut state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let written = match &mut *state {
        Stdout::Open => writeln!(std::io::stdout(), "{line}"),
        Stdout::Paged(pager) => writeln!(pager.input, "{line}"),
        Stdout::Closed | Stdout::Failed(_) => return,
    };
    if let Err(error) = written
        && let Stdout::Paged(pager) = std::mem::replace(&mut *state, Stdout::after(error))
    {
        pager.wait();
    }
}

/// Writes bytes to standard output as they are; to a terminal as lines of text. After the first error nothing more is written.
pub(crate) fn bytes(bytes: &[u8]) {
    if is_terminal() {
        return text(String::from_utf8_lossy(bytes).trim_end_matches('\n'));
    }
    let mut state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, Stdout::Open) {
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            *state = Stdout::after(error);
        }
    }
}

/// Whether what is printed still arrives somewhere: nobody has closed a pipe, as `| head` does.
pub(crate) fn is_open() -> bool {
    let state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    matches!(*state, Stdout::Open | Stdout::Paged(_)) && !has_no_reader()
}

/// Whether standard output is a pipe that nobody reads.
fn has_no_reader() -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdout = std::io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        let found = poll(&mut polled, Some(&Timespec::default()));
        found.is_ok() && polled[0].revents().contains(PollFlags::ERR)
    }
    #[cfg(not(unix))]
    false
}

/// Prints a line to standard error, made [`safe`].
pub(crate) fn note(line: &str) {
    // There is nowhere to report that standard error cannot be written to.
    let _ = writeln!(std::io::stderr(), "{}", safe(line));
}

/// The same for a text of several lines, of which none is from elsewhere.
pub(crate) fn note_lines(text: &str) {
    // Before the lines are separated: a password may contain a line break.
    without_secrets(text).lines().for_each(note);
}

/// A line for standard error. Control characters and line breaks are replaced: text from the input must not look like
/// a line of the command. Passwords in URLs are hidden.
pub(crate) fn safe(line: &str) -> String {
    masked(&printable(&without_secrets(line))).into_owned()
}

/// The exit code of the command: `verdict`, unless standard output could not be written. Waits for the pager.
pub(crate) fn finish(verdict: ExitCode) -> ExitCode {
    let mut state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *state, Stdout::Closed) {
        Stdout::Open | Stdout::Closed => verdict,
        Stdout::Paged(pager) => {
            pager.wait();
            verdict
        }
        Stdout::Failed(error) => {
            print_note!("auditlog: standard output is incomplete: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// A number with thousands separators.
pub(crate) fn number(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A number and its noun: "1 entry", "2,000 entries".
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A number of entries.
pub(crate) fn entries(count: u64) -> String {
    counted(count, "entry", "entries")
}

/// A number of bytes, rounded.
pub(crate) fn size(bytes: i64) -> String {
    HumanBytes(bytes.unsigned_abs()).to_string()
}

/// Asks at the terminal. Returns an error unless the answer is yes.
pub(crate) fn confirm(question: impl Display) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "standard input is not a terminal, so this cannot be confirmed: add --yes",
        ));
    }
    let question = printable(&question.to_string());
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::new("not confirmed; nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(entries(0), "0 entries");
        assert_eq!(entries(1), "1 entry");
        assert_eq!(entries(2_000), "2,000 entries");
    }
}
