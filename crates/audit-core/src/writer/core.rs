//! The state machine itself: its parts, and the order in which an event is dealt with.

use uuid::Uuid;

use crate::{Fate, Row, SeqRange, Size, Time};

use super::batches::{Batches, RowBatch, Source};
use super::breaker::Breaker;
use super::copies::Copies;
use super::idle::Idle;
use super::lifecycle::{DeclarationId, Lifecycle};
use super::quarantine::RateLimited;
use super::routing::Route;
use super::shutdown::Phase;
use super::spool_state::{Contents, SpoolState};
use super::{
    Action, Counter, Event, Lane, Limits, Notice, RetryPolicy, SinkError, SinkErrorKind, SpoolMode, View,
    Wait, Written,
};

/// What does not change during a writer's life.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The writer's id.
    pub writer: Uuid,
    /// How many lanes it has.
    pub lanes: usize,
    /// The queue's bounds.
    pub bound: Size,
    /// The spool, if there is one.
    pub spool: Option<SpoolMode>,
    /// How a database is treated that does not accept a batch.
    pub retry: RetryPolicy,
    /// Everything else that is limited.
    pub limits: Limits,
    /// From which the random part of each pause is made.
    pub seed: u64,
}

/// The decisions of one writer. See the [module](super).
#[derive(Clone, Debug)]
pub struct Core<R> {
    pub(super) config: Config,
    pub(super) phase: Phase,
    pub(super) breaker: Breaker,
    pub(super) batches: Batches<R>,
    pub(super) copies: Copies,
    /// None without a spool, and once its thread has ended.
    pub(super) spool: Option<SpoolState>,
    pub(super) lifecycle: Lifecycle<R>,
    pub(super) idle: Idle,
    pub(super) taking: Option<Taking>,
    pub(super) last_ticket: u64,
    pub(super) rejections: RateLimited,
    /// How many batches were accepted.
    pub(super) accepted: u64,
    refusals: RateLimited,
    random_state: u64,
}

/// What was decided with [`Action::Take`], until it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    pub(super) declaration: Option<DeclarationId>,
    pub(super) route: Route,
}

/// Whether more may be taken from the queue before anything else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MayTake {
    Yes,
    /// A caller has reserved room and not pushed yet: the next look finds it. Or callers are about to be notified:
    /// [`Event::Notified`] follows, and those that come back at once go into one batch with what waits.
    NotYet,
}

impl<R: Row> Core<R> {
    /// A writer that has done nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            phase: Phase::Running,
            breaker: Breaker::Closed,
            batches: Batches::new(config.lanes),
            copies: Copies::default(),
            spool: config.spool.map(SpoolState::new),
            lifecycle: Lifecycle::new(config.writer),
            idle: Idle::default(),
            taking: None,
            last_ticket: 0,
            rejections: RateLimited::default(),
            accepted: 0,
            refusals: RateLimited::default(),
            random_state: config.seed,
            config,
        }
    }

    /// Handles an event and adds what is to be done to `out`, in order. `now` must not go back.
    ///
    /// Call it with [`Event::Woken`] too when a time has come that [`wait`](Self::wait) gave.
    pub fn on(&mut self, event: Event<R>, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        let (mut may_take, known) = (MayTake::Yes, out.len());
        match event {
            Event::Woken => {}
            Event::Taken(taken) => {
                if taken.rows.is_empty() {
                    may_take = MayTake::NotYet;
                }
                self.on_taken(taken, view, now, out);
            }
            Event::Written { lane, result } => self.on_written(lane, result, now, out),
            Event::Spool(reply) => self.on_spool_reply(reply, now, out),
            Event::SpoolGone => self.on_spool_gone(out),
            Event::Lost(losses) => self.on_lost(losses, now, out),
            Event::Notified { callers } => self.idle.on_notified(callers, now),
            Event::Close { deadline } => self.close(deadline, view, now),
        }
        let settles = |action: &Action<R>| matches!(action, Action::Settle { .. });
        if view.has_waiters && out[known..].iter().any(settles) {
            may_take = MayTake::NotYet;
        }
        self.advance(may_take, view, now, out);
    }

    /// Does everything that can be done now.
    fn advance(&mut self, may_take: MayTake, view: &View, now: Time, out: &mut Vec<Action<R>>) {
        if self.taking.is_some() {
            // Everything else waits for the answer.
            return;
        }
        let (view, known) = (&view.after(out), out.len());
        self.advance_shutdown(view, now, out);
        if matches!(self.phase, Phase::Ended) || self.taking.is_some() {
            return;
        }
        self.spill(view, now, out);
        self.quarantine_rejected(now, out);
        self.drop_excess_rejected(out);
        self.dispatch(now, out);
        if may_take == MayTake::Yes {
            self.take(&view.after(&out[known..]), now, out);
        }
    }

    fn on_written(
        &mut self,
        lane: Lane,
        result: Result<Written, SinkError>,
        now: Time,
        out: &mut Vec<Action<R>>,
    ) {
        let Some(in_flight) = self.batches.in_flight.get_mut(lane).and_then(Option::take) else {
            return;
        };
        let batch = in_flight.batch;
        match result {
            Ok(written) => {
                let replaying = self.spool.as_ref().is_some_and(SpoolState::is_in_use);
                out.extend(self.breaker.on_success(replaying, now).map(Action::Notice));
                self.commit(batch, &written, now, out);
            }
            Err(error) if error.kind == SinkErrorKind::RowRejected => {
                out.extend(self.breaker.on_success(false, now).map(Action::Notice));
                self.bisect(batch, error, now, out);
            }
            Err(error) => {
                out.push(Action::Count(Counter::Retries, 1));
                let (random, has_spool) = (self.random(), self.spool.is_some());
                let notice =
                    self.breaker
                        .on_failure(lane, &error, &self.config.retry, random, has_spool, now);
                out.extend(notice.map(Action::Notice));
                self.requeue(batch, error.kind, now, out);
            }
        }
    }

    /// Settles a committed batch.
    fn commit(&mut self, batch: RowBatch<R>, written: &Written, now: Time, out: &mut Vec<Action<R>>) {
        self.accepted += 1;
        self.rewind_spool(out);
        let duplicates: Vec<_> = written
            .duplicates
            .iter()
            .filter_map(|&row| batch.rows.get(row)?.number())
            .collect();
        if batch.source == Source::Spool {
            out.push(Action::Count(Counter::Replayed, batch.entries()));
        }
        if planted!(ReleaseBeforeSettle) {
            Self::release(batch.size, out);
        }
        if planted!(RemoveBeforeSettle) {
            self.finish_copy(batch.copy, out);
        }
        Self::settle(batch.ranges, Fate::Committed, out);
        if !planted!(ReleaseBeforeSettle) {
            Self::release(batch.size, out);
        }
        for copy in self.lifecycle.on_committed(batch.declaration) {
            self.finish_copy(Some(copy), out);
        }
        // Where numbers without a row are to be declared, the copy in the spool is kept until they are.
        if duplicates.is_empty() || planted!(DuplicatesNotDeclared) {
            self.finish_copy(batch.copy, out);
        } else {
            self.lifecycle.add_duplicates(duplicates, batch.copy, now);
        }
        self.note_drained(out);
    }

    fn on_lost(&mut self, losses: Vec<crate::Loss>, now: Time, out: &mut Vec<Action<R>>) {
        let by_queue = losses
            .iter()
            .filter(|loss| loss.reason == crate::DropReason::QueueFull);
        let refused = by_queue.map(|loss| loss.count).sum();
        if let Some(entries) = self
            .refusals
            .add(refused, self.config.limits.notice_interval, now)
        {
            out.push(Action::Notice(Notice::QueueFull { entries }));
        }
        self.lifecycle.add_losses(losses, now);
    }

    /// How long to wait if nothing happens.
    pub fn wait(&mut self, view: &View, now: Time) -> Wait {
        if matches!(self.phase, Phase::Ended) {
            return Wait::Finished;
        }
        let waiting = self.waiting(view).entries;
        let limits = self.config.limits;
        let can_take = self.can_take_more(self.route(view, now), now);
        if can_take && let Some(expected) = self.idle.expected(waiting, limits.spin_window, now) {
            return Wait::Spin {
                held: view.held.entries - waiting + expected.callers,
                until: expected.until,
            };
        }
        let next = self.next_turn(waiting > 0, now);
        if waiting > 0 {
            self.idle.empty_polls = 0;
            let poll = match (can_take, &self.spool) {
                (true, _) => now + limits.linger,
                // Nothing to look for until a lane answers; with a spool, how full the queue is.
                (false, Some(_)) => now + limits.queue_poll,
                (false, None) => Time::NEVER,
            };
            return Wait::Until(next.min(poll));
        }
        if self.idle.empty_polls < limits.idle_polls {
            self.idle.empty_polls += 1;
            return Wait::Until(next.min(now + limits.linger));
        }
        Wait::Park(next)
    }

    /// The next moment at which there is something to do without an event.
    fn next_turn(&self, has_waiting: bool, now: Time) -> Time {
        let retry = &self.config.retry;
        let spool_retry_at = self
            .spool
            .as_ref()
            .and_then(|spool| spool.retry_at(self.spool_pause()));
        let has_backlog = self
            .spool
            .as_ref()
            .is_some_and(|spool| spool.contents == Contents::MayHoldMore);
        let is_untried =
            has_waiting || has_backlog || !self.batches.ready.is_empty() || self.lifecycle.has_due();
        let probe = self
            .breaker
            .retry_at()
            .filter(|_| is_untried && !planted!(RetryTimeForgotten));
        let unspooled = self
            .batches
            .towards_database()
            .filter(|batch| batch.copy.is_none());
        let overdue = unspooled.map(|batch| batch.since + retry.spill_after).min();
        let spill = overdue
            .filter(|_| self.spool.is_some())
            .map(|at| at.max(spool_retry_at.unwrap_or(at)));
        let hanging = self
            .batches
            .in_flight()
            .map(|in_flight| in_flight.sent_at + retry.spill_after)
            .max();
        let open = self.breaker.open_since().map(|since| since + retry.spill_after);
        let quarantine_at = self
            .spool
            .as_ref()
            .and_then(|spool| spool.quarantine_retry_at(self.spool_pause()));
        let quarantine = quarantine_at.filter(|_| !self.batches.rejected.is_empty());
        let declare = self.lifecycle.due_at(&self.config.limits);
        let delayed = self
            .batches
            .ready
            .iter()
            .map(|batch| batch.not_before)
            .filter(|at| *at > now)
            .min();
        let draining = self.phase.is_draining().then(|| now + self.config.limits.linger);
        let ends = [
            self.phase.divert_at(),
            self.phase.finish_at(),
            self.phase.deadline(),
            draining,
        ];
        // A moment that has passed waits for an event, not for time.
        [probe, spill, hanging, open, quarantine, declare, delayed]
            .into_iter()
            .chain(ends)
            .flatten()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// When the oldest entry in memory was first seen.
    pub fn oldest_since(&self) -> Option<Time> {
        let batches = self
            .batches
            .iter()
            .filter(|batch| !batch.ranges.is_empty())
            .map(|batch| batch.since);
        batches.chain(self.idle.gathering_since).min()
    }

    /// What the batches in memory count against the queue's bounds.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn held(&self) -> Size {
        self.batches.size()
    }

    /// True if nothing is in memory.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn settle(ranges: Vec<SeqRange>, fate: Fate, out: &mut Vec<Action<R>>) {
        if !ranges.is_empty() {
            out.push(Action::Settle { ranges, fate });
        }
    }

    pub(super) fn release(size: Size, out: &mut Vec<Action<R>>) {
        if size != Size::default() {
            out.push(Action::Release(size));
        }
    }

    /// The next random number (SplitMix64).
    fn random(&mut self) -> u32 {
        self.random_state = self.random_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random_state ^ (self.random_state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }
}
