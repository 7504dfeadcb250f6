//! A writer's counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit_core::ledger::SettleDelta;
use audit_core::writer::Counter;
use audit_core::{Fate, Time};

use super::DropReason;

/// A writer's counters, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Entries submitted to it.
    pub submitted: u64,
    /// Entries that it took into its queue; the others were dropped at once.
    pub accepted: u64,
    /// Entries in the database.
    pub committed: u64,
    /// Entries that wait in the local spool now.
    pub spooled: u64,
    /// Entries committed from the spool, those of earlier writers included.
    pub replayed: u64,
    /// Entries the database refuses.
    pub quarantined: u64,
    /// Entries lost, for any reason of [`DropReason`](crate::audit::DropReason).
    pub dropped: u64,
    /// Entries the database was still working on when the writer was shut down.
    pub unknown: u64,
    /// Attempts to write a batch that failed and were repeated.
    pub retries: u64,
    /// Entries in memory now: queued, or on their way.
    pub queued: usize,
    /// The memory those hold, in bytes, estimated from above.
    pub queued_bytes: usize,
    /// How long the oldest of those has been waiting, from when the writer's thread first saw it.
    pub oldest_age: Duration,
}

/// What a flush or a shutdown leaves behind: totals since the writer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterReport {
    /// Entries in the database.
    pub committed: u64,
    /// Entries in the local spool.
    pub spooled: u64,
    /// Entries that the database rejects; in the quarantine if there is a spool directory.
    pub quarantined: u64,
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
    committed: AtomicU64,
    spooled: AtomicU64,
    quarantined: AtomicU64,
    /// By reason.
    dropped: [AtomicU64; DropReason::LABELS.len()],
    unknown: AtomicU64,
    /// Those of the dropped that did not get into the queue.
    pub(super) refused: AtomicU64,
    replayed: AtomicU64,
    retries: AtomicU64,
    /// When the oldest entry in memory was first seen, in microseconds after the writer's start, and
    /// one more; 0 if there is none.
    oldest: AtomicU64,
}

impl Counters {
    /// Counts what the ledger changed to `fate`.
    pub(super) fn count(&self, fate: &Fate, delta: SettleDelta) {
        let counter = match fate {
            Fate::Committed => &self.committed,
            Fate::Spooled => &self.spooled,
            Fate::Quarantined => &self.quarantined,
            Fate::Dropped(reason) => &self.dropped[reason.index()],
            Fate::Unknown => &self.unknown,
        };
        self.spooled.fetch_sub(delta.unspooled, Ordering::Relaxed);
        counter.fetch_add(delta.total(), Ordering::Relaxed);
    }

    pub(super) fn add(&self, counter: Counter, count: u64) {
        let counter = match counter {
            Counter::Replayed => &self.replayed,
            Counter::Retries => &self.retries,
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn set_oldest(&self, since: Option<Time>) {
        let micros = since.map_or(0, |since| since.as_nanos() / 1_000 + 1);
        self.oldest.store(micros, Ordering::Relaxed);
    }

    /// Entries lost, by reason in the order of [`DropReason::LABELS`].
    pub(super) fn dropped(&self) -> [u64; DropReason::LABELS.len()] {
        self.dropped.each_ref().map(of)
    }

    pub(super) fn report(&self, submitted: u64) -> WriterReport {
        let mut report = WriterReport {
            committed: of(&self.committed),
            spooled: of(&self.spooled),
            quarantined: of(&self.quarantined),
            lost: self.dropped().iter().sum(),
            pending: 0,
            unknown: of(&self.unknown),
        };
        let settled = report.committed + report.spooled + report.quarantined + report.lost + report.unknown;
        report.pending = submitted.saturating_sub(settled);
        report
    }

    pub(super) fn stats(&self, submitted: u64, uptime: Duration) -> WriterStats {
        let report = self.report(submitted);
        let oldest = of(&self.oldest).checked_sub(1).map(Duration::from_micros);
        WriterStats {
            submitted,
            accepted: submitted.saturating_sub(of(&self.refused)),
            committed: report.committed,
            spooled: report.spooled,
            replayed: of(&self.replayed),
            quarantined: report.quarantined,
            dropped: report.lost,
            unknown: report.unknown,
            retries: of(&self.retries),
            oldest_age: oldest.map_or(Duration::ZERO, |seen| uptime.saturating_sub(seen)),
            ..WriterStats::default()
        }
    }
}

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
