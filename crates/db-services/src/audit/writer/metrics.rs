//! What does a writer tell the `metrics` facade? (Feature `metrics`; the names stand in [`crate::audit`].)
//!
//! The counters of `stats.rs`, from the writer's thread: a caller that writes an entry never meets the
//! recorder.

use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::worker::LONG;
use super::{DropReason, Shared, WriterStats, lock};

/// How often what has changed is told.
const EVERY: Duration = Duration::from_secs(1);

const DROPPED: &str = "audit_entries_dropped_total";

/// A name, where its value stands, and what it is.
type Metric<T> = (&'static str, fn(&WriterStats) -> T, &'static str);

const COUNTERS: [Metric<u64>; 7] = [
    ("audit_entries_given_total", |stats| stats.given, "Entries that writers were given"),
    ("audit_entries_accepted_total", |stats| stats.accepted, "Entries that got into the queue"),
    ("audit_entries_committed_total", |stats| stats.committed, "Entries in the database"),
    ("audit_entries_replayed_total", |stats| stats.replayed, "Entries committed from the spool"),
    ("audit_entries_quarantined_total", |stats| stats.quarantined, "Entries the database refuses"),
    ("audit_entries_unknown_total", |stats| stats.unknown, "Entries of which nobody knows"),
    ("audit_retries_total", |stats| stats.retries, "Attempts to write a batch that failed"),
];

const GAUGES: [Metric<f64>; 4] = [
    ("audit_spool_entries", |stats| stats.spooled as f64, "Entries that wait in the local spool"),
    ("audit_queue_entries", |stats| stats.queued as f64, "Entries in memory"),
    ("audit_queue_bytes", |stats| stats.queued_bytes as f64, "The memory those hold"),
    (
        "audit_oldest_entry_age_seconds",
        |stats| stats.oldest_age.as_secs_f64(),
        "How long the oldest of those has been waiting",
    ),
];

/// What was told so far.
#[derive(Default)]
pub(super) struct Metrics {
    stats: WriterStats,
    /// What the counters stand at. They never go back, as a reading beside busy callers may.
    counters: [u64; COUNTERS.len()],
    dropped: [u64; DropReason::LABELS.len()],
    at: Option<Instant>,
}

impl Shared {
    /// Tells what has changed, once a second at the most.
    pub(super) fn tell_metrics(&self, now: Instant) {
        if lock(&self.metrics).at.is_none_or(|at| at + EVERY <= now) {
            self.tell_all(now);
        }
    }

    /// Tells the last of it.
    pub(super) fn tell_last_metrics(&self) {
        self.tell_all(Instant::now());
    }

    /// How long until there is something to tell.
    pub(super) fn metrics_pause(&self, now: Instant) -> Duration {
        let metrics = lock(&self.metrics);
        match metrics.at {
            Some(at) if metrics.stats != self.stats() => (at + EVERY).saturating_duration_since(now),
            _ => LONG,
        }
    }

    fn tell_all(&self, now: Instant) {
        let mut metrics = lock(&self.metrics);
        if metrics.at.replace(now).is_none() {
            describe();
        }
        let database = || self.name.clone();
        metrics.stats = self.stats();
        for (nth, (name, value, _)) in COUNTERS.into_iter().enumerate() {
            let new = value(&metrics.stats).saturating_sub(metrics.counters[nth]);
            metrics.counters[nth] += new;
            counter!(name, "database" => database()).increment(new);
        }
        for (nth, all) in self.counters.dropped().into_iter().enumerate() {
            let new = all.saturating_sub(metrics.dropped[nth]);
            metrics.dropped[nth] += new;
            if new > 0 {
                let reason = DropReason::LABELS[nth];
                counter!(DROPPED, "database" => database(), "reason" => reason).increment(new);
            }
        }
        for (name, value, _) in GAUGES {
            gauge!(name, "database" => database()).set(value(&metrics.stats));
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
