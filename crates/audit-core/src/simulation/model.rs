//! The true state of each row, and the states that no row may reach.
//!
//! The model is simpler than what it checks: for each row whether the table, the spool and the quarantine
//! have it, and what its writer said. It sees what the database and the disk do, and never asks the core.

use std::fmt;

use crate::{DeliveryCounts, DropReason, Fate, Loss, SeqRange};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub promise: &'static str,
    /// How.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.detail)
    }
}

/// What became of an entry, as its writer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SaidFate {
    Committed,
    Spooled,
    Quarantined,
    QueueFull,
    ShutDown,
    Rejected,
    Unknown,
}

impl SaidFate {
    fn of(fate: &Fate) -> Self {
        match fate {
            Fate::Committed => Self::Committed,
            Fate::Spooled => Self::Spooled,
            Fate::Quarantined => Self::Quarantined,
            Fate::Dropped(DropReason::QueueFull) => Self::QueueFull,
            Fate::Dropped(DropReason::Database(_)) => Self::Rejected,
            Fate::Dropped(DropReason::ShutDown | DropReason::Configuration(_) | DropReason::NoThread(_)) => {
                Self::ShutDown
            }
            Fate::Unknown => Self::Unknown,
        }
    }

    pub(super) fn is_final(self) -> bool {
        self != Self::Spooled
    }

    pub(super) fn is_dropped(self) -> bool {
        matches!(self, Self::QueueFull | Self::ShutDown | Self::Rejected)
    }
}

/// Whether the database takes a row. Does not change: what is rejected once is rejected always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Rejected,
    /// Left out without an error.
    Filtered,
    /// It belongs to another database.
    Foreign,
}

/// The true state of a row.
#[derive(Clone, Debug)]
pub(super) struct RowState {
    pub(super) id: u32,
    pub(super) writer: u32,
    /// Zero for a record.
    pub(super) seq: u64,
    /// True for the record of a clean end.
    pub(super) is_stop_record: bool,
    pub(super) verdict: Verdict,
    pub(super) said: Option<SaidFate>,
    /// Synced batches that hold it.
    pub(super) copies: u32,
    pub(super) is_stored: bool,
    pub(super) is_quarantined: bool,
    /// A record that is stored declares it.
    pub(super) is_declared: bool,
    /// It was in a lane once, or was read from the spool.
    pub(super) is_sent: bool,
    /// It was accepted into the queue.
    pub(super) is_admitted: bool,
    /// A damaged line of it is in the quarantine.
    pub(super) is_line_kept: bool,
    /// It was taken from the queue.
    pub(super) is_taken: bool,
    /// A synced copy was destroyed from outside. That it was not the only one proves nothing: a salvage may
    /// rely on the copy that it made.
    pub(super) is_victim: bool,
}

/// The true state of a writer.
#[derive(Clone, Debug, Default)]
pub(super) struct WriterState {
    /// The row of each number, from 1.
    pub(super) rows: Vec<u32>,
    /// Every number up to this one was stored or declared when a stored record said so.
    pub(super) attested: u64,
    /// Losses of a part of a range.
    pub(super) partly_lost: Vec<Loss>,
    pub(super) has_stop_record: bool,
    /// It was shut down with everything settled and stored.
    pub(super) is_clean_end_due: bool,
    /// It ended or was killed.
    pub(super) has_ended: bool,
    /// Entries that were taken from the queue and settled.
    pub(super) settled_taken: usize,
    /// Fates that only an end gives may be given.
    pub(super) is_ending: bool,
    /// No entry that was accepted may be given up or left unknown: there are no faults and is time enough.
    pub(super) is_calm: bool,
    /// A rejected row needs no place in a quarantine: there is none.
    pub(super) has_quarantine: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) rows: Vec<RowState>,
    /// Which row has a primary key in the table.
    by_id: Vec<Option<u32>>,
    pub(super) writers: Vec<WriterState>,
    pub(super) finding: Option<Finding>,
    /// True if several writers share the directory.
    pub(super) is_shared: bool,
    /// Marks that hold only once what other writers have adopted is stored too.
    pub(super) deferred: Vec<(u32, u64)>,
    /// A record was destroyed in the spool, and what it declares is declared no more.
    pub(super) has_destroyed_record: bool,
    /// A record was rejected: the stop record of a writer that ended before attests what that one declared.
    pub(super) has_rejected_record: bool,
}

impl Model {
    pub(super) fn report(&mut self, promise: &'static str, detail: impl FnOnce() -> String) {
        if self.finding.is_none() {
            self.finding = Some(Finding {
                promise,
                detail: detail(),
            });
        }
    }

    pub(super) fn demand(&mut self, holds: bool, promise: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.report(promise, detail);
        }
    }

    /// True if what a record declares stays open, and the copies in the spool with it.
    pub(super) fn has_lost_record(&self) -> bool {
        self.has_destroyed_record || self.has_rejected_record
    }

    pub(super) fn new_id(&mut self) -> u32 {
        self.by_id.push(None);
        self.by_id.len() as u32 - 1
    }

    /// A new row; one with a number is the next of its writer.
    pub(super) fn new_row(&mut self, writer: u32, seq: u64, id: u32, verdict: Verdict) -> u32 {
        let key = self.rows.len() as u32;
        if seq > 0 {
            self.writers[writer as usize].rows.push(key);
        }
        self.rows.push(RowState {
            id,
            writer,
            seq,
            is_stop_record: false,
            verdict,
            said: None,
            copies: 0,
            is_stored: false,
            is_quarantined: false,
            is_declared: false,
            is_sent: false,
            is_admitted: false,
            is_line_kept: false,
            is_taken: false,
            is_victim: false,
        });
        key
    }

    /// A row that belongs to another database, or that only a newer program understands.
    pub(super) fn new_foreign_row(&mut self, id: u32) -> u32 {
        self.new_row(u32::MAX - 1, 0, id, Verdict::Foreign)
    }

    pub(super) fn row(&self, key: u32) -> &RowState {
        &self.rows[key as usize]
    }

    pub(super) fn row_mut(&mut self, key: u32) -> &mut RowState {
        &mut self.rows[key as usize]
    }

    pub(super) fn key(&self, writer: u32, seq: u64) -> Option<u32> {
        let rows = &self.writers.get(writer as usize)?.rows;
        rows.get(usize::try_from(seq.checked_sub(1)?).ok()?).copied()
    }

    /// True if the table has its id, under its own number or under another.
    pub(super) fn is_stored(&self, key: u32) -> bool {
        self.by_id[self.row(key).id as usize].is_some()
    }

    /// True if its id is in the table under another number.
    pub(super) fn is_duplicate(&self, key: u32) -> bool {
        self.is_stored(key) && !self.row(key).is_stored
    }

    /// True if it needs no copy in the spool.
    fn is_safe_elsewhere(&self, key: u32) -> bool {
        let row = self.row(key);
        self.is_stored(key)
            || row.is_quarantined
            || row.is_victim
            || row.said.is_some_and(SaidFate::is_dropped)
            || (row.seq == 0 && row.verdict != Verdict::Accepted)
            // It would attest what the database did not let its writer declare.
            || (row.is_stop_record && self.has_rejected_record)
    }

    pub(super) fn name(&self, key: u32) -> String {
        let row = self.row(key);
        match row.seq {
            0 => format!("{}/record{key}", row.writer),
            seq => format!("{}/{seq}", row.writer),
        }
    }

    // Changes by the database.

    /// Puts a row into the table.
    pub(super) fn store(&mut self, key: u32) {
        let (verdict, said) = (self.row(key).verdict, self.row(key).said);
        if verdict == Verdict::Foreign {
            return self.report("rows of another database stay out", || {
                format!("row {key} was stored")
            });
        }
        if said.is_some_and(SaidFate::is_dropped) {
            let name = self.name(key);
            self.report("what was dropped is not stored", || format!("{name}, {said:?}"));
        }
        let id = self.row(key).id as usize;
        if self.by_id[id].is_none() {
            self.by_id[id] = Some(key);
            self.rows[key as usize].is_stored = true;
        }
    }

    // Changes by the disk.

    pub(super) fn appended(&mut self, key: u32) {
        self.row_mut(key).copies += 1;
        // A rejected row that was given up may have a copy that is removed in a moment.
        if matches!(self.row(key).said, Some(SaidFate::QueueFull | SaidFate::ShutDown)) {
            let name = self.name(key);
            self.report("what was dropped is not stored", || {
                format!("{name} was appended")
            });
        }
    }

    /// A batch with this row was removed from a file.
    pub(super) fn removed(&mut self, key: u32) {
        let row = self.row_mut(key);
        row.copies = row.copies.saturating_sub(1);
        if row.copies == 0 && !self.is_safe_elsewhere(key) {
            let (name, row) = (self.name(key), format!("{:?}", self.row(key)));
            self.report("a batch leaves the spool only once it is safe elsewhere", || {
                format!("{name}: {row}")
            });
        }
    }

    /// A copy was destroyed from outside.
    pub(super) fn destroyed(&mut self, key: u32) {
        let row = self.row_mut(key);
        row.copies = row.copies.saturating_sub(1);
        row.is_victim = true;
        self.has_destroyed_record |= self.row(key).seq == 0;
    }

    pub(super) fn quarantine_destroyed(&mut self) {
        for row in self.rows.iter_mut().filter(|row| row.is_quarantined) {
            row.is_victim = true;
        }
    }

    pub(super) fn quarantined(&mut self, key: u32) {
        if self.row(key).verdict == Verdict::Accepted {
            let name = self.name(key);
            self.report("only rejected rows go to the quarantine", || name);
        }
        self.row_mut(key).is_quarantined = true;
    }

    // Reports by the writer.

    /// A writer settles numbers.
    pub(super) fn settle(&mut self, writer: u32, ranges: &[SeqRange], fate: &Fate) {
        let new = SaidFate::of(fate);
        for seq in ranges.iter().flat_map(|range| range.first..=range.last) {
            let Some(key) = self.key(writer, seq) else {
                return self.report("only given numbers are settled", || format!("{writer}/{seq}"));
            };
            match self.row(key).said {
                Some(said) if said == new || new == SaidFate::Spooled => {}
                // A part of a copy in the spool was given up, and the copy was replayed for another part: the row
                // is kept after all. The ledger says what it said before.
                Some(SaidFate::Rejected) if new == SaidFate::Quarantined => {}
                None | Some(SaidFate::Spooled) => {
                    let is_first = self.row_mut(key).said.replace(new).is_none();
                    let is_counted = is_first && self.row(key).is_taken;
                    self.writers[writer as usize].settled_taken += usize::from(is_counted);
                    self.check_said(key, new);
                }
                Some(said) => {
                    let name = self.name(key);
                    self.report("a final fate stays", || {
                        format!("{name} was {said:?} and is now {new:?}")
                    });
                }
            }
        }
    }

    fn check_said(&mut self, key: u32, said: SaidFate) {
        let row = self.row(key);
        let writer = &self.writers[row.writer as usize];
        let is_rejected = row.verdict != Verdict::Accepted;
        let is_true = match said {
            SaidFate::Committed => self.is_stored(key),
            SaidFate::Spooled => row.copies > 0 || self.is_stored(key) || row.is_quarantined || row.is_victim,
            SaidFate::Quarantined => {
                is_rejected && (row.is_quarantined || row.is_victim || !writer.has_quarantine)
            }
            SaidFate::QueueFull => !row.is_admitted && !row.is_stored,
            SaidFate::ShutDown => {
                writer.is_ending
                    && !row.is_stored
                    && !row.is_sent
                    && row.copies == 0
                    && !(writer.is_calm && row.is_admitted)
            }
            SaidFate::Rejected => is_rejected && !row.is_stored,
            SaidFate::Unknown => writer.is_ending && !writer.is_calm,
        };
        if !is_true {
            let (name, row) = (self.name(key), format!("{row:?}"));
            self.report("fates are true", || {
                format!("{name} is said to be {said:?}: {row}")
            });
        }
    }

    /// An entry that was accepted and that its writer gave up.
    pub(super) fn first_lost(&self, writer: u32) -> Option<String> {
        let is_lost = |key: &&u32| {
            let row = self.row(**key);
            row.is_admitted && matches!(row.said, Some(SaidFate::ShutDown | SaidFate::Unknown))
        };
        let key = self.writers[writer as usize].rows.iter().find(is_lost)?;
        Some(format!("{}: {:?}", self.name(*key), self.row(*key)))
    }

    /// The counts that a receipt must report.
    pub(super) fn counts(&self, writer: u32, range: SeqRange) -> DeliveryCounts {
        let mut counts = DeliveryCounts::default();
        for seq in range.first..=range.last {
            let count = match self.key(writer, seq).and_then(|key| self.row(key).said) {
                None => &mut counts.pending,
                Some(SaidFate::Committed) => &mut counts.committed,
                Some(SaidFate::Spooled) => &mut counts.spooled,
                Some(SaidFate::Quarantined) => &mut counts.quarantined,
                Some(SaidFate::Unknown) => &mut counts.unknown,
                Some(_) => &mut counts.dropped,
            };
            *count += 1;
        }
        counts
    }
}
