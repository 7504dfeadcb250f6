//! Where a batch goes: to a lane, to the spool, or to both.

use crate::spool::{Again, SpoolRequest};
use crate::{Row, Rows, Size, Time};

use super::batches::{InFlight, RowBatch, Source, own_ranges};
use super::core::Taking;
use super::lifecycle::TakenRecords;
use super::spool_state::SpoolMode;
use super::{Action, Attempt, Core, SinkErrorKind, Taken, View};

/// Failures of one batch after which others are tried before it.
const MAX_IN_ORDER: u32 = 3;

/// Where new batches go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Lane,
    Spool,
    /// To the spool, and at the same time to a lane.
    Both,
}

impl<R: Row> Core<R> {
    /// Where new batches go now. Past a spool that is full or fails they go to a lane. While the database does not
    /// accept them either, they wait in the queue, which refuses the newest once it is full.
    pub(super) fn route(&self, view: &View, now: Time) -> Route {
        match &self.spool {
            Some(_) if self.should_spill(view, now) => Route::Spool,
            Some(spool) if spool.mode == SpoolMode::WriteAhead && self.is_spool_usable(now) => Route::Both,
            _ => Route::Lane,
        }
    }

    /// True while entries go to the spool instead of to the database.
    pub(super) fn should_spill(&self, view: &View, now: Time) -> bool {
        let spill_after = self.config.retry.spill_after;
        let is_down = || {
            self.breaker
                .open_since()
                .is_some_and(|since| now - since >= spill_after)
        };
        let half = |held: usize, bound: usize| held > bound / 2;
        let is_half_full = || {
            half(view.held.entries, self.config.bound.entries)
                || half(view.held.bytes, self.config.bound.bytes)
        };
        let is_ending = || {
            self.phase
                .divert_at()
                .is_some_and(|at| at <= now || self.breaker.is_open() || self.is_hanging(now))
        };
        self.is_spool_usable(now) && (is_down() || self.is_hanging(now) || is_ending() || is_half_full())
    }

    /// True while every lane is busy with a batch that the database has not answered for a while.
    pub(super) fn is_hanging(&self, now: Time) -> bool {
        let is_overdue = |in_flight: &InFlight<R>| now - in_flight.sent_at >= self.config.retry.spill_after;
        self.batches.idle_lane().is_none() && self.batches.in_flight().all(is_overdue)
    }

    pub(super) fn is_spool_usable(&self, now: Time) -> bool {
        self.spool
            .as_ref()
            .is_some_and(|spool| spool.is_usable(self.spool_pause(), now))
    }

    pub(super) fn can_append(&self, now: Time) -> bool {
        self.is_spool_usable(now)
            && self.copies.writing() < self.config.limits.appends + usize::from(planted!(OneAppendTooMany))
    }

    /// True if a further batch would be taken from the queue.
    pub(super) fn can_take_more(&self, route: Route, now: Time) -> bool {
        let is_failing = || self.spool.as_ref().is_some_and(|spool| spool.is_failing());
        let has_unspooled = || self.batches.ready.iter().any(|batch| batch.copy.is_none());
        match route {
            // Batches that the spool did not take are held in memory. Take no more until it recovers.
            Route::Spool | Route::Both => self.can_append(now) && !(is_failing() && has_unspooled()),
            // Another batch may be accepted where this one is not, and so show what the problem is.
            Route::Lane if self.breaker.is_misconfigured() || self.breaker.is_persistent(MAX_IN_ORDER) => {
                self.batches.towards_database().count() < self.config.limits.misconfigured_batches
            }
            Route::Lane => {
                // During an outage one batch, if there is no other to try the database with.
                (!self.breaker.is_open() || (self.can_probe(now) && !planted!(NoProbeFromTheQueue)))
                    && !self.batches.has_ready(now)
                    && self.batches.idle_lane().is_some()
            }
        }
    }

    /// What waits in the queue and in no batch.
    pub(super) fn waiting(&self, view: &View) -> Size {
        view.held.saturating_sub(self.batches.size())
    }

    /// True if the entries that wait are to be sent now.
    fn is_due(&mut self, route: Route, view: &View, now: Time) -> bool {
        let (waiting, limits) = (self.waiting(view), &self.config.limits);
        if waiting.entries == 0 {
            self.idle.gathering_since = None;
            return false;
        }
        let since = *self.idle.gathering_since.get_or_insert(now);
        let is_full = waiting.entries >= limits.batch.entries || waiting.bytes >= limits.batch.bytes;
        let expected = self.idle.expected(waiting.entries, limits.spin_window, now);
        let is_awaited = view.has_waiters
            && expected.is_none()
            && !(route == Route::Lane && self.is_joining(waiting.entries, now));
        is_full || view.has_carried || view.is_closed || is_awaited || now - since >= limits.linger
    }

    /// True if entries that callers await wait for the answer to a larger batch, to be sent with those that its
    /// callers write next. Of two groups of callers that take turns on two lanes one becomes, and makes one commit of
    /// two: with ten callers 9 rows a commit instead of 5. An entry waits for no longer than if nobody awaited it.
    fn is_joining(&self, waiting: usize, now: Time) -> bool {
        self.batches.in_flight().any(|in_flight| {
            waiting < in_flight.batch.rows.len() && now - in_flight.sent_at < self.config.limits.linger
        })
    }

    /// Asks for the next batch if one is due.
    pub(super) fn take(&mut self, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        let route = self.route(view, now);
        if self.can_take_more(route, now) && self.is_due(route, view, now) {
            return self.take_records(true, route, view, now, out);
        }
        if self
            .lifecycle
            .due_at(&self.config.limits)
            .is_none_or(|at| at > now)
        {
            return;
        }
        if self.breaker.is_open() {
            // Nobody else may ever ask whether the database accepts something again.
            if self.can_probe(now) {
                self.take_records(false, Route::Lane, view, now, out);
            }
        } else if route == Route::Lane || (route == Route::Both && self.can_append(now)) {
            self.take_records(false, route, view, now, out);
        }
    }

    /// True if a probe is due and no other batch is there to be one.
    fn can_probe(&self, now: Time) -> bool {
        self.breaker.permits(now) && self.batches.towards_database().next().is_none()
    }

    /// Asks for a batch with the records that are due.
    pub(super) fn take_records(
        &mut self,
        entries: bool,
        route: Route,
        view: &View,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) {
        let TakenRecords { records, declaration } =
            self.lifecycle.take_records(view, &self.config.limits, now);
        self.taking = Some(Taking { declaration, route });
        out.push(Action::Take { records, entries });
    }

    /// Puts a batch that was taken from the queue on its way.
    pub(super) fn on_taken(&mut self, taken: Taken<R>, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        let Some(Taking { declaration, route }) = self.taking.take() else {
            return;
        };
        if taken.rows.is_empty() {
            return;
        }
        // The spool's thread may have ended since the batch was asked for.
        let route = if self.spool.is_some() || planted!(RouteToLostSpool) {
            route
        } else {
            Route::Lane
        };
        if view.has_waiters {
            self.idle.on_awaited_entry(self.config.limits.spin_window, now);
        }
        let batch = RowBatch {
            ranges: own_ranges(&taken.rows, self.config.writer),
            rows: Rows::new(taken.rows),
            size: taken.size,
            since: self.idle.gathering_since.take().unwrap_or(now),
            attempt: Attempt::First,
            source: Source::Queue,
            copy: None,
            declaration,
            failures: 0,
            accepted_before: 0,
            not_before: Time::START,
        };
        match route {
            Route::Lane => self.batches.ready.push_back(batch),
            Route::Both => {
                let copy = Some(self.append(&batch, out));
                self.batches.ready.push_back(RowBatch { copy, ..batch });
            }
            Route::Spool => {
                let copy = self.append(&batch, out);
                self.batches.spooling.insert(
                    copy,
                    RowBatch {
                        copy: Some(copy),
                        ..batch
                    },
                );
            }
        }
    }

    /// Moves to the spool what has waited too long for the database.
    pub(super) fn spill(&mut self, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        if !self.should_spill(view, now) {
            return;
        }
        for batch in std::mem::take(&mut self.batches.ready) {
            // A batch that was read from the spool is the next to be tried.
            let is_safe = batch.source == Source::Queue
                && self.copies.is_synced(batch.copy)
                && batch.copy.is_some_and(|copy| self.copies.is_whole(copy));
            if is_safe {
                self.leave_to_spool(batch, Again::InOrder, out);
            } else {
                let copy = batch.copy.or_else(|| self.append_overdue(&batch, now, out));
                self.batches.ready.push_back(RowBatch { copy, ..batch });
            }
        }
        // A lane that hangs has it too; whichever is done first settles it.
        for lane in 0..self.batches.in_flight.len() {
            if let Some(mut in_flight) = self.batches.in_flight[lane].take() {
                let batch = &mut in_flight.batch;
                batch.copy = batch.copy.or_else(|| self.append_overdue(batch, now, out));
                self.batches.in_flight[lane] = Some(in_flight);
            }
        }
    }

    fn append_overdue(
        &mut self,
        batch: &RowBatch<R>,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) -> Option<crate::spool::CopyId> {
        let is_overdue = self.phase.is_draining() || now - batch.since >= self.config.retry.spill_after;
        (is_overdue && self.can_append(now)).then(|| self.append(batch, out))
    }

    /// Gives idle lanes what is ready, and reads on in the spool when a lane could take more.
    pub(super) fn dispatch(&mut self, now: Time, out: &mut Vec<Action<R>>) {
        while let Some(lane) = self.batches.idle_lane()
            && self.breaker.permits(now)
        {
            self.request_replay(now, out);
            let Some(batch) = self.next_batch(now, out) else {
                return;
            };
            self.breaker.on_sent(lane);
            out.push(Action::Send {
                lane,
                rows: batch.rows.clone(),
                attempt: batch.attempt,
            });
            // From here on it may be stored.
            let batch = if planted!(RetrySentAsFirst) {
                batch
            } else {
                Self::as_retry(batch)
            };
            self.batches.in_flight[lane] = Some(InFlight { batch, sent_at: now });
        }
    }

    /// Removes and returns the next batch to send.
    ///
    /// This writer's stop record, read back from the spool, attests what the records before it declare. It waits
    /// until those are stored, and is not sent at all once the database has rejected one of them.
    fn next_batch(&mut self, now: Time, out: &mut Vec<Action<R>>) -> Option<RowBatch<R>> {
        loop {
            let may_be_sent = |batch: &RowBatch<R>| {
                batch.not_before <= now
                    && (!self.has_own_stop_record(batch) || self.batches_with_records() <= 1)
            };
            let next = self.batches.ready.iter().position(may_be_sent)?;
            let batch = self.batches.ready.remove(next)?;
            if !(self.lifecycle.has_rejected() && self.has_own_stop_record(&batch)) {
                return Some(batch);
            }
            let kept = batch
                .rows
                .iter()
                .filter(|row| row.stopped_writer() != Some(self.config.writer));
            let rows = Rows::new(kept.cloned().collect::<Vec<_>>());
            if !rows.is_empty() {
                return Some(RowBatch { rows, ..batch });
            }
            self.finish_copy(batch.copy, out);
            self.note_drained(out);
        }
    }

    /// How many batches hold a record. Looks at each row: to be asked only where it decides something.
    fn batches_with_records(&self) -> usize {
        let is_record = |row: &R| row.number().is_none();
        self.batches
            .iter()
            .filter(|batch| batch.rows.iter().any(is_record))
            .count()
    }

    /// True if the stop record of this writer came back from the spool in this batch.
    fn has_own_stop_record(&self, batch: &RowBatch<R>) -> bool {
        batch.source == Source::Spool
            && batch
                .rows
                .iter()
                .any(|row| row.stopped_writer() == Some(self.config.writer))
    }

    /// Takes back a batch that a lane could not write.
    ///
    /// An error that should pass by itself may be a row's all the same: a trigger can raise any SQLSTATE, and a
    /// row can always exceed the statement's time. Such a batch must not keep others back. After a few failures
    /// others are tried first, and once one of them is accepted it is halved, until the row is alone. That one is
    /// not quarantined: it is tried on, behind the others.
    pub(super) fn requeue(
        &mut self,
        batch: RowBatch<R>,
        kind: SinkErrorKind,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) {
        let failures = batch.failures.saturating_add(1);
        let accepted_before = if batch.failures == 0 {
            self.accepted
        } else {
            batch.accepted_before
        };
        let batch = RowBatch {
            failures,
            accepted_before,
            ..batch
        };
        let in_order = kind == SinkErrorKind::Transient
            && !self.breaker.is_persistent(MAX_IN_ORDER)
            && failures <= MAX_IN_ORDER;
        let is_whole = batch.copy.is_some_and(|copy| self.copies.is_whole(copy));
        if batch.source == Source::Spool && is_whole && self.spool.is_some() {
            // It is in the spool: no need to hold it here as well.
            let again = if in_order {
                Again::InOrder
            } else {
                Again::AfterOthers
            };
            return self.leave_to_spool(batch, again, out);
        }
        if in_order {
            return self.batches.ready.push_front(batch);
        }
        if kind == SinkErrorKind::Transient && self.accepted > batch.accepted_before {
            if batch.rows.len() > 1 {
                let halves = self.halve(batch);
                return self.batches.ready.extend(halves);
            }
            let not_before = now + self.config.retry.longest_pause;
            return self.batches.ready.push_back(RowBatch { not_before, ..batch });
        }
        // Retry it last: if another batch is accepted meanwhile, the problem is this batch and not the
        // configuration.
        self.batches.ready.push_back(batch);
    }

    /// A batch was accepted: those that were deferred may be accepted too.
    pub(super) fn rewind_spool(&mut self, out: &mut Vec<Action<R>>) {
        if self.spool.as_mut().is_some_and(|spool| spool.take_deferred()) {
            out.push(Action::Spool(SpoolRequest::Rewind));
        }
    }
}
