//! Output of the results: a table, or one JSON object per line.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, presets};

use crate::result::ResultRow;

/// Collects the results and prints them.
pub(crate) struct Report {
    json: bool,
    rows: Vec<ResultRow>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// Adds a row; `None` is a row that was not measured. JSON is printed immediately.
    pub(crate) fn add(&mut self, row: Option<ResultRow>) -> std::io::Result<()> {
        let Some(row) = row else { return Ok(()) };
        if self.json {
            writeln!(std::io::stdout(), "{}", line(&row)?)?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table, unless the rows were printed as JSON.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        match self.json {
            true => Ok(()),
            false => writeln!(
                std::io::stdout(),
                "{}",
                table(&self.rows, std::io::stdout().is_terminal())
            ),
        }
    }
}

fn line(row: &ResultRow) -> serde_json::Result<String> {
    serde_json::to_string(row)
}

fn table(rows: &[ResultRow], colours: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')))
        .set_content_arrangement(ContentArrangement::Disabled);
    let header = [
        "name",
        "median",
        "min … max",
        "unit",
        "ratio to",
        "ratio",
        "goal",
        "met",
    ];
    table.set_header(header.map(|title| match colours {
        true => Cell::new(title).add_attribute(Attribute::Bold),
        false => Cell::new(title),
    }));
    for row in rows {
        let met = match row.met {
            Some(true) => ("yes", Color::Green),
            Some(false) => ("no", Color::Red),
            None => ("", Color::Reset),
        };
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&row.name),
            right(number(row.median)),
            right(format!("{} … {}", number(row.min), number(row.max))),
            Cell::new(row.unit),
            Cell::new(row.reference.as_deref().unwrap_or_default()),
            right(row.ratio.map(number).unwrap_or_default()),
            Cell::new(row.goal.map(|goal| goal.to_string()).unwrap_or_default()),
            if colours {
                Cell::new(met.0).fg(met.1)
            } else {
                Cell::new(met.0)
            },
        ]);
    }
    table.trim_fmt()
}

/// Formats a number with three significant digits and separated thousands.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut grouped = String::new();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0
            && (whole.len() - nth).is_multiple_of(3)
            && digit.is_ascii_digit()
            && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Goal, Series};

    fn row() -> ResultRow {
        let ours = Series {
            name: "ours".into(),
            unit: "rows/s",
            values: vec![90_000.0, 80_000.0, 85_000.0],
        };
        let theirs = Series {
            name: "theirs".into(),
            unit: "rows/s",
            values: vec![1_000.0; 3],
        };
        ours.against(&theirs, Some(Goal::AtLeast(80.0))).unwrap()
    }

    #[test]
    fn a_json_line_has_exactly_the_documented_members() {
        assert_eq!(
            line(&row()).unwrap(),
            r#"{"name":"ours","median":85000.0,"min":80000.0,"max":90000.0,"unit":"rows/s","reference":"theirs","ratio":85.0,"goal":">= 80","met":true}"#
        );
        let plain = Series {
            name: "x".into(),
            unit: "ns",
            values: vec![1.5],
        }
        .row(None)
        .unwrap();
        assert!(
            line(&plain)
                .unwrap()
                .ends_with(r#""reference":null,"ratio":null,"goal":null,"met":null}"#)
        );
    }

    #[test]
    fn a_table_that_is_not_on_a_terminal_has_no_colours() {
        let text = table(&[row()], false);
        assert!(
            text.contains("85,000") && text.contains("80,000 … 90,000") && text.contains(">= 80"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn numbers_have_three_significant_digits_and_separated_thousands() {
        let shown = [1_234_567.0, 100.4, 99.96, 1.234, 0.1234, 0.01234, 0.0, -1234.0].map(number);
        assert_eq!(
            shown,
            [
                "1,234,567",
                "100",
                "100.0",
                "1.23",
                "0.123",
                "0.0123",
                "0",
                "-1,234"
            ]
        );
    }
}
