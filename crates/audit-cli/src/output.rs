//! How does the command speak: tables to people, plain lines to programs?

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Color, ContentArrangement, LineStyle, Row, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::failure::Failure;

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

    pub(crate) fn good(text: &str) -> Self {
        Self {
            color: Some(Color::Green),
            ..Self::plain(text)
        }
    }

    pub(crate) fn doubtful(text: &str) -> Self {
        Self {
            color: Some(Color::Yellow),
            ..Self::plain(text)
        }
    }

    pub(crate) fn bad(text: &str) -> Self {
        Self {
            color: Some(Color::Red),
            ..Self::plain(text)
        }
    }

    /// An outcome, in its colour.
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

/// Prints an aligned table on a terminal, else lines with tabs between the columns.
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
        // An entry a line, cut with … where the terminal is too narrow.
        row.max_height(1);
        table.add_row(row);
    }
    text(&table.to_string());
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) {
    text(&cells.collect::<Vec<_>>().join("\t"));
}

/// Prints a line; a reader who has seen enough (`| head`) ends the program in peace.
pub(crate) fn text(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Text without control characters and without those that turn the direction of writing: what is in
/// an audit trail comes from outside, and must not move the cursor of who reads it.
pub(crate) fn printable(text: &str) -> String {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if harmful(c) { '\u{FFFD}' } else { c })
        .collect()
}

/// A number with its thousands apart.
pub(crate) fn number(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A number of bytes, rounded.
pub(crate) fn size(bytes: i64) -> String {
    HumanBytes(bytes.unsigned_abs()).to_string()
}

/// Asks at the terminal; an error unless the answer is yes.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask: add --yes"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("not confirmed, nothing was changed")),
    }
}

/// A sign on standard error that something goes on.
pub(crate) fn waiting(what: &'static str) -> ProgressBar {
    let bar = progress(None, what);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// A bar on standard error, where that is a terminal; of unknown length it turns.
pub(crate) fn progress(length: Option<u64>, what: &'static str) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{msg} {wide_bar} {percent}% {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    // The templates are constants; one that did not parse would leave the default style.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
    .with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            printable("a\x1b[2Jb\r\n\tc\u{9b}d\u{202E}e"),
            "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}\u{FFFD}c\u{FFFD}d\u{FFFD}e"
        );
        assert_eq!(printable("Grüße, 日本"), "Grüße, 日本");
    }
}
