//! Passes a writer's counters on to the `metrics` facade. (Feature `metrics`; the names are in [`crate::audit`].)
//!
//! From the writer's thread: a caller that writes an entry never meets the recorder.

use std::time::Duration;

use audit_core::Time;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::shared::Shared;
use super::{DropReason, WriterStats};

/// How often changes are reported.
const INTERVAL: Duration = Duration::from_secs(1);

const DROPPED: &str = "audit_entries_dropped_total";

/// A name, where its value stands, and what it is.
type Metric<T> = (&'static str, fn(&WriterStats) -> T, &'static str);

const COUNTERS: [Metric<u64>; 7] = [
    (
        "audit_entries_submitted_total",
        |stats| stats.submitted,
        "Entries submitted to writers",
    ),
    (
        "audit_entries_accepted_total",
        |stats| stats.accepted,
        "Entries that got into the queue",
    ),
    (
        "audit_entries_committed_total",
        |stats| stats.committed,
        "Entries in the database",
    ),
    (
        "audit_entries_replayed_total",
        |stats| stats.replayed,
        "Entries committed from the spool",
    ),
    (
        "audit_entries_quarantined_total",
        |stats| stats.quarantined,
        "Entries the database refuses",
    ),
    (
        "audit_entries_unknown_total",
        |stats| stats.unknown,
        "Entries of which nobody knows",
    ),
    (
        "audit_retries_total",
        |stats| stats.retries,
        "Attempts to write a batch that failed",
    ),
];

const GAUGES: [Metric<f64>; 4] = [
    (
        "audit_spool_entries",
        |stats| stats.spooled as f64,
        "Entries that wait in the local spool",
    ),
    (
        "audit_queue_entries",
        |stats| stats.queued as f64,
        "Entries in memory",
    ),
    (
        "audit_queue_bytes",
        |stats| stats.queued_bytes as f64,
        "The memory those hold",
    ),
    (
        "audit_oldest_entry_age_seconds",
        |stats| stats.oldest_age.as_secs_f64(),
        "How long the oldest of those has been waiting",
    ),
];

/// What was reported so far.
#[derive(Default)]
pub(super) struct Metrics {
    stats: WriterStats,
    /// What the counters stand at. They never go back, as a reading beside busy callers may.
    counters: [u64; COUNTERS.len()],
    dropped: [u64; DropReason::LABELS.len()],
    at: Option<Time>,
}

impl Metrics {
    /// Reports what has changed, at most once a second.
    pub(super) fn report(&mut self, shared: &Shared, now: Time) {
        if self.at.is_none_or(|at| at + INTERVAL <= now) {
            self.report_all(shared, now);
        }
    }

    /// When there is something to report.
    pub(super) fn due_at(&self, shared: &Shared) -> Time {
        match self.at {
            Some(at) if self.stats != shared.stats() => at + INTERVAL,
            _ => Time::NEVER,
        }
    }

    /// Reports everything.
    pub(super) fn report_all(&mut self, shared: &Shared, now: Time) {
        if self.at.replace(now).is_none() {
            describe();
        }
        let database = || shared.name().to_owned();
        self.stats = shared.stats();
        for (index, (name, value, _)) in COUNTERS.into_iter().enumerate() {
            let new = value(&self.stats).saturating_sub(self.counters[index]);
            self.counters[index] += new;
            counter!(name, "database" => database()).increment(new);
        }
        for (index, all) in shared.counters.dropped().into_iter().enumerate() {
            let new = all.saturating_sub(self.dropped[index]);
            self.dropped[index] += new;
            if new > 0 {
                let reason = DropReason::LABELS[index];
                counter!(DROPPED, "database" => database(), "reason" => reason).increment(new);
            }
        }
        for (name, value, _) in GAUGES {
            gauge!(name, "database" => database()).set(value(&self.stats));
        }
    }
}

fn describe() {
    for (name, _, what) in COUNTERS {
        describe_counter!(name, Unit::Count, what);
    }
    describe_counter!(DROPPED, Unit::Count, "Entries lost");
    for (name, _, what) in GAUGES {
        let unit = match name {
            "audit_queue_bytes" => Unit::Bytes,
            "audit_oldest_entry_age_seconds" => Unit::Seconds,
            _ => Unit::Count,
        };
        describe_gauge!(name, unit, what);
    }
}
