//! The end of a writer: what is still written, and what is given up at the deadline.

use std::time::Duration;

use crate::{DropReason, Fate, Row, Time};

use super::core::Taking;
use super::routing::Route;
use super::spool_state::Contents;
use super::{Action, Attempt, Core, View};

/// The part of a shutdown's time that is kept for the last records.
const RESERVE_PART: u32 = 4;

/// The most time that is kept for the last records.
const MAX_RESERVE: Duration = Duration::from_millis(500);

/// How long a spool that failed is left alone during a shutdown.
const RETRY_SPOOL_AFTER: Duration = Duration::from_millis(100);

/// Where a writer is in its life.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Running,
    /// It takes nothing new and is to end by the deadline.
    Draining {
        since: Time,
        deadline: Time,
        /// The last number that may be in the queue: later ones are refused.
        last_seq: u64,
        stop: StopRecord,
    },
    Ended,
}

/// The record of a clean end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopRecord {
    /// Not written: entries are not settled yet.
    Open,
    /// On its way, or written.
    Taken,
}

impl Phase {
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// From when on entries go to the spool rather than to the database. Computed: a second call may have
    /// made the deadline earlier.
    pub(super) fn divert_at(&self) -> Option<Time> {
        match *self {
            Self::Draining { since, deadline, .. } => Some(since + (deadline - since) / 2),
            Self::Running | Self::Ended => None,
        }
    }

    /// From when on the last records are written, whatever is left in the spool.
    pub(super) fn finish_at(&self) -> Option<Time> {
        match *self {
            Self::Draining { since, deadline, .. } => {
                let total = deadline - since;
                Some(since + total.saturating_sub((total / RESERVE_PART).min(MAX_RESERVE)))
            }
            Self::Running | Self::Ended => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match *self {
            Self::Draining { deadline, .. } => Some(deadline),
            Self::Running | Self::Ended => None,
        }
    }
}

impl<R: Row> Core<R> {
    pub(super) fn close(&mut self, new_deadline: Time, view: &View, now: Time) {
        match &mut self.phase {
            Phase::Running => {
                let (last_seq, stop) = (view.submitted, StopRecord::Open);
                self.phase = Phase::Draining {
                    since: now,
                    deadline: new_deadline,
                    last_seq,
                    stop,
                };
            }
            Phase::Draining { .. } if planted!(SecondDeadlineIgnored) => {}
            Phase::Draining { deadline, .. } => *deadline = new_deadline.min(*deadline),
            Phase::Ended => {}
        }
    }

    /// How long a spool that failed is left alone.
    pub(super) fn spool_pause(&self) -> Duration {
        let pause = self.config.limits.retry_spool_after;
        if self.phase.is_draining() {
            pause.min(RETRY_SPOOL_AFTER)
        } else {
            pause
        }
    }

    /// Ends the writer if it can end.
    pub(super) fn advance_shutdown(&mut self, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        let Phase::Draining {
            deadline,
            last_seq,
            stop,
            ..
        } = self.phase
        else {
            return;
        };
        if deadline <= now && !planted!(DeadlineForgotten) {
            return self.abandon(out);
        }
        let is_finishing = self.phase.finish_at().is_some_and(|at| at <= now);
        if is_finishing {
            // Given up while there is time to declare it.
            self.drop_unsynced_rejected(out);
        }
        let may_wait = self.is_making_progress(now) && !is_finishing;
        // The view does not show what this event settled: the next one does. With a copy in the spool an entry
        // counts as settled before it is committed, and the stop record would go to the spool for it.
        let is_outdated = out.iter().any(|action| matches!(action, Action::Settle { .. }));
        if is_outdated || !self.is_safe(view, last_seq) || may_wait {
            return;
        }
        match stop {
            // Of entries of other writers that were replayed since.
            StopRecord::Taken if self.lifecycle.has_due() && self.can_replay(now) => {
                self.take_records(false, Route::Lane, view, now, out);
            }
            StopRecord::Taken => self.abandon(out),
            StopRecord::Open => self.take_last_records(last_seq, view, now, out),
        }
    }

    /// True if every number is settled and nothing in memory would be lost by ending now.
    fn is_safe(&self, view: &View, last_seq: u64) -> bool {
        let is_synced = |batch: &super::batches::RowBatch<R>| self.copies.is_synced(batch.copy);
        self.waiting(view).entries == 0
            && view.settled_through >= last_seq
            && self.copies.writing() == 0
            && self.batches.quarantining.is_empty()
            && self.batches.iter().all(is_synced)
    }

    /// True while the database accepts rows and there are some: the spool is replayed in the time that a
    /// shutdown has.
    fn is_making_progress(&self, now: Time) -> bool {
        let is_accepting = !self.breaker.is_open() && !self.is_hanging(now);
        let has_more = self
            .spool
            .as_ref()
            .is_some_and(|spool| spool.contents != Contents::Empty);
        let is_rejecting = !(self.batches.rejected.is_empty() && self.batches.quarantining.is_empty());
        !planted!(SpoolNotReplayedAtTheEnd)
            && is_accepting
            && (self.batches.towards_database().next().is_some() || has_more || is_rejecting)
    }

    /// True while the database accepts rows and there is time for more than the last records.
    fn can_replay(&self, now: Time) -> bool {
        let is_accepting = !self.breaker.is_open() && !self.is_hanging(now);
        is_accepting && self.phase.finish_at().is_some_and(|at| now < at)
    }

    /// Takes the declarations that are due, and after they are stored the record of a clean end.
    fn take_last_records(&mut self, last_seq: u64, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        let is_resolved = view.resolved_through >= last_seq;
        let can_send = !self.breaker.is_open() && !self.is_hanging(now);
        let to_spool = self.is_spool_usable(now);
        if self.lifecycle.has_due() && (can_send || to_spool) {
            let route = if can_send { Route::Lane } else { Route::Spool };
            return self.take_records(false, route, view, now, out);
        }
        if last_seq == 0 || !(to_spool || (is_resolved && can_send)) {
            return self.abandon(out);
        }
        if self.batches.iter().any(|batch| batch.declaration.is_some()) {
            // It has a copy in the spool: it is left there in a moment, or a lane answers.
            return;
        }
        if self.lifecycle.has_open() {
            // The database rejected a declaration: then the end is not a clean one.
            return self.abandon(out);
        }
        // It attests everything: it follows the declarations, and in the spool everything of its file.
        let is_attested =
            self.lifecycle.attested_through(view) >= last_seq || planted!(StopRecordBesideSpooledEntries);
        let route = match (is_attested && can_send, to_spool) {
            (true, _) => Route::Lane,
            (false, true) => Route::Spool,
            (false, false) => return self.abandon(out),
        };
        if let Phase::Draining { stop, .. } = &mut self.phase {
            *stop = StopRecord::Taken;
        }
        self.taking = Some(Taking {
            declaration: None,
            route,
        });
        out.push(Action::Take {
            records: self.lifecycle.take_stop_records(last_seq),
            entries: false,
        });
    }

    /// Settles and releases what is left, and ends.
    pub(super) fn abandon(&mut self, out: &mut Vec<Action<R>>) {
        self.drop_unsynced_rejected(out);
        for batch in self.batches.take_all() {
            // A batch with a synced copy is settled as spooled, and so it stays. What was sent to the database
            // or to the disk may be there.
            if !self.copies.is_synced(batch.copy) {
                let is_sent = !planted!(UnknownCalledDropped)
                    && (batch.attempt == Attempt::Retry || batch.copy.is_some());
                let fate = if is_sent {
                    Fate::Unknown
                } else {
                    Fate::Dropped(DropReason::ShutDown)
                };
                Self::settle(batch.ranges, fate, out);
            }
            Self::release(batch.size, out);
        }
        self.phase = Phase::Ended;
    }
}
