//! What has a writer done so far?

use std::sync::atomic::{AtomicU64, Ordering};

/// A writer's counters, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Entries it was given.
    pub given: u64,
    /// Entries in the database.
    pub committed: u64,
    /// Entries lost: refused by a full queue, by the database, or at shutdown.
    pub dropped: u64,
    /// Entries the database was still working on when the writer was shut down.
    pub unknown: u64,
    /// Entries that wait in the queue now.
    pub queued: usize,
    /// The memory those hold, in bytes, estimated from above.
    pub queued_bytes: usize,
}

/// What a flush or a shutdown leaves behind: totals since the writer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterReport {
    /// Entries in the database.
    pub committed: u64,
    /// Entries in the local spool.
    pub spooled: u64,
    /// Entries dropped.
    pub lost: u64,
    /// Entries not settled within the time-out; none after a shutdown.
    pub pending: u64,
    /// Entries the database was still working on when the time of a shutdown was up: committed or
    /// not, nobody knows.
    pub unknown: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) committed: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Those of the dropped that did not get into the queue.
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
}

impl Counters {
    pub(super) fn report(&self, given: u64) -> WriterReport {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (committed, lost, unknown) = (of(&self.committed), of(&self.dropped), of(&self.unknown));
        WriterReport {
            committed,
            spooled: 0,
            lost,
            pending: given.saturating_sub(committed + lost + unknown),
            unknown,
        }
    }
}
