//! The writer: a thread of its own, fed by a bounded queue.
//!
//! This file is the handle and the guard; `builder.rs` sets one up. The decisions are
//! [`audit_core::writer::Core`]'s; `driver.rs` carries them out, `lanes.rs` writes its batches. `shared.rs` is
//! what the callers' threads and the writer's share, `queue.rs` bounds what waits, `batcher.rs` makes batches
//! of it. `notices.rs` turns what the core reports into log lines (`audit/records.rs` into rows), `stats.rs` counts,
//! `metrics.rs` passes the counts on, `finish.rs` settles what is left at the end.

mod batcher;
mod builder;
mod driver;
mod finish;
mod lanes;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(test)]
mod model_tests;
mod notices;
mod queue;
mod receipt;
mod shared;
mod start;
mod stats;

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use audit_core::{SeqRange, Size};

use self::batcher::{Entries, EntryGroup};
use self::queue::Queue;
use super::{AuditEntry, context, limits};

pub use audit_core::writer::RetryPolicy;
pub use audit_core::{Delivery, DeliveryCounts, DropReason, Loss};
pub use builder::{AuditWriterBuilder, Durability};
pub use receipt::Receipt;
pub use stats::{WriterReport, WriterStats};

pub(super) use shared::Shared;
pub(super) use start::start_from_environment;

use crate::client::Database;

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

/// An entry that takes more than one part of this many of the queue's bytes is cut before it is queued.
const LARGE_PART: usize = 64;

/// A callback for losses.
pub(super) type OnLoss = Arc<dyn Fn(&Loss) + Send + Sync>;

/// How a handle refers to the writer.
#[derive(Clone)]
enum Handle {
    Shared(Arc<Shared>),
    /// The writer of the process is never dropped: nothing is counted, which two threads that write
    /// at the same time would wait for.
    Static(&'static Shared),
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        match self {
            Self::Shared(shared) => shared,
            Self::Static(shared) => shared,
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
    /// None once it was shut down: dropping the guard has nothing to wait for then.
    writer: Option<AuditWriter>,
    timeout: Duration,
}

impl AuditWriter {
    /// Begins to set up a writer on a database.
    pub fn builder(database: Database) -> AuditWriterBuilder {
        AuditWriterBuilder::new(database)
    }

    /// Takes an entry. Returns at once: never waits, fails or panics. Await the receipt to learn
    /// what became of it, or drop it.
    pub fn write(&self, entry: AuditEntry) -> Receipt {
        self.clone().write_owned(entry)
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared: Handle::Shared(shared),
        }
    }

    /// A handle to a writer that exists to the end of the process.
    pub(super) fn to_static(&'static self) -> Self {
        Self {
            shared: Handle::Static(&self.shared),
        }
    }

    /// Does what [`write`](Self::write) does with a handle that goes into the receipt: counting one
    /// handle more costs as much as a tenth of the call.
    #[inline]
    pub(super) fn write_owned(self, mut entry: AuditEntry) -> Receipt {
        context::fill(std::slice::from_mut(&mut entry));
        // It is in its slot of the queue.
        let bytes = Queue::<EntryGroup>::PLACE + self.estimated_size(&mut entry) - size_of::<AuditEntry>();
        self.push(entry, Size { entries: 1, bytes })
    }

    /// Takes many entries, all or none, and writes them with one INSERT (at most 1,000 rows or 4 MiB, beyond
    /// that with several). Returns at once, as [`write`](Self::write). More entries than the queue may hold
    /// are never taken together.
    pub fn write_all(&self, entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
        let mut entries: Vec<AuditEntry> = entries.into_iter().collect();
        context::fill(&mut entries);
        let spare = (entries.capacity() - entries.len()) * size_of::<AuditEntry>();
        let held: usize = entries.iter_mut().map(|entry| self.estimated_size(entry)).sum();
        let size = Size {
            entries: entries.len(),
            bytes: Queue::<EntryGroup>::PLACE + spare + held,
        };
        self.clone().push(entries, size)
    }

    /// The size of an entry. One that takes a large part of the queue is cut to its limits first, here on
    /// the caller's thread: otherwise it would be refused for its size, or others would be because of it.
    #[inline]
    fn estimated_size(&self, entry: &mut AuditEntry) -> usize {
        limits::estimated_size_within(entry, self.shared.queue.bound().bytes / LARGE_PART)
    }

    /// Numbers entries and queues them.
    #[inline]
    fn push(self, entries: impl Into<Entries>, size: Size) -> Receipt {
        let shared = &*self.shared;
        let Some(range) = shared.reserve(size.entries as u64) else {
            return Receipt::settled(&Delivery::Committed, 0);
        };
        let permit = match shared.queue.admit(size) {
            Ok(permit) => permit,
            Err(error) => return shared.refuse(range, error),
        };
        let group = EntryGroup {
            first_seq: range.first,
            entries: entries.into(),
        };
        if shared.queue.put(group, permit) {
            shared.wake();
        }
        Receipt::numbered(self, range)
    }

    /// Waits until what was written before this call is settled, at most `timeout`. The report's
    /// `pending` tells whether that was enough.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn flush(&self, timeout: Duration) -> WriterReport {
        let last = self.shared.submitted();
        if last > 0 {
            let range = SeqRange { first: 1, last };
            let deadline = self.shared.now() + timeout;
            // The writer's thread answers at the deadline, unless user code blocks it.
            self.shared
                .within(timeout, self.shared.settled_by(range, deadline))
                .await;
        }
        self.shared.report()
    }

    /// Returns the counters.
    pub fn stats(&self) -> WriterStats {
        self.shared.stats()
    }

    /// True once the writer takes no more entries.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.queue.is_closed()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) async fn shut_down(&self, timeout: Duration) -> WriterReport {
        let deadline = self.shared.now() + timeout;
        self.shared.close(deadline);
        if self.shared.finished_by(deadline).await {
            self.shared.last_report()
        } else {
            self.shared.report()
        }
    }

    pub(super) fn shut_down_blocking(&self, timeout: Duration) -> WriterReport {
        block_on(self.shut_down(timeout))
    }
}

impl fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWriter")
            .field("database", &self.shared.name())
            .field("stats", &self.stats())
            .finish()
    }
}

impl WriterGuard {
    pub(super) fn new(writer: AuditWriter, timeout: Duration) -> Self {
        Self {
            writer: Some(writer),
            timeout,
        }
    }

    /// Takes no more entries, writes what is queued for at most `timeout`, and stops the writer. While the
    /// database accepts rows, the spool is replayed too. The rest is in the spool, if there is one;
    /// without one it is lost, counted and logged. For that a writer with a spool turns to it after half the
    /// time.
    ///
    /// # Cancel safety
    /// Dropping the future drops the guard, which waits as any drop of it does.
    pub async fn shutdown(mut self, timeout: Duration) -> WriterReport {
        let report = match &self.writer {
            Some(writer) => writer.shut_down(timeout).await,
            None => WriterReport::default(),
        };
        self.writer = None;
        report
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.shut_down_blocking(self.timeout);
        }
    }
}

/// Blocks the thread until a future is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
