//! What does the writer's thread do, and in which order?
//!
//! It takes batches from the queue, hands each to an idle lane (a sink with a task of its own, so
//! that a statement under way is never cancelled), to the spool, or to both, and settles what comes
//! back. It never blocks: deadlines are kept even while the database or the disk hangs.
//!
//! `worker.rs` is the loop and what comes in; `hand.rs` holds the batches in memory; `flow.rs`
//! decides where a batch goes; `end.rs` is the shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::batch::Gatherer;
use super::hand::{Hand, Place};
use super::health::Health;
use super::life::{Life, OnLoss};
use super::queue::Weight;
use super::receipt::{Delivery, DropReason};
use super::returning::Returning;
use super::spooling::{self, Spooling};
use super::{RetryPolicy, Shared, lock};
use crate::audit::insert::{BATCH_BYTES, BATCH_ROWS};
use crate::audit::sink::{Fault, OnRepeat, Rows, Sink, SinkError};

/// What one statement holds at the most.
pub(super) const BATCH: Weight = Weight { entries: BATCH_ROWS, bytes: BATCH_BYTES };

/// How long a forgotten entry may wait for company, and how often a busy writer looks for more.
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// How many looks at an empty queue come before sleep: who writes now and then is spared the cost
/// of waking the thread each time.
const IDLE_LOOKS: u32 = 20;

/// A sleep that only a wake-up ends.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

/// How often a busy writer with a spool looks whether the queue fills.
const LEVEL_LOOK: Duration = Duration::from_millis(10);

/// What a writer's thread is given besides its sinks.
pub(super) struct Equipment {
    pub(super) policy: RetryPolicy,
    pub(super) life: Life,
    pub(super) spool: Option<spooling::Started>,
    pub(super) on_loss: Option<OnLoss>,
}

/// Starts the thread, with a lane for each sink.
pub(super) fn start<S: Sink>(
    shared: Arc<Shared>,
    sinks: Vec<S>,
    equipment: Equipment,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("audit-writer".to_owned()).spawn(move || {
        // Dropped last, also when the loop panics.
        let ending = super::end::Ending { shared, on_loss: equipment.on_loss.clone() };
        runtime.block_on(async { Worker::new(Arc::clone(&ending.shared), sinks, equipment).run().await });
        // A statement that still hangs is given up with the runtime.
        runtime.shutdown_background();
    })?;
    Ok(())
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) policy: RetryPolicy,
    pub(super) life: Life,
    pub(super) spooling: Option<Spooling>,
    on_loss: Option<OnLoss>,
    pub(super) gatherer: Gatherer,
    pub(super) hand: Hand,
    pub(super) health: Health,
    lanes: Vec<mpsc::UnboundedSender<Job>>,
    /// The lanes with nothing to do.
    pub(super) idle: Vec<usize>,
    done: mpsc::UnboundedReceiver<Done>,
    /// Since when forgotten entries wait for company.
    pub(super) gathering_since: Option<Instant>,
    idle_looks: u32,
    pub(super) returning: Returning,
    pub(super) closing: Option<super::end::Closing>,
}

/// A batch for a lane.
pub(super) struct Job {
    token: u64,
    rows: Rows,
    on_repeat: OnRepeat,
}

/// What became of it.
struct Done {
    lane: usize,
    token: u64,
    result: Result<(), SinkError>,
}

impl Worker {
    pub(super) fn new<S: Sink>(shared: Arc<Shared>, sinks: Vec<S>, equipment: Equipment) -> Self {
        let (finished, done) = mpsc::unbounded_channel();
        let idle: Vec<usize> = (0..sinks.len()).collect();
        let lanes = sinks
            .into_iter()
            .enumerate()
            .map(|(lane, mut sink)| {
                let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
                let finished = finished.clone();
                tokio::spawn(async move {
                    while let Some(Job { token, rows, on_repeat }) = jobs.recv().await {
                        let result = sink.write(rows, on_repeat).await;
                        // The worker is gone only when everything ends.
                        let _ = finished.send(Done { lane, token, result });
                    }
                });
                sender
            })
            .collect();
        Self {
            health: Health::new(shared.name.clone()),
            shared,
            policy: equipment.policy,
            life: equipment.life,
            spooling: equipment.spool.map(Spooling::new),
            on_loss: equipment.on_loss,
            gatherer: Gatherer::new(BATCH),
            hand: Hand::default(),
            lanes,
            idle,
            done,
            gathering_since: None,
            idle_looks: 0,
            returning: Returning::default(),
            closing: None,
        }
    }

    /// Runs until it is told to end and everything is settled, or its time is up.
    async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.hear_losses(now);
            if self.close(now) {
                return self.end(now).await;
            }
            self.take_batches(now);
            self.spill(now);
            self.dispatch(now);
            self.note_oldest();
            #[cfg(feature = "metrics")]
            self.shared.tell_metrics(now);
            lock(&self.shared.ledger).expire(now);
            // To give way to the lanes and look again, or to sleep.
            let looks = self.expects_more(now);
            let until = if looks { now } else { now + self.pause(now) };
            let rest = async {
                match looks {
                    true => {
                        // To those on their way back, if they want this processor.
                        std::thread::yield_now();
                        tokio::task::yield_now().await;
                    }
                    false => tokio::time::sleep_until(until.into()).await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.done.recv() => self.written(done),
                answer = spooling::next(&mut self.spooling) => self.spool_says(answer),
                () = self.shared.wake.notified() => {}
                () = rest => {}
            }
        }
    }

    /// Sends a batch that is in hand to an idle lane.
    pub(super) fn send(&mut self, token: u64, lane: usize) {
        let Some(batch) = self.hand.batches.get_mut(&token) else { return };
        self.idle.retain(|idle| *idle != lane);
        batch.place = Place::Lane;
        let on_repeat = if batch.repeat { OnRepeat::Skip } else { OnRepeat::Fail };
        // From here on it may be stored.
        batch.repeat = true;
        // A lane ends only with the worker.
        let _ = self.lanes[lane].send(Job { token, rows: Arc::clone(&batch.rows), on_repeat });
    }

    /// Does what a lane's answer asks for.
    fn written(&mut self, Done { lane, token, result }: Done) {
        let now = Instant::now();
        self.idle.push(lane);
        match result {
            Ok(()) => {
                self.health.answered(self.spooling.as_ref().is_some_and(|spooling| spooling.in_use));
                self.commit(token);
            }
            Err(error) if error.fault == Fault::Row => {
                self.health.answered(false);
                self.refused(token, &error, now);
            }
            Err(error) => {
                self.shared.counters.retries.fetch_add(1, Ordering::Relaxed);
                self.health.failed(token, &error, &self.policy, self.spooling.is_some(), now);
                self.hand_back(token, error.fault);
            }
        }
    }

    pub(super) fn commit(&mut self, token: u64) {
        let Some(batch) = self.hand.batches.remove(&token) else { return };
        if let Some(spooling) = &mut self.spooling {
            spooling.leave_none_out();
        }
        let told = self.shared.settle(&batch.ranges, &Delivery::Committed).told;
        self.returning.answered(told, Instant::now());
        if batch.replayed {
            self.shared.counters.replayed.fetch_add(batch.entries(), Ordering::Relaxed);
        }
        self.let_go(&batch);
    }

    /// A batch with a row that the database refuses: halves, until that row is alone.
    fn refused(&mut self, token: u64, error: &SinkError, now: Instant) {
        let Some(batch) = self.hand.batches.remove(&token) else { return };
        if batch.rows.len() > 1 {
            for half in batch.halves(self.shared.writer_id) {
                let token = self.hand.add(half);
                self.hand.ready.push_front(token);
            }
            return;
        }
        self.health.refused(error, now);
        match &mut self.spooling {
            Some(spooling) if spooling.is_usable(now) => {
                let rows = Arc::clone(&batch.rows);
                let token = self.hand.add(super::hand::Batch { place: Place::Aside, ..batch });
                spooling.set_aside(token, &rows, error.reason.clone(), error.sqlstate.clone());
            }
            _ => self.quarantine(batch, error.sqlstate.as_deref()),
        }
    }

    /// Settles a batch of one refused row.
    pub(super) fn quarantine(&mut self, batch: super::hand::Batch, sqlstate: Option<&str>) {
        let news = self.shared.settle(&batch.ranges, &Delivery::Quarantined).news;
        // Once: the copy in the spool of a batch that was halved since holds refused rows as well, and
        // may be replayed.
        if news > 0 {
            self.life.quarantined(&batch.rows[0], sqlstate, Instant::now());
        }
        self.let_go(&batch);
    }

    /// Takes back a batch that a lane could not write.
    fn hand_back(&mut self, token: u64, fault: Fault) {
        let Some(batch) = self.hand.batches.get_mut(&token) else { return };
        if batch.replayed {
            // It lies in the spool: no need to hold it here as well.
            if let (Fault::SetUp, Some(spooling), Some(kept)) = (fault, &mut self.spooling, &batch.kept) {
                spooling.leave_out(&kept.ids.borrow());
            }
            return self.back_to_spool(token);
        }
        batch.place = Place::Ready;
        match fault {
            // In the order of arrival.
            Fault::Moment => self.hand.ready.push_front(token),
            // Another one may go in where this one does not, and then tell whose fault it is.
            Fault::SetUp | Fault::Row => self.hand.ready.push_back(token),
        }
    }

    /// Drops what is done with: the room it took, and its copy in the spool.
    pub(super) fn let_go(&mut self, batch: &super::hand::Batch) {
        self.hand.taken.entries -= batch.weight.entries;
        self.hand.taken.bytes -= batch.weight.bytes;
        self.shared.queue.release(batch.weight);
        if let (Some(kept), Some(spooling)) = (&batch.kept, &self.spooling) {
            kept.parts.set(kept.parts.get() - 1);
            if kept.parts.get() == 0 {
                spooling.remove(&kept.ids.borrow());
            } else if !self.hand.holds(kept) {
                spooling.put_back(&kept.ids.borrow());
            }
        }
        if batch.replayed {
            self.say_if_replayed();
        }
    }

    /// Passes on the losses that were noted since the last look, those at the callers' included.
    pub(super) fn hear_losses(&mut self, now: Instant) {
        self.health.log_refusals(self.shared.refused(), now);
        let losses = lock(&self.shared.losses).take();
        if !losses.is_empty() {
            super::end::tell(self.on_loss.as_ref(), &losses);
            self.life.lost(losses, now);
        }
    }

    pub(super) fn resolved_through(&self) -> u64 {
        lock(&self.shared.ledger).resolved_through()
    }

    /// What waits in the queue, not yet in a batch.
    pub(super) fn waiting(&self) -> Weight {
        let held = self.shared.queue.held();
        Weight {
            entries: held.entries.saturating_sub(self.hand.taken.entries),
            bytes: held.bytes.saturating_sub(self.hand.taken.bytes),
        }
    }

    fn note_oldest(&self) {
        let batches =
            self.hand.batches.values().filter(|batch| !batch.ranges.is_empty()).map(|batch| batch.since);
        let oldest = batches.chain(self.gathering_since).min();
        let since_start =
            |at: Instant| at.saturating_duration_since(self.shared.started).as_micros() as u64 + 1;
        self.shared.counters.oldest.store(oldest.map_or(0, since_start), Ordering::Relaxed);
    }

    /// True while it is not worth to sleep: a lane is idle, and callers who were just answered are on
    /// their way back. Timers are too coarse for that.
    fn expects_more(&self, now: Instant) -> bool {
        self.returning.more_than(self.waiting().entries, now) && self.takes_more(now)
    }

    /// How long to wait for something to happen.
    fn pause(&mut self, now: Instant) -> Duration {
        let deadlines = [lock(&self.shared.ledger).next_deadline(), self.next_turn(now)];
        let bound = deadlines
            .into_iter()
            .flatten()
            .min()
            .map_or(LONG, |deadline| deadline.saturating_duration_since(now));
        #[cfg(feature = "metrics")]
        let bound = bound.min(self.shared.metrics_pause(now));
        let waiting = self.waiting().entries > 0;
        if waiting && self.takes_more(now) {
            self.idle_looks = 0;
            return bound.min(LINGER);
        }
        if waiting {
            // Nothing to look for until a lane comes back; with a spool, how full the queue is.
            return if self.spooling.is_some() { bound.min(LEVEL_LOOK) } else { bound };
        }
        if self.idle_looks < IDLE_LOOKS {
            self.idle_looks += 1;
            return bound.min(LINGER);
        }
        // To sleep; then one more look, for who pushed before the flag was up (see `AuditWriter::push`).
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.waiting().entries > 0 {
            self.shared.asleep.store(false, Ordering::SeqCst);
            return bound.min(LINGER);
        }
        bound
    }

    /// Loses what is in hand, at the end of the time given.
    pub(super) fn give_up(&mut self) {
        for (_, batch) in std::mem::take(&mut self.hand.batches) {
            self.shared.queue.release(batch.weight);
            if batch.is_kept() {
                // Settled as spooled, and so it stays.
                continue;
            }
            // What was sent, to the database or to the disk, may be there.
            let delivery = match batch.repeat || batch.kept.is_some() {
                true => Delivery::Unknown,
                false => Delivery::Dropped(DropReason::ShutDown),
            };
            self.shared.settle(&batch.ranges, &delivery);
        }
        if let Some((range, weight)) = self.gatherer.carried() {
            self.shared.settle(&[range], &Delivery::Dropped(DropReason::ShutDown));
            self.shared.queue.release(weight);
        }
    }
}
