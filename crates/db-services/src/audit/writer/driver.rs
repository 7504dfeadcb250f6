//! The writer's thread: hands events to the core and carries out its actions, in their order.
//!
//! It never blocks: deadlines are kept even while the database or the disk hangs.

use std::sync::Arc;
use std::time::Duration;

use audit_core::loss::LossLog;
use audit_core::spool::SpoolReply;
use audit_core::writer::{Action, Config, Core, Event, Limits, Record, SpoolMode, Taken, Wait};
use audit_core::{Loss, Size, Time};
use tokio::sync::mpsc;

use super::batcher::Batcher;
use super::finish::{self, End};
use super::lanes::Lanes;
use super::notices::log_notice;
use super::shared::{Shared, Turn};
use super::{OnLoss, RetryPolicy};
use crate::LOG_TARGET;
use crate::audit::ids::IdGenerator;
use crate::audit::limits;
use crate::audit::panics::contained;
use crate::audit::records::Records;
use crate::audit::row::LogRow;
use crate::audit::sink::Sink;
use crate::audit::spool::{self, Spool};

/// How often `on_loss` is called at most. A callback that writes while the queue is full would otherwise
/// be called with its own losses, 55,000 times a second.
const ON_LOSS_INTERVAL: Duration = Duration::from_millis(100);

/// The longest sleep: tokio's timers do not reach much further than two years.
const MAX_SLEEP: Duration = Duration::from_secs(3_600);

/// The most bytes of memory that the entries of one batch hold beside a spool. Encoded for the spool they
/// take up to seven times that, while the batch is in memory as well.
const MAX_SPOOLED_BATCH_BYTES: usize = 512 << 10;

/// The time that a spool gets to close its files, beyond the deadline if need be.
const CLOSE_SPOOL: Duration = Duration::from_secs(1);

/// What a writer's thread is made of besides its sinks.
pub(super) struct Parts {
    pub(super) retry: RetryPolicy,
    pub(super) records: Records,
    pub(super) spool: Option<(Spool, SpoolReplies, SpoolMode)>,
    pub(super) on_loss: Option<OnLoss>,
}

/// The spool's replies, in the order of the requests. They end if its thread panics.
type SpoolReplies = mpsc::UnboundedReceiver<SpoolReply<LogRow>>;

pub(super) struct Driver<S> {
    shared: Arc<Shared>,
    core: Core<LogRow>,
    batcher: Batcher,
    lanes: Lanes<S>,
    records: Records,
    ids: IdGenerator,
    spool: Option<(Spool, SpoolReplies)>,
    on_loss: Option<OnLoss>,
    /// Losses that the callback has not heard of, and when it was last called.
    unheard: LossLog,
    last_heard: Option<Time>,
    /// The deadline that the core knows.
    closing: Option<Time>,
    /// Callers that were notified since something was settled; the core has not heard of that yet.
    notified: Option<usize>,
    actions: Vec<Action<LogRow>>,
    #[cfg(feature = "metrics")]
    metrics: super::metrics::Metrics,
}

impl<S: Sink> Driver<S> {
    pub(super) fn new(shared: Arc<Shared>, sinks: Vec<S>, parts: Parts) -> Self {
        let (spool, mode) = match parts.spool {
            Some((spool, replies, mode)) => (Some((spool, replies)), Some(mode)),
            None => (None, None),
        };
        let mut limits = Limits::default();
        if mode.is_some() {
            limits.batch.bytes = MAX_SPOOLED_BATCH_BYTES;
        }
        let writer = parts.records.writer_id;
        let config = Config {
            writer,
            lanes: sinks.len(),
            bound: shared.queue.bound(),
            spool: mode,
            retry: parts.retry,
            limits,
            // Any number that differs between processes.
            seed: writer.as_u128() as u64,
        };
        Self {
            core: Core::new(config),
            batcher: Batcher::new(limits.batch, limits::estimated_size),
            lanes: Lanes::new(sinks),
            records: parts.records,
            ids: IdGenerator::default(),
            spool,
            on_loss: parts.on_loss,
            unheard: LossLog::default(),
            last_heard: None,
            closing: None,
            notified: None,
            actions: Vec::new(),
            #[cfg(feature = "metrics")]
            metrics: super::metrics::Metrics::default(),
            shared,
        }
    }

    /// Runs until the core has ended.
    pub(super) async fn run(mut self) {
        let mut event = Event::Woken;
        loop {
            self.handle(event);
            let deadline = self.shared.shutdown_deadline();
            if deadline != self.closing
                && let Some(deadline) = deadline
            {
                self.closing = Some(deadline);
                event = Event::Close { deadline };
                continue;
            }
            let now = self.shared.now();
            self.shared.expire(now);
            self.report(now);
            let view = self.shared.view(self.batcher.has_carried());
            event = match self.core.wait(&view, now) {
                Wait::Finished => break,
                Wait::Spin { held, until } => self.spin(held, until).await,
                Wait::Until(until) => self.next_event(Some(self.sleep(until, now))).await,
                Wait::Park(until) if self.shared.queue.prepare_sleep() => {
                    self.next_event(Some(self.sleep(until, now))).await
                }
                // An entry was admitted meanwhile.
                Wait::Park(_) => Event::Woken,
            };
        }
        if let Some((spool, replies)) = self.spool.take() {
            close_spool(
                spool,
                replies,
                self.closing.map_or(CLOSE_SPOOL, |at| at - self.shared.now()),
            )
            .await;
        }
        self.batcher.drop_carried(&self.shared);
        finish::drain_queue(&self.shared, End::Finished);
        self.report_all();
    }

    /// Hands an event to the core, and carries out what it asks for.
    fn handle(&mut self, event: Event<LogRow>) {
        let mut next = Some(event);
        while let Some(event) = next {
            let Turn { view, losses } = self.shared.turn(self.batcher.has_carried());
            let now = self.shared.now();
            if !losses.is_empty() {
                losses.iter().for_each(|loss| self.unheard.add(loss.clone()));
                self.core.on(Event::Lost(losses), &view, now, &mut self.actions);
            }
            self.core.on(event, &view, now, &mut self.actions);
            next = self.carry_out();
        }
    }

    /// Carries out the actions, and returns what is to be handed to the core before anything else.
    fn carry_out(&mut self) -> Option<Event<LogRow>> {
        let (mut taken, mut actions) = (None, std::mem::take(&mut self.actions));
        for action in actions.drain(..) {
            match action {
                Action::Take { records, entries } => taken = Some(self.take(records, entries)),
                Action::Send { lane, rows, attempt } => self.lanes.send(lane, rows, attempt),
                Action::Spool(request) => {
                    if let Some((spool, _)) = &self.spool {
                        spool.send(request);
                    }
                }
                Action::Settle { ranges, fate } => {
                    *self.notified.get_or_insert(0) += self.shared.settle(&ranges, &fate);
                }
                Action::Release(size) => self.shared.queue.release(size),
                Action::Count(counter, count) => self.shared.counters.add(counter, count),
                Action::Notice(notice) => log_notice(self.shared.name(), &notice),
            }
        }
        self.actions = actions;
        if let Some(taken) = taken {
            return Some(Event::Taken(taken));
        }
        let callers = self.notified.take()?;
        Some(Event::Notified { callers })
    }

    /// Creates the next batch. Here, on the writer's thread, entries become rows and limits are applied.
    fn take(&mut self, records: Vec<Record<LogRow>>, entries: bool) -> Taken<LogRow> {
        let mut rows: Vec<LogRow> = records
            .into_iter()
            .map(|record| self.records.row(record))
            .collect();
        let mut size = Size::default();
        if entries {
            let batch = self.batcher.next(&self.shared.queue);
            size = batch.size();
            rows.reserve_exact(batch.entries.len());
            for (seq, entry) in batch.entries {
                let mut row = limits::row(entry, &mut self.ids);
                row.writer_id = Some(self.records.writer_id);
                row.writer_seq = i64::try_from(seq).ok();
                rows.push(LogRow::from(row));
            }
        }
        Taken { rows, size }
    }

    /// Waits for an event, or for callers that are expected back. It does not look at the ledger meanwhile: they need
    /// its lock.
    async fn spin(&mut self, held: usize, until: Time) -> Event<LogRow> {
        loop {
            // To those on their way back, if they want this processor.
            std::thread::yield_now();
            match self.next_event(None).await {
                Event::Woken if self.shared.queue.held().entries < held && self.shared.now() < until => {}
                event => return event,
            }
        }
    }

    /// Waits for an event; with no time given for no longer than it takes to look.
    async fn next_event(&mut self, sleep: Option<Duration>) -> Event<LogRow> {
        let rest = async {
            match sleep {
                Some(duration) => tokio::time::sleep(duration).await,
                None => tokio::task::yield_now().await,
            }
        };
        tokio::select! {
            biased;
            (lane, result) = self.lanes.next() => Event::Written { lane, result },
            reply = next_reply(&mut self.spool) => match reply {
                Some(SpoolReply::Notice(notice)) => {
                    contained(|| spool::log_notice(&notice));
                    Event::Woken
                }
                Some(reply) => Event::Spool(reply),
                None => {
                    self.spool = None;
                    Event::SpoolGone
                }
            },
            () = self.shared.woken() => Event::Woken,
            () = rest => Event::Woken,
        }
    }

    /// How long to sleep until a time, or until something else is due.
    fn sleep(&self, until: Time, now: Time) -> Duration {
        let until = until.min(self.shared.next_deadline()).min(self.losses_due_at());
        #[cfg(feature = "metrics")]
        let until = until.min(self.metrics.due_at(&self.shared));
        (until - now).min(MAX_SLEEP)
    }

    /// Passes on losses and counters to the user's code.
    fn report(&mut self, now: Time) {
        let oldest = self.core.oldest_since();
        self.shared.counters.set_oldest(oldest);
        if !self.unheard.is_empty() && self.losses_due_at() <= now {
            self.last_heard = Some(now);
            call_on_loss(self.on_loss.as_ref(), &self.unheard.take());
        }
        #[cfg(feature = "metrics")]
        contained(|| self.metrics.report(&self.shared, now));
    }

    /// Passes on what is left of losses and counters, at the end.
    fn report_all(&mut self) {
        self.shared
            .take_losses()
            .into_iter()
            .for_each(|loss| self.unheard.add(loss));
        call_on_loss(self.on_loss.as_ref(), &self.unheard.take());
        #[cfg(feature = "metrics")]
        contained(|| self.metrics.report_all(&self.shared, self.shared.now()));
    }

    fn losses_due_at(&self) -> Time {
        match self.last_heard {
            _ if self.unheard.is_empty() => Time::NEVER,
            None => Time::START,
            Some(last) => last + ON_LOSS_INTERVAL,
        }
    }
}

/// Calls back with losses.
pub(super) fn call_on_loss(on_loss: Option<&OnLoss>, losses: &[Loss]) {
    let Some(on_loss) = on_loss else { return };
    for loss in losses {
        if !contained(|| on_loss(loss)) {
            contained(|| log::error!(target: LOG_TARGET, "the on_loss callback panicked"));
        }
    }
}

/// The spool's next reply; never, if there is no spool. None if its thread has ended.
async fn next_reply(spool: &mut Option<(Spool, SpoolReplies)>) -> Option<SpoolReply<LogRow>> {
    match spool {
        Some((_, replies)) => replies.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for the spool's thread to close its files, once nothing more is asked of it.
async fn close_spool(spool: Spool, mut replies: SpoolReplies, left: Duration) {
    drop(spool);
    let closed = async {
        while let Some(reply) = replies.recv().await {
            if let SpoolReply::Notice(notice) = reply {
                contained(|| spool::log_notice(&notice));
            }
        }
    };
    if tokio::time::timeout(left.max(CLOSE_SPOOL), closed).await.is_err() {
        contained(|| log::error!(target: LOG_TARGET, "the disk of the spool does not answer"));
    }
}
