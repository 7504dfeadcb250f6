//! Rejected rows: a batch is halved until its rejected row is alone, and that row goes to the quarantine.

use crate::spool::{SpoolFailure, SpoolRequest, Ticket};
use crate::{DropReason, Fate, Row, Time};

use super::batches::{Rejected, RowBatch};
use super::{Action, Attempt, Core, Notice, SinkError};

/// When something that goes on was last reported, and how much of it came since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimited {
    last: Option<Time>,
    since: u64,
}

impl RateLimited {
    /// Counts; returns the sum since the last report if another one is due.
    pub(super) fn add(&mut self, count: u64, interval: std::time::Duration, now: Time) -> Option<u64> {
        self.since += count;
        let is_due = self.since > 0 && self.last.is_none_or(|last| now - last >= interval);
        is_due.then(|| {
            self.last = Some(now);
            std::mem::take(&mut self.since)
        })
    }
}

impl<R: Row> Core<R> {
    /// Splits a batch with a rejected row; one row alone is rejected itself.
    pub(super) fn bisect(
        &mut self,
        batch: RowBatch<R>,
        error: SinkError,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) {
        if batch.rows.len() > 1 && !planted!(NeighboursRejected) {
            for half in self.halve(batch).into_iter().rev() {
                self.batches.ready.push_front(half);
            }
            return;
        }
        if let Some(rows) = self.rejections.add(1, self.config.limits.notice_interval, now) {
            out.push(Action::Notice(Notice::RowRejected {
                rows,
                error: error.clone(),
            }));
        }
        if self.spool.is_some() {
            self.batches.rejected.push_back(Rejected { batch, error });
        } else {
            self.finish_quarantined(Rejected { batch, error }, now, out);
        }
    }

    /// Splits a batch in two that share its copy and its declaration.
    pub(super) fn halve(&mut self, batch: RowBatch<R>) -> [RowBatch<R>; 2] {
        if let Some(copy) = batch.copy.filter(|_| !planted!(HalfNotCounted)) {
            self.copies.add_part(copy);
        }
        self.lifecycle.add_part(batch.declaration);
        batch.halves(self.config.writer)
    }

    /// Sends rejected rows to the quarantine, unless it is being left alone after a failure.
    pub(super) fn quarantine_rejected(&mut self, now: Time, out: &mut Vec<Action<R>>) {
        let pause = self.spool_pause();
        let is_usable = self
            .spool
            .as_ref()
            .is_some_and(|spool| spool.quarantine_retry_at(pause).is_none_or(|at| at <= now));
        while is_usable && let Some(rejected) = self.batches.rejected.pop_front() {
            self.last_ticket += 1;
            let ticket = Ticket(self.last_ticket);
            out.push(Action::Spool(SpoolRequest::Quarantine {
                ticket,
                rows: rejected.batch.rows.clone(),
                reason: rejected.error.reason.clone(),
                sqlstate: rejected.error.sqlstate.clone(),
            }));
            self.batches.quarantining.insert(ticket, rejected);
        }
    }

    pub(super) fn on_quarantined(
        &mut self,
        ticket: Ticket,
        result: Result<(), SpoolFailure>,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) {
        let Some(rejected) = self.batches.quarantining.remove(&ticket) else {
            return;
        };
        match result {
            Ok(()) => {
                if let Some(spool) = &mut self.spool {
                    spool.on_quarantine_success();
                }
                self.finish_quarantined(rejected, now, out);
            }
            Err(_) if planted!(QuarantinedThoughItFailed) => self.finish_quarantined(rejected, now, out),
            Err(failure) => {
                if planted!(CopyRemovedThoughQuarantineFailed) {
                    self.finish_copy(rejected.batch.copy, out);
                }
                let spool = self.spool.as_mut();
                let notice = spool.and_then(|spool| spool.on_quarantine_failure(failure.to_string(), now));
                out.extend(notice.map(Action::Notice));
                self.batches.rejected.push_back(rejected);
            }
        }
    }

    /// Gives up rejected rows that the quarantine did not take. One with a copy in the spool stays there.
    pub(super) fn drop_unsynced_rejected(&mut self, out: &mut Vec<Action<R>>) {
        for rejected in std::mem::take(&mut self.batches.rejected) {
            if self.copies.is_synced(rejected.batch.copy) {
                self.batches.rejected.push_back(rejected);
            } else {
                self.drop_rejected(rejected, out);
            }
        }
    }

    /// Settles a row that is safe in the quarantine, or that no spool was configured for.
    fn finish_quarantined(&mut self, rejected: Rejected<R>, now: Time, out: &mut Vec<Action<R>>) {
        let Rejected { batch, error } = rejected;
        self.finish_declared_part(&batch, out);
        Self::settle(batch.ranges, Fate::Quarantined, out);
        Self::release(batch.size, out);
        // The copy in the spool is kept until the declaration is stored: the number must not be missing.
        let row = batch.rows.first();
        let copy = match row {
            Some(row) => self
                .lifecycle
                .add_quarantined(row, error.sqlstate, batch.copy, now),
            None => batch.copy,
        };
        self.finish_copy(copy, out);
        self.note_drained(out);
    }

    /// Gives up rejected rows that the quarantine does not take, while they take up too much of the queue's
    /// bounds. One with a copy in the spool stays there.
    pub(super) fn drop_excess_rejected(&mut self, out: &mut Vec<Action<R>>) {
        let quarter = |held: usize, bound: usize| held > bound / 4;
        loop {
            let held = self
                .batches
                .rejected
                .iter()
                .fold(crate::Size::default(), |sum, r| sum + r.batch.size);
            let bound = self.config.bound;
            let excess = quarter(held.entries, bound.entries) || quarter(held.bytes, bound.bytes);
            let oldest = self
                .batches
                .rejected
                .iter()
                .position(|r| !self.copies.is_synced(r.batch.copy));
            let (true, Some(oldest)) = (excess, oldest) else {
                return;
            };
            if let Some(rejected) = self.batches.rejected.remove(oldest) {
                self.drop_rejected(rejected, out);
            }
        }
    }

    /// Settles a rejected row as lost.
    pub(super) fn drop_rejected(&mut self, rejected: Rejected<R>, out: &mut Vec<Action<R>>) {
        let Rejected { batch, error } = rejected;
        let reason: std::sync::Arc<str> = error.reason.into();
        out.push(Action::Notice(Notice::RejectedRowLost {
            reason: reason.to_string(),
        }));
        let fate = Fate::Dropped(DropReason::Database(reason));
        self.finish_declared_part(&batch, out);
        // Its copy in the spool may hold it still: then it is rejected again, and was declared.
        batch
            .rows
            .iter()
            .filter_map(Row::number)
            .for_each(|number| self.lifecycle.remember_declared(number));
        Self::settle(batch.ranges, fate, out);
        Self::release(batch.size, out);
        self.finish_copy(batch.copy, out);
    }

    /// A rejected entry was part of a batch with records: what they declare does not wait for it. A rejected
    /// record is never stored, and what it declares stays open.
    fn finish_declared_part(&mut self, batch: &RowBatch<R>, out: &mut Vec<Action<R>>) {
        if planted!(DeclarationWaitsForRejectedEntry) {
            return;
        }
        if batch.rows.iter().all(|row| row.number().is_some()) {
            for copy in self.lifecycle.on_committed(batch.declaration) {
                self.finish_copy(Some(copy), out);
            }
        } else if !planted!(RejectedRecordForgotten) {
            self.lifecycle.on_record_rejected(batch.declaration);
        }
    }

    /// Makes a batch one that may be stored.
    pub(super) fn as_retry(batch: RowBatch<R>) -> RowBatch<R> {
        RowBatch {
            attempt: Attempt::Retry,
            ..batch
        }
    }
}
