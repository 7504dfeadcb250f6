//! The core's side of the spool: appends and their answers, reads, and batches that are left to it.

use crate::spool::{Again, CopyId, SpoolFailure, SpoolId, SpoolReply, SpoolRequest, SpooledBatch};
use crate::{Fate, Row, Time};

use super::batches::{RowBatch, Source, own_ranges};
use super::copies::{CopyState, Synced};
use super::spool_state::{Contents, SinceAsked};
use super::{Action, Attempt, Core, Notice};

impl<R: Row> Core<R> {
    pub(super) fn on_spool_reply(&mut self, reply: SpoolReply<R>, now: Time, out: &mut Vec<Action<R>>) {
        match reply {
            SpoolReply::Appended { copy, result: Ok(id) } => self.on_append_ok(copy, id, out),
            SpoolReply::Appended {
                copy,
                result: Err(failure),
            } => self.on_append_err(copy, &failure, now, out),
            SpoolReply::Read(found) => self.on_read(found, now, out),
            SpoolReply::Quarantined { ticket, result } => self.on_quarantined(ticket, result, now, out),
            SpoolReply::Adopted => self.mark_spool_non_empty(out),
            // The driver logs it.
            SpoolReply::Notice(_) => {}
        }
    }

    /// Asks for a copy of a batch in the spool, and returns its name.
    pub(super) fn append(&mut self, batch: &RowBatch<R>, out: &mut Vec<Action<R>>) -> CopyId {
        let copy = self.copies.add(CopyState::Writing, batch.ranges.clone());
        out.push(Action::Spool(SpoolRequest::Append {
            copy,
            rows: batch.rows.clone(),
        }));
        if planted!(SettledBeforeSync) {
            Self::settle(batch.ranges.clone(), Fate::Spooled, out);
        }
        copy
    }

    fn on_append_ok(&mut self, copy: CopyId, id: SpoolId, out: &mut Vec<Action<R>>) {
        self.on_spool_success(out);
        match self.copies.set_synced(copy, id) {
            Synced::Unused => out.push(Action::Spool(SpoolRequest::Remove(vec![id]))),
            Synced::Used(ranges) => {
                Self::settle(ranges, Fate::Spooled, out);
                if let Some(batch) = self.batches.spooling.remove(&copy) {
                    self.leave_to_spool(batch, Again::InOrder, out);
                } else if self.batches.ready.len() > self.config.limits.ready_batches
                    && self.copies.is_whole(copy)
                    && let Some(at) = self
                        .batches
                        .ready
                        .iter()
                        .position(|batch| batch.copy == Some(copy))
                    && let Some(batch) = self.batches.ready.remove(at)
                {
                    self.leave_to_spool(batch, Again::InOrder, out);
                }
            }
        }
    }

    fn on_append_err(&mut self, copy: CopyId, failure: &SpoolFailure, now: Time, out: &mut Vec<Action<R>>) {
        self.on_spool_failure(failure, now, out);
        self.copies.forget(copy);
        self.continue_without_copy(copy);
    }

    /// Goes on with a batch in memory whose append failed; all of its parts.
    fn continue_without_copy(&mut self, copy: CopyId) {
        let in_flight = self
            .batches
            .in_flight
            .iter_mut()
            .flatten()
            .map(|in_flight| &mut in_flight.batch);
        let rejected = self
            .batches
            .quarantining
            .values_mut()
            .chain(&mut self.batches.rejected);
        let batches = self
            .batches
            .ready
            .iter_mut()
            .chain(in_flight)
            .chain(rejected.map(|r| &mut r.batch));
        let batches = batches.filter(|_| !planted!(FailedCopyKept));
        batches
            .filter(|batch| batch.copy == Some(copy))
            .for_each(|batch| batch.copy = None);
        match self.batches.spooling.remove(&copy) {
            // It attests what is in the spool before it. On a lane it would be stored before that.
            Some(batch)
                if batch.rows.iter().any(Row::is_stop_record)
                    && !planted!(StopRecordSentAfterFailedAppend) => {}
            Some(batch) => self.batches.ready.push_back(RowBatch { copy: None, ..batch }),
            None => {}
        }
    }

    /// Releases the memory of a batch whose copy is synced and whole: from now on it is in the spool alone.
    pub(super) fn leave_to_spool(&mut self, batch: RowBatch<R>, again: Again, out: &mut Vec<Action<R>>) {
        Self::settle(batch.ranges, Fate::Spooled, out);
        if !planted!(SpooledNotReleased) {
            Self::release(batch.size, out);
        }
        // Its records declare something once it is replayed.
        let freed = self.lifecycle.on_spooled(batch.declaration);
        if let Some(batches) = batch.copy.and_then(|copy| self.copies.forget(copy)) {
            if let (Again::AfterOthers, Some(spool)) = (again, &mut self.spool) {
                spool.defer();
            }
            out.push(Action::Spool(SpoolRequest::Return { batches, again }));
        }
        self.mark_spool_non_empty(out);
        freed
            .into_iter()
            .for_each(|copy| self.finish_copy(Some(copy), out));
    }

    /// Asks for the oldest batches that are not in memory, unless enough are: one is read while another is
    /// written, and new entries flow beside them.
    pub(super) fn request_replay(&mut self, now: Time, out: &mut Vec<Action<R>>) {
        let enough = self.batches.replays() >= self.config.limits.replay_batches.min(self.config.lanes);
        // While the quarantine does not take a row, every further batch could hold another one.
        let blocked = !self.batches.rejected.is_empty() || !self.batches.quarantining.is_empty();
        let is_finishing = self.phase.finish_at().is_some_and(|at| at <= now);
        if let Some(spool) = &mut self.spool
            && spool.contents == Contents::MayHoldMore
            && !enough
            && !blocked
            && !is_finishing
        {
            spool.contents = Contents::Reading(SinceAsked::NothingCame);
            out.push(Action::Spool(SpoolRequest::Read));
        }
    }

    fn on_read(&mut self, found: Option<SpooledBatch<R>>, now: Time, out: &mut Vec<Action<R>>) {
        let Some(spool) = &mut self.spool else { return };
        spool.on_read(found.is_some());
        let Some(SpooledBatch { ids, rows }) = found else {
            return self.note_drained(out);
        };
        let ranges = own_ranges(&rows, self.config.writer);
        let copy = self.copies.add(CopyState::Synced(ids), ranges.clone());
        self.batches.ready.push_front(RowBatch {
            rows: rows.into(),
            ranges,
            size: crate::Size::default(),
            since: now,
            // Rows from the spool may have been stored before.
            attempt: Attempt::Retry,
            source: Source::Spool,
            copy: Some(copy),
            declaration: None,
            failures: 0,
            accepted_before: 0,
            not_before: Time::START,
        });
    }

    /// Counts a part of a copy as settled for good; after the last one has it removed.
    pub(super) fn finish_copy(&mut self, copy: Option<CopyId>, out: &mut Vec<Action<R>>) {
        let ids = copy.and_then(|copy| self.copies.finish_part(copy));
        if let Some(ids) = ids.filter(|_| self.spool.is_some()) {
            out.push(Action::Spool(SpoolRequest::Remove(ids)));
        }
    }

    /// Reports that the spool is drained, once nothing is left in it and nothing of it is in memory.
    pub(super) fn note_drained(&mut self, out: &mut Vec<Action<R>>) {
        let in_memory = self.batches.iter().any(|batch| batch.source == Source::Spool);
        if let Some(spool) = &mut self.spool
            && spool.contents == Contents::Empty
            && !in_memory
        {
            self.lifecycle.on_drained();
            out.extend(spool.mark_drained().map(Action::Notice));
        }
    }

    pub(super) fn mark_spool_non_empty(&mut self, out: &mut Vec<Action<R>>) {
        let notice = self.spool.as_mut().and_then(|spool| spool.mark_non_empty());
        out.extend(notice.map(Action::Notice));
    }

    pub(super) fn on_spool_success(&mut self, out: &mut Vec<Action<R>>) {
        let notice = self.spool.as_mut().and_then(|spool| spool.on_success());
        out.extend(notice.map(Action::Notice));
    }

    pub(super) fn on_spool_failure(&mut self, failure: &SpoolFailure, now: Time, out: &mut Vec<Action<R>>) {
        let notice = self
            .spool
            .as_mut()
            .and_then(|spool| spool.on_failure(failure.to_string(), now));
        out.extend(notice.map(Action::Notice));
    }

    /// The spool's thread ended. Batches that wait for its answer go on in memory.
    pub(super) fn on_spool_gone(&mut self, out: &mut Vec<Action<R>>) {
        if self.spool.take().is_none() {
            return;
        }
        out.push(Action::Notice(Notice::SpoolGone));
        // Batches that were appended without an answer may be in the file, and nothing is locked any more:
        // another writer may send them.
        let batches = self
            .batches
            .ready
            .iter_mut()
            .chain(self.batches.spooling.values_mut());
        for batch in batches.filter(|batch| batch.copy.is_some()) {
            batch.attempt = Attempt::Retry;
        }
        for copy in self.copies.forget_writing() {
            if planted!(AppendsForgottenWithTheSpool) {
                break;
            }
            self.continue_without_copy(copy);
        }
        if planted!(QuarantineForgottenWithTheSpool) {
            return;
        }
        let quarantining = std::mem::take(&mut self.batches.quarantining).into_values();
        for rejected in quarantining
            .chain(std::mem::take(&mut self.batches.rejected))
            .collect::<Vec<_>>()
        {
            // One with a synced copy is settled as spooled and stays so: the next writer replays it.
            if self.copies.is_synced(rejected.batch.copy) {
                Self::release(rejected.batch.size, out);
            } else {
                self.drop_rejected(rejected, out);
            }
        }
    }
}
