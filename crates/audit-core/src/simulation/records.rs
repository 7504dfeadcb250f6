//! What stored records declare and attest, whether it is true, and whether everything is there in the end.

use super::model::{Model, SaidFate, Verdict, WriterState};
use super::row::{SimRow, writer_index};
use crate::writer::Record;
use crate::{Loss, SeqRange};

impl Model {
    /// Notes what records that were stored together declare and attest.
    pub(super) fn store_records<'a>(&mut self, rows: impl Iterator<Item = &'a SimRow> + Clone) {
        let records = rows.filter_map(|row| Some((row.writer, row.record.as_deref()?)));
        for (writer, record) in records.clone() {
            self.declare(writer, record);
        }
        for (writer, record) in records {
            match record {
                Record::Alive { resolved_through } => self.attest(writer, *resolved_through, "alive"),
                Record::Stopped { last_seq } => {
                    self.attest(writer, *last_seq, "stopped");
                    self.writers[writer as usize].has_stop_record = true;
                }
                _ => {}
            }
        }
    }

    fn declare(&mut self, writer: u32, record: &Record<SimRow>) {
        let ranges: Vec<(u32, SeqRange)> = match record {
            Record::Lost { losses, .. } => {
                let (whole, partly): (Vec<&Loss>, Vec<&Loss>) =
                    losses.iter().partition(|loss| loss.is_whole());
                self.writers[writer as usize]
                    .partly_lost
                    .extend(partly.into_iter().cloned());
                let range = |loss: &Loss| {
                    (
                        writer,
                        SeqRange {
                            first: loss.first,
                            last: loss.last,
                        },
                    )
                };
                whole.into_iter().map(range).collect()
            }
            Record::Duplicate { writer, ranges } => ranges
                .iter()
                .map(|range| (writer_index(*writer), *range))
                .collect(),
            Record::Quarantined { row, .. } => {
                vec![(
                    row.writer,
                    SeqRange {
                        first: row.seq,
                        last: row.seq,
                    },
                )]
            }
            _ => return,
        };
        let is_loss = matches!(record, Record::Lost { .. });
        for (writer, range) in ranges {
            for seq in range.first..=range.last {
                let Some(key) = self.key(writer, seq) else {
                    return self.report("declarations are true", || {
                        format!("{writer}/{seq} was not given")
                    });
                };
                let row = self.row(key);
                let is_true = match record {
                    Record::Lost { .. } => row.said.is_some_and(SaidFate::is_dropped) && !row.is_stored,
                    Record::Duplicate { .. } => self.is_duplicate(key),
                    _ => row.verdict != Verdict::Accepted,
                };
                if !is_true {
                    let kind = if is_loss { "lost" } else { "duplicate or rejected" };
                    let (name, row) = (self.name(key), format!("{:?}", self.row(key)));
                    return self.report("declarations are true", || format!("{name} as {kind}: {row}"));
                }
                self.row_mut(key).is_declared = true;
            }
        }
    }

    /// A stored record says that every number up to a mark is stored or declared.
    pub(super) fn attest(&mut self, writer: u32, mark: u64, by: &str) {
        let from = self.writers[writer as usize].attested + 1;
        // A file with a row of it, or with a declaration, may be another writer's by now.
        let is_deferrable = self.is_shared && by == "stopped" && self.writers[writer as usize].has_ended;
        let has_ended = self.writers[writer as usize].has_ended;
        let excuses_undeclared =
            self.has_destroyed_record || (by != "alive" && self.has_rejected_record && has_ended);
        for seq in from..=mark {
            let partly = &self.writers[writer as usize].partly_lost;
            let Some(key) = self.key(writer, seq) else {
                return self.report("nothing is attested that was not given", || {
                    format!("{writer}/{seq}")
                });
            };
            let row = self.row(key);
            let is_partly = || partly.iter().any(|loss| loss.first <= seq && seq <= loss.last);
            let is_excused = excuses_undeclared && self.is_undeclared_without_row(key);
            if !(row.is_stored || row.is_declared || row.is_victim || is_excused || is_partly()) {
                if is_deferrable && (row.copies > 0 || self.is_undeclared_without_row(key)) {
                    return self.deferred.push((writer, mark));
                }
                let (name, row) = (self.name(key), format!("{row:?}"));
                return self.report("nothing is missing at or below an attested mark", || {
                    format!("{name} below {mark} by {by}: {row}")
                });
            }
        }
        let writer = &mut self.writers[writer as usize];
        writer.attested = writer.attested.max(mark);
    }

    /// True if it will have no row in the table, so that a declaration is to account for it.
    fn is_undeclared_without_row(&self, key: u32) -> bool {
        let row = self.row(key);
        self.is_duplicate(key)
            || row.is_quarantined
            || matches!(
                row.said,
                Some(SaidFate::QueueFull | SaidFate::ShutDown | SaidFate::Rejected)
            )
    }

    /// Writers that were shut down with nothing left to do ended cleanly, unless the disk lost something of theirs.
    pub(super) fn check_clean_ends(&mut self) {
        if self.has_lost_record() || self.rows.iter().any(|row| row.is_victim) {
            return;
        }
        let unclean = |writer: &WriterState| {
            writer.is_clean_end_due && writer.has_quarantine && !writer.has_stop_record
        };
        if let Some(writer) = self.writers.iter().position(unclean) {
            self.report("without faults a writer ends with a stop record", || {
                format!("writer {writer}")
            });
        }
    }

    /// At the very end: everything that was accepted is stored, or its loss was declared or is no fault of
    /// the writer.
    pub(super) fn check_complete(&mut self) {
        for (writer, mark) in std::mem::take(&mut self.deferred) {
            self.attest(writer, mark, "the end");
        }
        for key in 0..self.rows.len() as u32 {
            let row = self.row(key);
            let is_kept = self.is_stored(key) || row.is_quarantined || row.is_victim;
            let holds = match row.said {
                _ if row.verdict == Verdict::Foreign => !row.is_stored,
                Some(SaidFate::Committed) => self.is_stored(key),
                Some(SaidFate::Spooled) => is_kept,
                Some(SaidFate::Quarantined) => is_kept || !self.writers[row.writer as usize].has_quarantine,
                Some(said) if said.is_dropped() => !row.is_stored,
                _ => true,
            };
            if !holds {
                let (name, row) = (self.name(key), format!("{row:?}"));
                return self.report("everything acknowledged is stored in the end", || {
                    format!("{name}: {row}")
                });
            }
        }
    }
}
