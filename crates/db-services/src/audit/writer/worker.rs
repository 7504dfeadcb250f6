//! What does the writer's thread do, and in which order?
//!
//! It takes batches from the queue, hands each to an idle lane (a sink with a task of its own, so
//! that a statement under way is never cancelled), and settles what comes back. It never blocks:
//! deadlines are kept even while the database hangs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use db_schema::NewAuditLog;
use tokio::sync::mpsc;

use super::batch::{Batch, Gatherer};
use super::ledger::Range;
use super::queue::Weight;
use super::receipt::{Delivery, DropReason};
use super::{Shared, lock};
use crate::audit::insert::BATCH_ROWS;
use crate::audit::sink::{Sink, SinkError};

/// What one statement holds at the most.
const BATCH: Weight = Weight { entries: BATCH_ROWS, bytes: 4 << 20 };

/// How long a forgotten entry may wait for company, and how often a busy writer looks for more.
const LINGER: Duration = Duration::from_millis(1);

/// How many looks at an empty queue come before sleep: who writes now and then is spared the cost
/// of waking the thread each time.
const IDLE_LOOKS: u32 = 20;

/// A sleep that only a wake-up ends.
const LONG: Duration = Duration::from_secs(3_600);

/// How often a loss that goes on is logged again.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Starts the thread, with a lane for each sink.
pub(super) fn start<S: Sink>(shared: Arc<Shared>, sinks: Vec<S>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("audit-writer".to_owned()).spawn(move || {
        // Dropped last, also when the loop panics.
        let ending = Ending(shared);
        runtime.block_on(async { Worker::new(Arc::clone(&ending.0), sinks).run().await });
        // A statement that still hangs is given up with the runtime.
        runtime.shutdown_background();
    })?;
    Ok(())
}

/// Settles whatever the thread leaves behind, and says that it ended.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.queue.close();
        // What a caller has counted and not yet pushed comes in a moment.
        while shared.queue.held().entries > 0 {
            match shared.queue.pop() {
                Some((group, weight)) => {
                    shared.settle(&[group.range(weight)], &Delivery::Dropped(DropReason::ShutDown));
                }
                None => std::thread::yield_now(),
            }
        }
        if std::thread::panicking() {
            // What the worker had in its hands: nobody knows.
            let open = lock(&shared.ledger).unsettled(shared.given());
            shared.settle(&open, &Delivery::Unknown);
        }
        let report = shared.report();
        if report.lost + report.unknown > 0 {
            log::error!(
                "audit: the writer to {} ended: {} entries committed, {} lost, {} unknown",
                shared.database,
                report.committed,
                report.lost,
                report.unknown
            );
        }
        shared.finish();
    }
}

struct Worker {
    shared: Arc<Shared>,
    gatherer: Gatherer,
    lanes: Vec<mpsc::UnboundedSender<Vec<NewAuditLog>>>,
    /// The lanes with nothing to do.
    idle: Vec<usize>,
    /// What each lane is writing.
    under_way: Vec<Vec<Range>>,
    done: mpsc::UnboundedReceiver<Done>,
    /// Since when forgotten entries wait for company.
    gathering_since: Option<Instant>,
    idle_looks: u32,
    /// How many entries the database did not take since it last took any; none if it does.
    outage: Option<u64>,
    /// When the full queue was last logged, and how many entries it had refused by then.
    refusals_logged: (Option<Instant>, u64),
}

/// What became of a lane's batch.
struct Done {
    lane: usize,
    result: Result<(), SinkError>,
}

impl Worker {
    fn new<S: Sink>(shared: Arc<Shared>, sinks: Vec<S>) -> Self {
        let (finished, done) = mpsc::unbounded_channel();
        let idle: Vec<usize> = (0..sinks.len()).collect();
        let under_way = vec![Vec::new(); sinks.len()];
        let lanes = sinks
            .into_iter()
            .enumerate()
            .map(|(lane, mut sink)| {
                let (sender, mut batches) = mpsc::unbounded_channel();
                let finished = finished.clone();
                tokio::spawn(async move {
                    while let Some(rows) = batches.recv().await {
                        let result = sink.write(rows).await;
                        // The worker is gone only when everything ends.
                        let _ = finished.send(Done { lane, result });
                    }
                });
                sender
            })
            .collect();
        Self {
            shared,
            gatherer: Gatherer::new(BATCH),
            lanes,
            idle,
            under_way,
            done,
            gathering_since: None,
            idle_looks: 0,
            outage: None,
            refusals_logged: (None, 0),
        }
    }

    /// Runs until it is told to end and everything is settled, or its time is up.
    async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.send_batches(now);
            self.log_refusals(now);
            lock(&self.shared.ledger).expire(now);
            let shut_by = *lock(&self.shared.shut_by);
            if shut_by.is_some() && (self.is_done() || shut_by.is_some_and(|by| by <= now)) {
                return self.give_up();
            }
            let until = now + self.pause(shut_by, now);
            tokio::select! {
                biased;
                Some(done) = self.done.recv() => self.settle(done),
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        !self.waiting() && self.idle.len() == self.lanes.len()
    }

    fn waiting(&self) -> bool {
        self.gatherer.carried().is_some() || self.shared.queue.held().entries > 0
    }

    /// Gives every idle lane a batch, if one is due.
    fn send_batches(&mut self, now: Instant) {
        while let Some(&lane) = self.idle.last() {
            if !self.is_due(now) {
                return;
            }
            let batch = self.gatherer.next(&self.shared.queue);
            if batch.entries.is_empty() {
                // Counted but not pushed yet: the next look finds it.
                return;
            }
            self.gathering_since = None;
            self.idle.pop();
            self.under_way[lane] = Range::of(batch.entries.iter().map(|(seq, _)| *seq).collect());
            // A lane ends only with the worker.
            let _ = self.lanes[lane].send(self.prepare(batch));
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let held = self.shared.queue.held();
        if held.entries == 0 && self.gatherer.carried().is_none() {
            self.gathering_since = None;
            return false;
        }
        let enough =
            held.entries >= BATCH.entries || held.bytes >= BATCH.bytes || self.gatherer.carried().is_some();
        let urgent = enough || self.shared.queue.is_closed() || lock(&self.shared.ledger).is_awaited();
        urgent || now.duration_since(*self.gathering_since.get_or_insert(now)) >= LINGER
    }

    /// Makes the rows of a batch: here, on the writer's thread, limits are applied and JSON is
    /// written.
    fn prepare(&self, batch: Batch) -> Vec<NewAuditLog> {
        let row = |(seq, entry)| {
            let mut row = NewAuditLog::from(entry);
            row.writer_id = Some(self.shared.writer_id);
            row.writer_seq = i64::try_from(seq).ok();
            row
        };
        batch.entries.into_iter().map(row).collect()
    }

    /// Settles what the worker still has when its time is up; the queue's rest is settled by
    /// [`Ending`].
    fn give_up(mut self) {
        for ranges in &self.under_way {
            self.shared.settle(ranges, &Delivery::Unknown);
        }
        if let Some(range) = self.gatherer.carried() {
            self.shared.settle(&[range], &Delivery::Dropped(DropReason::ShutDown));
        }
        self.log_refusals(Instant::now());
    }

    fn settle(&mut self, done: Done) {
        self.idle.push(done.lane);
        let ranges = std::mem::take(&mut self.under_way[done.lane]);
        let delivery = match done.result {
            Ok(()) => {
                if let Some(lost) = self.outage.take() {
                    log::warn!("audit: {} takes entries again; {lost} were lost", self.shared.database);
                }
                Delivery::Committed
            }
            Err(SinkError(reason)) => {
                if self.outage.is_none() {
                    log::error!(
                        "audit: {} does not take entries, they are being lost: {reason} (is it up, is the table \
                         migrated, may this user insert?)",
                        self.shared.database
                    );
                }
                *self.outage.get_or_insert(0) += ranges.iter().map(|range| range.len()).sum::<u64>();
                Delivery::Dropped(DropReason::Database(reason.into()))
            }
        };
        self.shared.settle(&ranges, &delivery);
    }

    /// Says that the queue was full: at once, then once a minute while it goes on.
    fn log_refusals(&mut self, now: Instant) {
        let refused = self.shared.refused();
        let (last, known) = self.refusals_logged;
        if refused > known && last.is_none_or(|last| now.duration_since(last) >= LOSS_LOG_INTERVAL) {
            log::error!(
                "audit: the queue to {} was full: {} entries were lost (raise queue_capacity and queue_bytes, or \
                 see why the database is slow)",
                self.shared.database,
                refused - known
            );
            self.refusals_logged = (Some(now), refused);
        }
    }

    /// How long to wait for something to happen.
    fn pause(&mut self, shut_by: Option<Instant>, now: Instant) -> Duration {
        let deadline = lock(&self.shared.ledger).next_deadline().into_iter().chain(shut_by).min();
        let bound = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(now));
        if self.idle.is_empty() {
            // Every lane is busy: nothing to look for until one comes back.
            return bound;
        }
        if self.waiting() {
            self.idle_looks = 0;
            return bound.min(LINGER);
        }
        if self.idle_looks < IDLE_LOOKS {
            self.idle_looks += 1;
            return bound.min(LINGER);
        }
        // To sleep; then one more look, for who pushed before the flag was up (see `Shared::push`).
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.waiting() {
            self.shared.asleep.store(false, Ordering::SeqCst);
            return bound.min(LINGER);
        }
        bound
    }
}
