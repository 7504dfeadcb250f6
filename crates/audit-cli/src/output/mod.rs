//! Output: tables on a terminal, plain lines for programs, progress on standard error.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Color, ContentArrangement, LineStyle, Row, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::error::CliError;

/// A cell of a table: the text, and a colour on a terminal.
pub(crate) struct Cell {
    text: String,
    color: Option<Color>,
}

impl Cell {
    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self {
            text: printable(text.as_ref()),
            color: None,
        }
    }

    pub(crate) fn ok(text: &str) -> Self {
        Self {
            color: Some(Color::Green),
            ..Self::plain(text)
        }
    }

    pub(crate) fn warn(text: &str) -> Self {
        Self {
            color: Some(Color::Yellow),
            ..Self::plain(text)
        }
    }

    pub(crate) fn error(text: &str) -> Self {
        Self {
            color: Some(Color::Red),
            ..Self::plain(text)
        }
    }

    /// An outcome in its colour.
    pub(crate) fn outcome(outcome: &str) -> Self {
        let color = match outcome {
            "success" => Color::Green,
            "denied" => Color::Red,
            "failure" => Color::Yellow,
            _ => Color::Grey,
        };
        Self {
            color: Some(color),
            ..Self::plain(outcome)
        }
    }
}

/// Prints an aligned table on a terminal, otherwise lines with tabs between the columns.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<Cell>>) {
    if !std::io::stdout().is_terminal() {
        line(header.iter().copied());
        for row in rows {
            line(row.iter().map(|cell| cell.text.as_str()));
        }
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(
            header
                .iter()
                .map(|title| comfy_table::Cell::new(title).add_attribute(Attribute::Bold)),
        );
    for row in rows {
        let mut row = Row::from(row.into_iter().map(|cell| match cell.color {
            Some(color) => comfy_table::Cell::new(cell.text).fg(color),
            None => comfy_table::Cell::new(cell.text),
        }));
        // One line per row, truncated with … where the terminal is too narrow.
        row.max_height(1);
        table.add_row(row);
    }
    text(&table.to_string());
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) {
    text(&cells.collect::<Vec<_>>().join("\t"));
}

/// Prints a line. If the reader has closed the pipe (`| head`), the program ends without an error.
pub(crate) fn text(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Replaces control characters and those that change the writing direction. An audit trail contains text from
/// untrusted sources, which must not control the terminal.
pub(crate) fn printable(text: &str) -> String {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if harmful(c) { '\u{FFFD}' } else { c })
        .collect()
}

/// A number with thousands separators.
pub(crate) fn number(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A number of bytes, rounded.
pub(crate) fn size(bytes: i64) -> String {
    HumanBytes(bytes.unsigned_abs()).to_string()
}

/// Asks at the terminal. Returns an error unless the answer is yes.
pub(crate) fn confirm(question: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "standard input is not a terminal, so this cannot be confirmed: add --yes",
        ));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::new("not confirmed; nothing was changed")),
    }
}

/// A spinner on standard error.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    let bar = progress(None, message);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// A progress bar on standard error, or a spinner if the length is unknown. Hidden unless it is a terminal.
pub(crate) fn progress(length: Option<u64>, message: &'static str) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{msg} {wide_bar} {percent}% {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    // The templates are constants. If one did not parse, the default style would remain.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
    .with_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_has_no_control_characters() {
        assert_eq!(
            printable("a\x1b[2Jb\r\n\tc\u{9b}d\u{202E}e"),
            "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}\u{FFFD}c\u{FFFD}d\u{FFFD}e"
        );
        assert_eq!(printable("Grüße, 日本"), "Grüße, 日本");
    }
}
