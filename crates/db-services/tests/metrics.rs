//! Does a recorder of the `metrics` facade hear what the writer counts, under the documented names?
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, Durability, RetryPolicy};
use db_test::{TIMEOUT, wait_for};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tempfile::TempDir;

/// Keeps every metric under its name and reason, and what was said about it.
#[derive(Clone, Default)]
struct Kept {
    values: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    described: Arc<Mutex<BTreeMap<String, &'static str>>>,
}

impl Kept {
    fn value(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: BTreeMap<_, _> = key.labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(labels.get("database"), Some(&"memory"), "{key}");
        let reason = labels
            .get("reason")
            .map(|reason| format!("{{{reason}}}"))
            .unwrap_or_default();
        let name = format!("{}{reason}", key.name());
        Arc::clone(self.values.lock().unwrap().entry(name).or_default())
    }

    fn counter(&self, name: &str) -> u64 {
        self.values
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |value| value.load(Ordering::Acquire))
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.counter(name))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described
            .lock()
            .unwrap()
            .insert(key.as_str().to_owned(), "counter");
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described
            .lock()
            .unwrap()
            .insert(key.as_str().to_owned(), "gauge");
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("{key:?} is not documented");
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{key} is not documented");
    }
}

fn entry(action: &str) -> AuditEntry {
    AuditEntry::new(action)
}

/// The only test of this program: a recorder is for the whole of it.
#[tokio::test]
async fn a_recorder_hears_what_the_writer_counts() {
    let kept = Kept::default();
    metrics::set_global_recorder(kept.clone()).unwrap_or_else(|_| panic!("another recorder"));
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let mut retry = RetryPolicy::default();
    retry.first_pause = Duration::from_millis(5);
    retry.spill_after = Duration::from_millis(20);
    let spill = Durability::Spill(dir.path().to_owned());
    let (writer, guard) = database
        .writer()
        .retry(retry)
        .durability(spill)
        .receipt_timeout(TIMEOUT)
        .queue_capacity(1_000)
        .start()
        .unwrap();

    // In the spool while the database is away; one call that is larger than the queue is lost.
    database.fail(Failure::Unreachable);
    drop(writer.write_all((0..10).map(|_| entry("spooled"))));
    drop(writer.write_all((0..1_001).map(|_| entry("lost"))));
    wait_for("the spool", async || kept.gauge("audit_spool_entries") == 10.0).await;
    wait_for("retries", async || kept.counter("audit_retries_total") > 0).await;
    let dropped = "audit_entries_dropped_total{queue_full}";
    wait_for(dropped, async || kept.counter(dropped) == 1_001).await;
    assert_eq!(kept.counter("audit_entries_committed_total"), 0);

    // Back again; it refuses one entry.
    database.fail(Failure::Refuses(Arc::new(|row| row.action == "refused")));
    drop(writer.write(entry("refused")));
    wait_for("the replay", async || {
        kept.counter("audit_entries_replayed_total") == 10
    })
    .await;
    wait_for("the quarantine", async || {
        kept.counter("audit_entries_quarantined_total") == 1
    })
    .await;
    // Nothing more happens, and still the gauges come back.
    for gauge in [
        "audit_spool_entries",
        "audit_queue_entries",
        "audit_oldest_entry_age_seconds",
    ] {
        wait_for(gauge, async || kept.gauge(gauge) == 0.0).await;
    }

    // What the end commits is told when the shutdown returns.
    drop(writer.write_all((0..5).map(|_| entry("last"))));
    assert_eq!(guard.shutdown(TIMEOUT).await.committed, 15);
    assert_eq!(kept.counter("audit_entries_committed_total"), 15);
    assert_eq!(kept.counter("audit_entries_given_total"), 10 + 1_001 + 1 + 5);
    assert_eq!(kept.counter("audit_entries_accepted_total"), 10 + 1 + 5);

    // Without a spool entries wait in memory, and are lost with a shutdown that gives no time.
    database.fail(Failure::Unreachable);
    let (writer, guard) = database.writer().start().unwrap();
    drop(writer.write_all((0..7).map(|_| entry("waiting"))));
    for gauge in [
        "audit_queue_entries",
        "audit_queue_bytes",
        "audit_oldest_entry_age_seconds",
    ] {
        wait_for(gauge, async || kept.gauge(gauge) > 0.0).await;
    }
    assert_eq!(kept.gauge("audit_queue_entries"), 7.0);
    let report = guard.shutdown(Duration::ZERO).await;
    let told = [
        "audit_entries_unknown_total",
        "audit_entries_dropped_total{shut_down}",
    ];
    assert_eq!(told.map(|name| kept.counter(name)), [report.unknown, report.lost]);
    assert_eq!(report.unknown + report.lost, 7);

    // A writer that has nothing more to do tells what it did before it sleeps.
    database.recover();
    let (writer, _guard) = database.writer().receipt_timeout(TIMEOUT).start().unwrap();
    assert!(
        writer
            .write_all((0..3).map(|_| entry("quiet")))
            .await
            .is_durable()
    );
    wait_for("the last of it", async || {
        kept.counter("audit_entries_committed_total") == 18
    })
    .await;

    let documented = include_str!("../src/audit/mod.rs");
    let names: Vec<String> = kept.described.lock().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 12);
    for (name, kind) in kept.described.lock().unwrap().iter() {
        assert!(
            documented.contains(&format!("| `{name}` | {kind} | ")),
            "{name} is not documented"
        );
    }
    for name in kept.values.lock().unwrap().keys() {
        let name = name.split('{').next().unwrap();
        assert!(names.iter().any(|known| known == name), "{name} is not described");
    }
}
