//! Tables: aligned on a terminal, otherwise lines with tabs between the columns.

use std::io::IsTerminal;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Color, ContentArrangement, LineStyle, Table, presets};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{printable, raw_line, text};

/// The narrowest that a column becomes.
const MIN_WIDTH: usize = 8;

/// The width of a terminal that does not tell its own.
const DEFAULT_WIDTH: usize = 80;

/// The spaces around a cell.
const PADDING: usize = 2;

/// How a column is shortened where the terminal is too narrow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shortening {
    /// Not at all.
    Never,
    /// In the middle: the begin and the end of an id distinguish it.
    Middle,
    /// At the end.
    End,
}

/// A cell of a table: the text, a colour, and how it may be shortened.
pub(crate) struct Cell {
    text: String,
    color: Option<AnsiColor>,
    shortening: Shortening,
}

impl Cell {
    /// Text that is never shortened.
    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self {
            text: printable(text.as_ref()),
            color: None,
            shortening: Shortening::Never,
        }
    }

    /// An id, a name or an address: shortened in the middle.
    pub(crate) fn id(text: impl AsRef<str>) -> Self {
        Self {
            shortening: Shortening::Middle,
            ..Self::plain(text)
        }
    }

    /// Prose: shortened at its end.
    pub(crate) fn prose(text: impl AsRef<str>) -> Self {
        Self {
            shortening: Shortening::End,
            ..Self::plain(text)
        }
    }

    pub(crate) fn ok(text: &str) -> Self {
        Self::plain(text).colored(AnsiColor::Green)
    }

    pub(crate) fn warn(text: &str) -> Self {
        Self::plain(text).colored(AnsiColor::Yellow)
    }

    pub(crate) fn error(text: &str) -> Self {
        Self::plain(text).colored(AnsiColor::Red)
    }

    /// An outcome in its colour.
    pub(crate) fn outcome(outcome: &str) -> Self {
        Self {
            color: outcome_color(outcome),
            ..Self::plain(outcome)
        }
    }

    fn colored(self, color: AnsiColor) -> Self {
        Self {
            color: Some(color),
            ..self
        }
    }

    fn width(&self) -> usize {
        self.text.width()
    }

    fn wished_width(&self) -> usize {
        match self.shortening {
            Shortening::Never => self.width(),
            Shortening::Middle | Shortening::End => self.width().min(WISHED_WIDTH),
        }
    }
}

fn outcome_color(outcome: &str) -> Option<AnsiColor> {
    match outcome {
        "success" => Some(AnsiColor::Green),
        "denied" => Some(AnsiColor::Red),
        "failure" => Some(AnsiColor::Yellow),
        _ => None,
    }
}

/// The style of an outcome outside of a table.
pub(crate) fn outcome_style(outcome: &str) -> Style {
    Style::new().fg_color(outcome_color(outcome).map(Into::into))
}

/// Prints an aligned table on a terminal, otherwise lines with tabs between the columns.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<Cell>>) {
    let has_color = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    if std::io::stdout().is_terminal() {
        let rows = rows.collect();
        raw_line(&aligned(header, rows, has_color));
        return;
    }
    text(&header.join("\t"));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| painted(cell, has_color)).collect();
        raw_line(&cells.join("\t"));
    }
}

/// The narrowest that a column is wished to be, before another one is left out.
const WISHED_WIDTH: usize = 14;

/// As [`table`]. On a terminal, columns of `droppable` are left out: those in which no row has a value, and, one after
/// the other, as many as it takes until the others are readable.
pub(crate) fn fitting_table(header: &[&str], rows: Vec<Vec<Cell>>, droppable: &[&str]) {
    if !std::io::stdout().is_terminal() {
        return table(header, rows.into_iter());
    }
    let kept = fitting(header, &rows, droppable, terminal_width());
    let header: Vec<_> = header
        .iter()
        .zip(&kept)
        .filter(|(_, kept)| **kept)
        .map(|(title, _)| *title)
        .collect();
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().zip(&kept).filter(|(_, kept)| **kept);
        cells.map(|(cell, _)| cell).collect()
    });
    table(&header, rows);
}

/// Which columns fit.
fn fitting(header: &[&str], rows: &[Vec<Cell>], droppable: &[&str], terminal: usize) -> Vec<bool> {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(Cell::wished_width).max().unwrap_or(0)
        })
        .collect();
    let mut kept: Vec<bool> = header
        .iter()
        .zip(&widths)
        .map(|(title, width)| *width > 0 || !droppable.contains(title))
        .collect();
    for dropped in droppable {
        let needed = header.iter().zip(&widths).zip(&kept).filter(|(_, kept)| **kept);
        let needed: usize = needed
            .map(|((title, width), _)| title.width().max(*width) + PADDING)
            .sum();
        if needed <= terminal {
            break;
        }
        if let Some(column) = header.iter().position(|title| title == dropped) {
            kept[column] = false;
        }
    }
    kept
}

/// The width of the terminal that standard output is.
#[cfg(unix)]
pub(crate) fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT_WIDTH } else { columns }
}

#[cfg(not(unix))]
pub(crate) fn terminal_width() -> usize {
    Table::new().width().map_or(DEFAULT_WIDTH, usize::from)
}

/// Prints a row that no table holds: on a terminal its first columns aligned and what is in the others, otherwise all with
/// tabs between them.
pub(crate) fn single_row(cells: Vec<Cell>) {
    /// The least widths of time, outcome, action and actor.
    const WIDTHS: [usize; 4] = [19, 7, 24, 20];
    let has_color = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    if !std::io::stdout().is_terminal() {
        let cells: Vec<_> = cells.iter().map(|cell| painted(cell, has_color)).collect();
        return raw_line(&cells.join("\t"));
    }
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let width = WIDTHS.get(at).copied().unwrap_or(0);
        if width == 0 && cell.text.is_empty() {
            continue;
        }
        line.push_str(&painted(cell, has_color));
        line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + PADDING));
    }
    raw_line(line.trim_end());
}

fn painted(cell: &Cell, has_color: bool) -> String {
    match cell.color.filter(|_| has_color) {
        Some(color) => {
            let style = Style::new().fg_color(Some(color.into()));
            format!("{style}{}{style:#}", cell.text)
        }
        None => cell.text.clone(),
    }
}

fn aligned(header: &[&str], mut rows: Vec<Vec<Cell>>, has_color: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Disabled);
    match has_color {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    shorten(header, &mut rows, terminal_width());
    table.set_header(
        header
            .iter()
            .map(|title| comfy_table::Cell::new(title).add_attribute(Attribute::Bold)),
    );
    for row in rows {
        table.add_row(row.into_iter().map(|cell| match cell.color {
            Some(color) => comfy_table::Cell::new(cell.text).fg(comfy(color)),
            None => comfy_table::Cell::new(cell.text),
        }));
    }
    table.to_string()
}

/// The eight colours that every theme adapts to its background. Bright yellow on white cannot be read; comfy_table calls
/// the ordinary ones dark.
fn comfy(color: AnsiColor) -> Color {
    match color {
        AnsiColor::Green => Color::DarkGreen,
        AnsiColor::Yellow => Color::DarkYellow,
        AnsiColor::Red => Color::DarkRed,
        _ => Color::Reset,
    }
}

/// Shortens the cells that may be, so that the rows fit into the terminal.
fn shorten(header: &[&str], rows: &mut [Vec<Cell>], terminal: usize) {
    let (mut fixed, mut flexible) = (PADDING * header.len(), Vec::new());
    for (column, title) in header.iter().enumerate() {
        let cells = || rows.iter().filter_map(|row| row.get(column));
        let width = cells().map(Cell::width).max().unwrap_or(0).max(title.width());
        match cells().any(|cell| cell.shortening != Shortening::Never) {
            true => flexible.push(width),
            false => fixed += width,
        }
    }
    let widest = widest(&flexible, terminal.saturating_sub(fixed));
    for cell in rows.iter_mut().flatten() {
        match cell.shortening {
            Shortening::Never => {}
            Shortening::Middle => cell.text = shortened(&cell.text, widest, widest / 2),
            Shortening::End => cell.text = shortened(&cell.text, widest, 0),
        }
    }
}

/// The width to which columns are reduced so that all of them fit into the available one: only the widest lose.
fn widest(columns: &[usize], available: usize) -> usize {
    let needed = |limit: usize| columns.iter().map(|width| (*width).min(limit)).sum::<usize>();
    let most = columns.iter().copied().max().unwrap_or(0).max(MIN_WIDTH);
    (MIN_WIDTH..=most)
        .rev()
        .find(|limit| needed(*limit) <= available)
        .unwrap_or(MIN_WIDTH)
}

/// The most characters that one column holds: a letter with its accents, or half of an emoji of several.
const CHARS_OF_COLUMN: usize = 4;

/// An id of at most this width, shortened in the middle, and printable.
pub(crate) fn shortened_id(text: &str, width: usize) -> String {
    shortened(&printable(text), width, width / 2)
}

/// A text of at most this width: its begin, `…`, and its end of at most `tail`. A text of any length may have no width.
fn shortened(text: &str, width: usize, tail: usize) -> String {
    if text.width() <= width && text.chars().count() <= CHARS_OF_COLUMN * width {
        return text.to_owned();
    }
    let tail = taken(text.chars().rev(), tail);
    let head = taken(
        text.chars(),
        width.saturating_sub(1 + tail.iter().filter_map(|c| c.width()).sum::<usize>()),
    );
    head.into_iter()
        .chain(['…'])
        .chain(tail.into_iter().rev())
        .collect()
}

/// The first characters whose widths do not exceed this one.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut left = width;
    chars
        .take(CHARS_OF_COLUMN * width)
        .take_while(|c| {
            let fits = c.width().unwrap_or(0) <= left;
            left = left.saturating_sub(c.width().unwrap_or(0));
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shortened_in_the_middle() {
        assert_eq!(shortened("0190f3a1-7b2c", 13, 6), "0190f3a1-7b2c");
        assert_eq!(shortened("0190f3a1-7b2c", 9, 4), "0190…7b2c");
        assert_eq!(shortened("日本語日本語", 7, 3), "日本…語");
        assert_eq!(shortened("a long sentence", 7, 0), "a long…");
        let stacked = format!("a{}", "\u{301}".repeat(3_000));
        assert!(shortened(&stacked, 8, 4).chars().count() <= 2 * 8 * CHARS_OF_COLUMN);
        let family = "👩‍👩‍👧‍👦";
        assert_eq!(shortened(family, 2, 1), family);
    }

    #[test]
    fn columns_are_left_out_until_the_others_are_readable() {
        let header = ["time", "actor", "tenant", "id"];
        let row = || {
            vec![
                Cell::plain("2026-11-29 08:10:38"),
                Cell::id("alice@example.org"),
                Cell::id("acme"),
                Cell::plain("0190f3a1-7b2c-7000-8000-0123456789ab"),
            ]
        };
        let kept = |terminal| fitting(&header, &[row()], &["id", "tenant"], terminal);
        assert_eq!(kept(160), [true, true, true, true]);
        assert_eq!(kept(80), [true, true, true, false]);
        assert_eq!(kept(40), [true, true, false, false]);
        let mut empty = row();
        empty[2] = Cell::id("");
        assert_eq!(
            fitting(&header, &[empty], &["tenant"], 160),
            [true, true, false, true]
        );
    }

    #[test]
    fn only_the_widest_columns_lose() {
        assert_eq!(widest(&[10, 40, 30], 80), 40);
        assert_eq!(widest(&[10, 40, 30], 70), 30);
        assert_eq!(widest(&[10, 40, 30], 50), 20);
        assert_eq!(widest(&[10, 40, 30], 5), MIN_WIDTH);
    }

    #[test]
    fn a_row_fits_into_the_terminal_while_fixed_columns_stay_whole() {
        let row = || {
            vec![
                Cell::plain("2026-11-28T17:40:04.123Z"),
                Cell::outcome("success"),
                Cell::plain("user.updated"),
                Cell::plain("alice@example.org"),
                Cell::id("tenant-0190f3a1-7b2c-7000-8000-0123456789ab"),
                Cell::id("document 0190f3a1-7b2c-7000-8000-0123456789ab"),
                Cell::id("2001:db8:85a3:8d3:1319:8a2e:370:7348"),
            ]
        };
        let header = [
            "time (UTC)",
            "outcome",
            "action",
            "actor",
            "tenant",
            "resource",
            "address",
        ];
        for terminal in [120, 150, 200] {
            let mut rows = vec![row()];
            shorten(&header, &mut rows, terminal);
            let width: usize = rows[0].iter().map(|cell| cell.width() + PADDING).sum();
            assert!(width <= terminal, "{width} in {terminal}");
            for (cell, whole) in rows[0].iter().zip(row()).take(4) {
                assert_eq!(cell.text, whole.text);
            }
        }
    }
}
