//! Bar charts for a terminal.

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use db_services::audit::query::Count;
use unicode_width::UnicodeWidthStr;

use super::{Every, Stats};
use crate::output::{self, shortened_id};
use crate::zone::Zone;

/// The eighths of a block.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The widest label of a bar.
const MAX_LABEL: usize = 40;

/// The narrowest to which a terminal shortens labels, and the narrowest bar.
const MIN_WIDTH: usize = 8;

/// The most bars without entries in a row; more are one line.
const MAX_EMPTY: usize = 3;

/// A line of a chart.
#[derive(Debug, PartialEq)]
enum Line {
    Bar(String, u64),
    /// Of several bars without entries.
    Gap,
}

pub(super) fn show(stats: &Stats, zone: &Zone) {
    let bold = Style::new().bold();
    output::styled(bold, &total(stats.entries));
    if let (Some(every), false) = (stats.every, stats.time.is_empty()) {
        output::styled(bold, &format!("\nby {} ({})", unit(every), zone.name()));
        let bars: Vec<_> = stats
            .time
            .iter()
            .map(|bucket| (bucket.start, bucket.rows))
            .collect();
        show_lines(&lines(every, &bars, zone), None);
    }
    for values in stats.by.iter().filter(|values| !values.values.is_empty()) {
        output::styled(bold, &format!("\nby {}", values.column.name()));
        let mut lines: Vec<_> = values
            .values
            .iter()
            .map(|top| Line::Bar(top.value.clone().unwrap_or_else(|| "(none)".to_owned()), top.rows))
            .collect();
        let shown: u64 = values.values.iter().map(|top| top.rows).sum();
        if let Count::Exactly(entries) = stats.entries
            && entries > shown
        {
            lines.push(Line::Bar("(others)".to_owned(), entries - shown));
        }
        show_lines(&lines, Some(MAX_LABEL));
    }
}

fn total(entries: Count) -> String {
    match entries {
        Count::Exactly(entries) => output::entries(entries),
        Count::MoreThan(bound) => format!("more than {}", output::entries(bound)),
    }
}

fn unit(every: Every) -> &'static str {
    match every {
        Every::Auto | Every::Minute => "minute",
        Every::Hour => "hour",
        Every::Day => "day",
        Every::Week => "week",
        Every::Month => "month",
    }
}

/// The bars of a chart by time, with those that have no entries.
fn lines(every: Every, bars: &[(DateTime<Utc>, u64)], zone: &Zone) -> Vec<Line> {
    let label = |start| {
        let format = match every {
            // In the hour that comes twice the offset differs.
            Every::Auto | Every::Minute | Every::Hour => "%Y-%m-%d %H:%M %:z",
            Every::Day => "%Y-%m-%d %a",
            Every::Week => "%Y-%m-%d",
            Every::Month => "%Y-%m",
        };
        zone.formatted(start, format)
    };
    let mut lines = Vec::new();
    for (place, (start, rows)) in bars.iter().enumerate() {
        lines.push(Line::Bar(label(*start), *rows));
        let Some((next, _)) = bars.get(place + 1) else {
            break;
        };
        let mut empty = Vec::new();
        let mut at = every.following(*start, zone);
        while let Some(start) = at.filter(|at| at < next) {
            if empty.len() == MAX_EMPTY {
                empty = vec![Line::Gap];
                break;
            }
            empty.push(Line::Bar(label(start), 0));
            at = every.following(start, zone);
        }
        lines.append(&mut empty);
    }
    lines
}

fn show_lines(lines: &[Line], max_label: Option<usize>) {
    let terminal = output::terminal_width();
    for (text, bar) in drawn(lines, max_label, terminal) {
        output::styled_after(&text, AnsiColor::Cyan.on_default(), &bar);
    }
}

/// Each line as a text and a bar. Labels with a limit are shortened to it, and to less where a bar would have no room.
fn drawn(lines: &[Line], max_label: Option<usize>, terminal: usize) -> Vec<(String, String)> {
    let bars = lines.iter().filter_map(|line| match line {
        Line::Bar(label, rows) => Some((label, *rows)),
        Line::Gap => None,
    });
    let (mut labels, mut numbers, mut most) = (1, 1, 1);
    for (label, rows) in bars {
        labels = labels.max(label.width());
        numbers = numbers.max(output::number(rows).len());
        most = most.max(rows);
    }
    // Two spaces before the label, two after it, one after the number.
    let others = numbers + 5;
    let max_label = match max_label {
        None => labels,
        Some(limit) => limit.min(terminal.saturating_sub(others + MIN_WIDTH).max(MIN_WIDTH)),
    };
    let labels = labels.min(max_label);
    let width = terminal.saturating_sub(labels + others).max(1);
    let drawn = lines.iter().map(|line| match line {
        Line::Gap => ("  ⋮".to_owned(), String::new()),
        Line::Bar(label, rows) => {
            let label = shortened_id(label, max_label);
            let pad = " ".repeat(labels.saturating_sub(label.width()));
            let number = output::number(*rows);
            let text = format!("  {label}{pad}  {number:>numbers$} ");
            (text, bar(*rows, most, width))
        }
    });
    drawn.collect()
}

/// A bar of this many of `most` entries, of which the whole width stands for. One entry is visible.
fn bar(rows: u64, most: u64, width: usize) -> String {
    let eighths = u128::from(rows) * width as u128 * 8 / u128::from(most.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(0).max(usize::from(rows > 0));
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_bound_says_so() {
        assert_eq!(total(Count::Exactly(1)), "1 entry");
        assert_eq!(total(Count::MoreThan(10_000)), "more than 10,000 entries");
    }

    #[test]
    fn a_bar_is_in_proportion_and_never_empty() {
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(5, 10, 4), "██");
        assert_eq!(bar(1, 1_000_000, 4), "▏");
        assert_eq!(bar(0, 10, 4), "");
        assert_eq!(bar(u64::MAX, u64::MAX, 4), "████");
    }

    #[test]
    fn labels_leave_room_for_bars_on_a_narrow_terminal() {
        let lines = [
            Line::Bar("arn:aws:iam::123837392027:user/bert-jan".to_owned(), 1_160),
            Line::Bar("日本語日本語日本語日本語".to_owned(), 1),
            Line::Gap,
        ];
        for terminal in [30, 40, 60, 80, 160] {
            for (text, bar) in drawn(&lines, Some(MAX_LABEL), terminal) {
                assert!(text.width() + bar.width() <= terminal, "{terminal}: {text}{bar}");
            }
        }
        assert_eq!(drawn(&lines, Some(MAX_LABEL), 1)[0].1, "█");
        assert_eq!(
            drawn(&[Line::Bar("2026-11-29 12:00 +00:00".to_owned(), 1)], None, 20)[0].0,
            "  2026-11-29 12:00 +00:00  1 "
        );
    }

    #[test]
    fn hours_without_entries_are_bars_and_many_of_them_are_one_line() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let shown = lines(
            Every::Hour,
            &[
                (time("2026-10-24T22:00:00Z"), 1),
                (time("2026-10-25T00:00:00Z"), 2),
                (time("2026-10-26T00:00:00Z"), 3),
            ],
            &zone,
        );
        let bar = |label: &str, rows| Line::Bar(label.to_owned(), rows);
        assert_eq!(
            shown,
            [
                bar("2026-10-25 00:00 +02:00", 1),
                bar("2026-10-25 01:00 +02:00", 0),
                bar("2026-10-25 02:00 +02:00", 2),
                Line::Gap,
                bar("2026-10-26 01:00 +01:00", 3),
            ]
        );
    }

    #[test]
    fn days_and_months_follow_the_clocks() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (every, start, following) in [
            (Every::Day, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            (Every::Day, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Every::Week, "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"),
            (Every::Month, "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            (Every::Hour, "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ] {
            assert_eq!(
                every.following(time(start), &zone),
                Some(time(following)),
                "{start}"
            );
        }
    }
}
