//! Who writes the entries? A thread of its own, fed by a bounded queue.
//!
//! `mod.rs` is the handle and the guard; `config.rs` starts them; `queue.rs` bounds what waits;
//! `batch.rs` decides what goes together; `worker.rs` is the thread; `ledger.rs` knows what became
//! of each entry, `receipt.rs` tells it; `stats.rs` counts, `metrics.rs` passes the counts on; `life.rs` is
//! what goes on record about the writer itself.

mod batch;
mod config;
mod end;
mod flow;
mod hand;
mod health;
mod ledger;
mod life;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(test)]
mod model_tests;
mod queue;
mod receipt;
mod retry;
mod returning;
mod spooling;
mod stats;
mod worker;

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use audit_core::Size;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::batch::{Entries, Group};
use self::ledger::{Ledger, Range};
use self::life::Losses;
use self::queue::{Queue, QueueError};
use self::stats::Counters;
use super::{AuditEntry, limits};

pub use config::{AuditWriterBuilder, Durability};
pub use life::Loss;
pub use receipt::{Delivery, DeliveryCounts, DropReason, Receipt};
pub use retry::RetryPolicy;
pub use stats::{WriterReport, WriterStats};

use crate::client::Database;

/// The rows of a batch.
pub(super) type Rows = Arc<Vec<db_schema::NewAuditLog>>;

/// Writes entries to a database from a thread of its own, with its own connections.
///
/// A handle: cheap to clone, usable from any thread, inside or outside any runtime. It outlives the
/// runtime it was made in. The writer runs until its [`WriterGuard`] is dropped or shut down.
///
/// A process that forks after the start must not use the writer in the child: threads do not
/// survive a fork.
#[derive(Clone)]
pub struct AuditWriter {
    shared: Handle,
}

/// How a handle holds on to the writer.
#[derive(Clone)]
enum Handle {
    Counted(Arc<Shared>),
    /// The writer of the process stays to its end: nothing is counted, which two threads that write
    /// at the same time would wait for.
    Lasting(&'static Shared),
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        match self {
            Self::Counted(shared) => shared,
            Self::Lasting(shared) => shared,
        }
    }
}

/// Keeps a writer running. Dropping it drains the queue, for at most the builder's
/// [`shutdown_timeout`](AuditWriterBuilder::shutdown_timeout), and stops the writer.
///
/// Dropping blocks the thread for that time; [`shutdown`](Self::shutdown) waits without blocking.
#[must_use = "dropping the guard stops the writer"]
#[derive(Debug)]
pub struct WriterGuard {
    writer: AuditWriter,
    timeout: Duration,
}

/// An entry that takes more than a 64th of the queue's bytes is cut before it is queued.
const LARGE: usize = 64;

/// What the handles and the thread have in common.
pub(super) struct Shared {
    /// The database's name in log lines.
    name: String,
    /// Kept: one in memory ends with its last owner.
    _database: Option<Database>,
    started: Instant,
    writer_id: Uuid,
    queue: Queue<Group>,
    wake: Notify,
    ledger: Mutex<Ledger>,
    /// What was lost and not yet looked at by the thread.
    losses: Mutex<Losses>,
    /// True once an entry came after the end, which is logged once.
    came_late: AtomicBool,
    counters: Counters,
    #[cfg(feature = "metrics")]
    metrics: Mutex<metrics::Metrics>,
    receipt_timeout: Duration,
    /// The earliest time by which a shutdown was asked to be done.
    shut_by: Mutex<Option<Instant>>,
    finished: watch::Sender<bool>,
    finished_lock: Mutex<bool>,
    finished_condition: Condvar,
}

/// What came of settling ranges.
struct Settled {
    /// Of how many entries it was news.
    news: u64,
    /// How many callers heard of it.
    told: usize,
}

impl AuditWriter {
    /// Begins to set up a writer on a database.
    pub fn builder(database: Database) -> AuditWriterBuilder {
        AuditWriterBuilder::new(database)
    }

    /// Takes an entry. Returns at once: never waits, fails or panics. Await the receipt to hear
    /// what became of it, or drop it.
    pub fn write(&self, entry: AuditEntry) -> Receipt {
        self.clone().write_once(entry)
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared: Handle::Counted(shared) }
    }

    /// A handle to a writer that is there to the end of the process.
    pub(super) fn lasting(&'static self) -> Self {
        Self { shared: Handle::Lasting(&self.shared) }
    }

    /// Does what [`write`](Self::write) does with a handle that goes into the receipt: counting one
    /// handle more costs as much as a tenth of the call.
    #[inline]
    pub(super) fn write_once(self, mut entry: AuditEntry) -> Receipt {
        // It lies in its place in the queue.
        let bytes = Queue::<Group>::PLACE + self.weigh(&mut entry) - size_of::<AuditEntry>();
        self.push(entry, Size { entries: 1, bytes })
    }

    /// Takes many entries, all or none, and writes them with one INSERT (1,000 rows or 4 MiB at most,
    /// beyond that with several). Returns at once, as [`write`](Self::write). More entries than the queue
    /// may hold are never taken together.
    pub fn write_all(&self, entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
        let mut entries: Vec<AuditEntry> = entries.into_iter().collect();
        if entries.is_empty() {
            return Receipt::settled(&Delivery::Committed, 0);
        }
        let spare = (entries.capacity() - entries.len()) * size_of::<AuditEntry>();
        let bytes =
            Queue::<Group>::PLACE + spare + entries.iter_mut().map(|entry| self.weigh(entry)).sum::<usize>();
        let size = Size { entries: entries.len(), bytes };
        self.clone().push(entries, size)
    }

    /// The size of an entry. One that takes a large part of the queue is cut to its limits first, here on
    /// the caller's thread: otherwise it would be refused for its size, or others would be because of it.
    #[inline]
    fn weigh(&self, entry: &mut AuditEntry) -> usize {
        limits::weigh_within(entry, self.shared.queue.bound().bytes / LARGE)
    }

    /// Numbers entries and queues them.
    #[inline]
    fn push(self, entries: impl Into<Entries>, size: Size) -> Receipt {
        let shared = &*self.shared;
        let count = size.entries as u64;
        let first_seq = shared.queue.reserve_numbers(count);
        let range = Range { first: first_seq, last: first_seq + count - 1 };
        let permit = match shared.queue.admit(size) {
            Ok(permit) => permit,
            Err(error) => return shared.refuse(range, error),
        };
        if shared.queue.put(Group { first_seq, entries: entries.into() }, permit) {
            shared.wake.notify_one();
        }
        Receipt::numbered(self, range)
    }

    /// Waits until what was written before this call is settled, at most `timeout`. The report's
    /// `pending` tells whether that was enough.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn flush(&self, timeout: Duration) -> WriterReport {
        let last = self.shared.given();
        if last > 0 {
            self.shared.settled_by(Range { first: 1, last }, deadline(timeout)).await;
        }
        self.shared.report()
    }

    /// Gives the counters.
    pub fn stats(&self) -> WriterStats {
        self.shared.stats()
    }

    /// True once the writer takes no more entries.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.queue.is_closed()
    }

    pub(super) async fn shut_down(&self, timeout: Duration) -> WriterReport {
        self.shared.close(deadline(timeout));
        let mut finished = self.shared.finished.subscribe();
        // The sender lives in `shared`, so this ends only with the thread.
        let _ = finished.wait_for(|finished| *finished).await;
        self.shared.report()
    }

    pub(super) fn shut_down_blocking(&self, timeout: Duration) -> WriterReport {
        self.shared.close(deadline(timeout));
        let mut finished = lock(&self.shared.finished_lock);
        while !*finished {
            finished = self.shared.finished_condition.wait(finished).unwrap_or_else(PoisonError::into_inner);
        }
        drop(finished);
        self.shared.report()
    }
}

impl fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWriter")
            .field("database", &self.shared.name)
            .field("stats", &self.stats())
            .finish()
    }
}

impl WriterGuard {
    /// Takes no more entries, writes what is queued for at most `timeout`, and stops the writer.
    /// What is left then goes to the spool, if there is one; without one it is lost, counted and
    /// logged. For that a writer with a spool turns to it after half the time.
    ///
    /// # Cancel safety
    /// Dropping the future drops the guard, which waits as any drop of it does.
    pub async fn shutdown(self, timeout: Duration) -> WriterReport {
        self.writer.shut_down(timeout).await
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        self.writer.shut_down_blocking(self.timeout);
    }
}

impl Shared {
    fn new(name: String, database: Option<Database>, bound: Size, receipt_timeout: Duration) -> Self {
        Self {
            name,
            _database: database,
            started: Instant::now(),
            writer_id: Uuid::now_v7(),
            queue: Queue::new(bound),
            wake: Notify::new(),
            ledger: Mutex::default(),
            losses: Mutex::default(),
            came_late: AtomicBool::new(false),
            counters: Counters::default(),
            #[cfg(feature = "metrics")]
            metrics: Mutex::default(),
            receipt_timeout,
            shut_by: Mutex::new(None),
            finished: watch::Sender::new(false),
            finished_lock: Mutex::new(false),
            finished_condition: Condvar::new(),
        }
    }

    /// Loses entries that the queue did not take.
    #[cold]
    fn refuse(&self, range: Range, error: QueueError) -> Receipt {
        let reason = match error {
            QueueError::Full => DropReason::QueueFull,
            QueueError::Closed => DropReason::ShutDown,
        };
        self.counters.refused.fetch_add(range.len(), Ordering::Relaxed);
        self.settle(&[range], &Delivery::Dropped(reason.clone()));
        if error == QueueError::Closed && !self.came_late.swap(true, Ordering::Relaxed) {
            log::error!("audit: an entry came after the writer's shutdown: it and all later ones are lost");
        }
        // For the log line; the thread may be asleep if this alone was too large.
        self.wake.notify_one();
        Receipt::settled(&Delivery::Dropped(reason), range.len())
    }

    /// Notes what became of these ranges and counts them.
    fn settle(&self, ranges: &[Range], delivery: &Delivery) -> Settled {
        let mut ledger = lock(&self.ledger);
        let change = ledger.settle(ranges, delivery);
        self.counters.count(delivery, change);
        let told = ledger.tell();
        drop(ledger);
        if let Delivery::Dropped(reason) = delivery {
            let mut losses = lock(&self.losses);
            ranges.iter().for_each(|range| losses.note(*range, reason));
        }
        Settled { news: change.settled + change.unspooled, told }
    }

    /// Waits for what became of a range, at most the time that a receipt may take.
    async fn outcome(&self, range: Range) -> DeliveryCounts {
        self.settled_by(range, deadline(self.receipt_timeout)).await
    }

    async fn settled_by(&self, range: Range, deadline: Instant) -> DeliveryCounts {
        let answer = {
            let mut ledger = lock(&self.ledger);
            match ledger.outcome(range) {
                Some(counts) => return counts,
                None => ledger.wait(range, deadline),
            }
        };
        self.wake.notify_one();
        // An answer always comes: the thread settles everything before it ends, however it ends.
        answer.await.unwrap_or_else(|_| lock(&self.ledger).outcome(range).unwrap_or_default())
    }

    /// Takes no more entries; the thread is to be done by the deadline.
    fn close(&self, deadline: Instant) {
        self.queue.close();
        let mut shut_by = lock(&self.shut_by);
        *shut_by = Some(shut_by.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(shut_by);
        self.wake.notify_one();
    }

    fn finish(&self) {
        *lock(&self.finished_lock) = true;
        self.finished_condition.notify_all();
        self.finished.send_replace(true);
    }

    fn given(&self) -> u64 {
        self.queue.submitted()
    }

    /// Entries that did not get into the queue.
    fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed)
    }

    fn stats(&self) -> WriterStats {
        let held = self.queue.held();
        let stats = self.counters.stats(self.given(), self.started.elapsed());
        WriterStats { queued: held.entries, queued_bytes: held.bytes, ..stats }
    }

    fn report(&self) -> WriterReport {
        self.counters.report(self.given())
    }
}

/// The moment `timeout` from now; a century from now if that is beyond what the clock holds.
fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

/// Locks a mutex; a panic elsewhere must not spread to who writes an entry.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
