//! What happened in a world, as a hash always and as text where it is wanted.

use std::fmt::Write;

use super::random::Random;
use super::row::SimRow;
use crate::spool::{SpoolId, SpoolReply, SpoolRequest};
use crate::writer::{Action, Event, Record};
use crate::{SeqRange, Time};

/// Lines that are kept of a history.
const MAX_LINES: usize = 400;

/// What happened.
#[derive(Debug)]
pub(super) struct History {
    pub(super) hash: u64,
    /// None unless it is wanted.
    lines: Option<std::collections::VecDeque<String>>,
    pub(super) steps: u64,
}

impl History {
    pub(super) fn new(is_text_wanted: bool) -> Self {
        Self {
            hash: 0,
            lines: is_text_wanted.then(Default::default),
            steps: 0,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a number to the hash.
    pub(super) fn mix(&mut self, number: u64) {
        self.hash = Random::new(self.hash, number).next();
    }

    /// Adds a line, which is made only if it is wanted.
    pub(super) fn note(&mut self, at: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == MAX_LINES {
                lines.pop_front();
            }
            let millis = at.as_nanos() as f64 / 1e6;
            lines.push_back(format!("{:>6} {millis:>12.3}  {}", self.steps, line()));
        }
    }

    pub(super) fn text(&self) -> String {
        let lines = self.lines.iter().flatten();
        lines.fold(String::new(), |text, line| text + line + "\n")
    }
}

/// A number that differs where actions differ.
pub(super) fn code(action: &Action<SimRow>) -> u64 {
    let next = |sum: u64, number: u64| sum.wrapping_mul(31).wrapping_add(number);
    let rows = |rows: &[SimRow]| {
        rows.iter()
            .fold(rows.len() as u64, |sum, row| next(sum, u64::from(row.key)))
    };
    let ids = |ids: &[SpoolId]| ids.iter().fold(0, |sum, id| next(sum, id.batch as u64));
    match action {
        Action::Take { records, entries } => records.len() as u64 * 2 + u64::from(*entries),
        Action::Send { lane, rows: sent, .. } => next(rows(sent), 1_000 + *lane as u64),
        Action::Spool(SpoolRequest::Append { copy, rows: appended }) => next(rows(appended), copy.0),
        Action::Spool(SpoolRequest::Remove(removed)) => next(ids(removed), 2_000),
        Action::Spool(SpoolRequest::Return { batches, .. }) => next(ids(batches), 3_000),
        Action::Spool(SpoolRequest::Quarantine { ticket, .. }) => ticket.0 + 4_000,
        Action::Spool(SpoolRequest::Read) => 5_000,
        Action::Spool(SpoolRequest::Rewind) => 6_000,
        Action::Settle { ranges, .. } => ranges
            .iter()
            .fold(7_000, |sum, range| next(next(sum, range.first), range.last)),
        Action::Release(size) => next(size.entries as u64, size.bytes as u64),
        Action::Count(_, count) => count + 8_000,
        Action::Notice(_) => 9_000,
    }
}

fn rows(rows: &[SimRow]) -> String {
    let name = |row: &SimRow| match &row.record {
        Some(record) => self::record(record),
        None => format!("{}/{}", row.writer, row.seq),
    };
    rows.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn ranges(ranges: &[SeqRange]) -> String {
    ranges
        .iter()
        .map(|range| format!("{}-{}", range.first, range.last))
        .collect::<Vec<_>>()
        .join(",")
}

fn record(record: &Record<SimRow>) -> String {
    match record {
        Record::Started => "started".to_owned(),
        Record::Alive { resolved_through } => format!("alive({resolved_through})"),
        Record::Lost { losses, reason } => {
            let lost: Vec<String> = losses
                .iter()
                .map(|loss| format!("{}-{}", loss.first, loss.last))
                .collect();
            format!("lost({} {})", reason.label(), lost.join(","))
        }
        Record::Duplicate { ranges, .. } => format!("duplicate({})", self::ranges(ranges)),
        Record::Quarantined { row, .. } => format!("quarantined({}/{})", row.writer, row.seq),
        Record::Stopped { last_seq } => format!("stopped({last_seq})"),
    }
}

pub(super) fn request(request: &SpoolRequest<SimRow>) -> String {
    match request {
        SpoolRequest::Append { copy, rows } => format!("append {} [{}]", copy.0, self::rows(rows)),
        SpoolRequest::Remove(ids) => format!("remove {}", self::ids(ids)),
        SpoolRequest::Read => "read".to_owned(),
        SpoolRequest::Return { batches, again } => format!("return {} {again:?}", ids(batches)),
        SpoolRequest::Rewind => "rewind".to_owned(),
        SpoolRequest::Quarantine { ticket, rows, .. } => {
            format!("quarantine {} [{}]", ticket.0, self::rows(rows))
        }
    }
}

fn ids(ids: &[SpoolId]) -> String {
    ids.iter()
        .map(|id| format!("{}:{}", id.file, id.batch))
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn reply(reply: &SpoolReply<SimRow>) -> String {
    match reply {
        SpoolReply::Appended { copy, result: Ok(id) } => format!("appended {} at {}", copy.0, ids(&[*id])),
        SpoolReply::Appended {
            copy,
            result: Err(failure),
        } => format!("not appended {}: {failure}", copy.0),
        SpoolReply::Read(Some(batch)) => format!("read {} [{}]", ids(&batch.ids), rows(&batch.rows)),
        SpoolReply::Read(None) => "read nothing".to_owned(),
        SpoolReply::Quarantined {
            ticket,
            result: Ok(()),
        } => format!("quarantined {}", ticket.0),
        SpoolReply::Quarantined {
            ticket,
            result: Err(failure),
        } => {
            format!("not quarantined {}: {failure}", ticket.0)
        }
        SpoolReply::Adopted => "adopted".to_owned(),
        SpoolReply::Notice(notice) => format!("notice: {notice}"),
    }
}

pub(super) fn event(event: &Event<SimRow>) -> String {
    match event {
        Event::Woken => "woken".to_owned(),
        Event::Taken(taken) => format!("taken [{}] {} bytes", rows(&taken.rows), taken.size.bytes),
        Event::Written {
            lane,
            result: Ok(written),
        } if written.duplicates.is_empty() => {
            format!("lane {lane}: written")
        }
        Event::Written {
            lane,
            result: Ok(written),
        } => {
            format!("lane {lane}: written, duplicates {:?}", written.duplicates)
        }
        Event::Written {
            lane,
            result: Err(error),
        } => {
            format!("lane {lane}: {:?}, {}", error.kind, error.reason)
        }
        Event::Spool(reply) => format!("spool: {}", self::reply(reply)),
        Event::SpoolGone => "spool gone".to_owned(),
        Event::Lost(losses) => {
            let lost = losses.iter().map(|loss| format!(" {}-{}", loss.first, loss.last));
            format!("lost{}", lost.collect::<String>())
        }
        Event::Notified { callers } => format!("notified {callers}"),
        Event::Close { deadline } => format!("close by {:.3}", deadline.as_nanos() as f64 / 1e6),
    }
}

pub(super) fn actions(actions: &[Action<SimRow>]) -> String {
    let mut text = String::new();
    for action in actions {
        let _ = match action {
            Action::Take { records, entries } => {
                let records: Vec<String> = records.iter().map(record).collect();
                write!(
                    text,
                    " | take {}{}",
                    records.join(" "),
                    if *entries { " +entries" } else { "" }
                )
            }
            Action::Send { lane, rows, attempt } => {
                write!(text, " | lane {lane} {attempt:?} [{}]", self::rows(rows))
            }
            Action::Spool(request) => write!(text, " | {}", self::request(request)),
            Action::Settle { ranges, fate } => write!(text, " | settle {} {fate:?}", self::ranges(ranges)),
            Action::Release(size) => write!(text, " | release {}", size.entries),
            Action::Count(..) => Ok(()),
            Action::Notice(notice) => {
                let notice = format!("{notice:?}");
                let name = notice.split([' ', '{', '(']).next().unwrap_or_default();
                write!(text, " | notice {name}")
            }
        };
    }
    text
}
