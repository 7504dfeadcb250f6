//! The records that a writer makes about itself: when they are due, and how far they may attest.
//!
//! `audit.writer_alive` and `audit.writer_stopped` attest that every number up to a mark is stored or declared.
//! So a mark never passes a loss whose declaration is not committed yet.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::{Limits, Record, View};
use crate::loss::LossLog;
use crate::spool::CopyId;
use crate::{DropReason, Loss, Row, Time};

/// Rejected rows that are remembered as declared. A spool copy that was replayed only in part holds them
/// still, and is replayed again.
const MAX_REMEMBERED: usize = 1_024;

/// Names the records that went with one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeclarationId(u64);

/// A record about single entries, and the spool copy that is kept until it is stored.
#[derive(Clone, Debug)]
struct Due<R> {
    record: Record<R>,
    /// The lowest number of this writer that it declares.
    lowest: Option<u64>,
    copy: Option<CopyId>,
}

/// A declaration on its way to the database.
#[derive(Clone, Debug)]
struct Open {
    /// The lowest number that it declares.
    lowest: u64,
    /// Batches that carry a part of it: more than one after a batch was halved.
    parts: usize,
    /// The spool copies that are kept until it is stored.
    copies: Vec<CopyId>,
}

/// What a writer records about itself.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle<R> {
    writer: Uuid,
    /// When it last recorded that it started or is alive.
    last_recorded: Option<Time>,
    losses: LossLog,
    due: Vec<Due<R>>,
    due_since: Option<Time>,
    open: BTreeMap<DeclarationId, Open>,
    last_id: u64,
    /// The lowest number that is declared by a record in the spool.
    spooled_lowest: Option<u64>,
    /// The lowest number that a rejected record may declare.
    rejected_lowest: Option<u64>,
    declared: VecDeque<(Uuid, u64)>,
}

/// Records to go with a batch.
#[derive(Clone, Debug)]
pub(super) struct TakenRecords<R> {
    pub(super) records: Vec<Record<R>>,
    pub(super) declaration: Option<DeclarationId>,
}

impl<R: Row> Lifecycle<R> {
    pub(super) fn new(writer: Uuid) -> Self {
        Self {
            writer,
            last_recorded: None,
            losses: LossLog::default(),
            due: Vec::new(),
            due_since: None,
            open: BTreeMap::new(),
            last_id: 0,
            spooled_lowest: None,
            rejected_lowest: None,
            declared: VecDeque::new(),
        }
    }

    /// Adds losses to be declared.
    pub(super) fn add_losses(&mut self, losses: Vec<Loss>, now: Time) {
        if !losses.is_empty() {
            losses.into_iter().for_each(|loss| self.losses.add(loss));
            self.due_since.get_or_insert(now);
        }
    }

    /// Adds a quarantined entry to be declared; its copy in the spool is kept until then. Returns the copy if
    /// there is nothing to declare.
    pub(super) fn add_quarantined(
        &mut self,
        row: &R,
        sqlstate: Option<String>,
        copy: Option<CopyId>,
        now: Time,
    ) -> Option<CopyId> {
        let Some(number) = row.number().filter(|number| !self.declared.contains(number)) else {
            return copy;
        };
        self.remember_declared(number);
        let lowest = (number.0 == self.writer).then_some(number.1);
        let record = Record::Quarantined {
            row: row.clone(),
            sqlstate,
        };
        self.due.push(Due { record, lowest, copy });
        self.due_since.get_or_insert(now);
        None
    }

    /// Remembers that a rejected row is declared.
    pub(super) fn remember_declared(&mut self, number: (Uuid, u64)) {
        self.declared.push_back(number);
        if self.declared.len() > MAX_REMEMBERED {
            self.declared.pop_front();
        }
    }

    /// Adds numbers whose entries are stored under other numbers; `copy` is kept until they are declared.
    pub(super) fn add_duplicates(&mut self, numbers: Vec<(Uuid, u64)>, copy: Option<CopyId>, now: Time) {
        let mut copy = copy;
        for record in Record::duplicates(numbers) {
            let lowest = match &record {
                Record::Duplicate { writer, ranges } if *writer == self.writer => {
                    ranges.first().map(|range| range.first)
                }
                _ => None,
            };
            self.due.push(Due {
                record,
                lowest,
                copy: copy.take(),
            });
            self.due_since.get_or_insert(now);
        }
    }

    /// The records to write with a batch of entries.
    pub(super) fn take_records(&mut self, view: &View, limits: &Limits, now: Time) -> TakenRecords<R> {
        let mut records = Vec::new();
        match self.last_recorded {
            None => records.push(Record::Started),
            Some(last) if now - last >= limits.alive_interval => {
                records.push(Record::Alive {
                    resolved_through: self.attested_through(view),
                });
            }
            Some(_) => return self.take_due(records, limits),
        }
        self.last_recorded = Some(now);
        self.take_due(records, limits)
    }

    fn take_due(&mut self, mut records: Vec<Record<R>>, limits: &Limits) -> TakenRecords<R> {
        self.due_since = None;
        let (mut lowest, mut copies) = (self.losses.first(), Vec::new());
        for due in std::mem::take(&mut self.due) {
            lowest = lowest.into_iter().chain(due.lowest).min();
            copies.extend(due.copy);
            records.push(due.record);
        }
        records.extend(loss_records(self.losses.take(), limits.ranges_in_a_record));
        if lowest.is_none() && copies.is_empty() {
            return TakenRecords {
                records,
                declaration: None,
            };
        }
        self.last_id += 1;
        let id = DeclarationId(self.last_id);
        self.open.insert(
            id,
            Open {
                lowest: lowest.unwrap_or(u64::MAX),
                parts: 1,
                copies,
            },
        );
        TakenRecords {
            records,
            declaration: Some(id),
        }
    }

    /// The number up to which every number is stored or its declaration committed.
    pub(super) fn attested_through(&self, view: &View) -> u64 {
        let due = self.due.iter().filter_map(|due| due.lowest);
        let open = self.open.values().map(|open| open.lowest);
        let lowest = due
            .chain(open)
            .chain(self.losses.first())
            .chain(self.spooled_lowest)
            .chain(self.rejected_lowest)
            .min();
        let lowest = lowest.filter(|_| !planted!(MarkPassesUndeclared));
        lowest.map_or(view.resolved_through, |lowest| {
            view.resolved_through.min(lowest.saturating_sub(1))
        })
    }

    /// Counts one more batch that carries a declaration.
    pub(super) fn add_part(&mut self, id: Option<DeclarationId>) {
        if let Some(open) = id.and_then(|id| self.open.get_mut(&id)) {
            open.parts += 1;
        }
    }

    /// A batch with a declaration, or a part of it, was committed. Returns the spool copies that are no longer
    /// needed for it.
    pub(super) fn on_committed(&mut self, id: Option<DeclarationId>) -> Vec<CopyId> {
        let Some((id, open)) = id.and_then(|id| Some((id, self.open.get_mut(&id)?))) else {
            return Vec::new();
        };
        open.parts = open.parts.saturating_sub(1);
        if open.parts > 0 {
            Vec::new()
        } else {
            self.open.remove(&id).map_or_else(Vec::new, |open| open.copies)
        }
    }

    /// A batch with a declaration, or a part of it, is in the spool alone. Returns the spool copies that are no
    /// longer needed.
    pub(super) fn on_spooled(&mut self, id: Option<DeclarationId>) -> Vec<CopyId> {
        if let Some(open) = id.and_then(|id| self.open.get(&id)) {
            self.spooled_lowest = self.spooled_lowest.into_iter().chain([open.lowest]).min();
        }
        self.on_committed(id)
    }

    /// Nothing of this writer is left in the spool.
    pub(super) fn on_drained(&mut self) {
        self.spooled_lowest = None;
    }

    /// When the declarations are due without entries to go with.
    pub(super) fn due_at(&self, limits: &Limits) -> Option<Time> {
        self.due_since.map(|since| since + limits.declare_after)
    }

    /// The last records, after all declarations.
    pub(super) fn take_stop_records(&mut self, last_seq: u64) -> Vec<Record<R>> {
        // Every entry may have been lost before the first batch: that is worth a beginning too.
        let started = self.last_recorded.is_none().then_some(Record::Started);
        started
            .into_iter()
            .chain([Record::Stopped { last_seq }])
            .collect()
    }

    /// The database rejects a record: what it declares is not declared. Which one it was is not known of a
    /// record that was read from the spool.
    pub(super) fn on_record_rejected(&mut self, id: Option<DeclarationId>) {
        let open = id.and_then(|id| self.open.get(&id)).map(|open| open.lowest);
        let lowest = [self.rejected_lowest, self.spooled_lowest, open];
        self.rejected_lowest = lowest.into_iter().flatten().min();
    }

    /// True if a declaration is neither committed nor in the spool, or was rejected.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty() || self.has_rejected()
    }

    /// True if the database rejected a record that may declare something of this writer.
    pub(super) fn has_rejected(&self) -> bool {
        self.rejected_lowest.is_some() && !planted!(StopRecordAfterRejectedDeclaration)
    }

    /// True if something is to be declared that no batch carries yet.
    pub(super) fn has_due(&self) -> bool {
        self.due_since.is_some()
    }
}

/// The records of losses: for each reason one, or more where there are many ranges.
fn loss_records<R>(losses: Vec<Loss>, ranges_in_a_record: usize) -> Vec<Record<R>> {
    let mut by_reason: BTreeMap<usize, (DropReason, Vec<Loss>)> = BTreeMap::new();
    for loss in losses {
        let reason = loss.reason.clone();
        by_reason
            .entry(reason.index())
            .or_insert_with(|| (reason, Vec::new()))
            .1
            .push(loss);
    }
    let record = |reason: &DropReason, losses: &[Loss]| Record::Lost {
        losses: losses.to_vec(),
        reason: reason.clone(),
    };
    by_reason
        .values()
        .flat_map(|(reason, losses)| {
            losses
                .chunks(ranges_in_a_record)
                .map(|losses| record(reason, losses))
        })
        .collect()
}
