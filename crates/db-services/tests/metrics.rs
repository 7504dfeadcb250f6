//! The writer's metrics reach a recorder of the `metrics` facade, under the documented names.
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

/// Stores every metric under its name and reason, and its description.
#[derive(Clone, Default)]
struct MetricStore {
    values: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    described: Arc<Mutex<BTreeMap<String, &'static str>>>,
}

impl MetricStore {
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

    async fn wait_for(&self, counter: &str, is_reached: impl Fn(u64) -> bool) {
        wait_for(counter, async || is_reached(self.counter(counter))).await;
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.counter(name))
    }
}

impl Recorder for MetricStore {
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

/// A writer whose database is unreachable, then rejects a row: retries, spool, replay, quarantine, shutdown.
async fn outage_with_a_spool(database: &MemoryDatabase, metrics: &MetricStore) {
    let dir = TempDir::new().unwrap();
    let mut retry = RetryPolicy::default();
    retry.first_pause = Duration::from_millis(5);
    retry.spill_after = Duration::from_millis(20);
    let (writer, guard) = database
        .writer()
        .retry(retry)
        .durability(Durability::Spill(dir.path().to_owned()))
        .queue_capacity(1_000)
        .start()
        .unwrap();

    // A group that is larger than the queue is lost.
    database.fail(Failure::Unreachable);
    drop(writer.write_all((0..10).map(|_| entry("spooled"))));
    drop(writer.write_all((0..1_001).map(|_| entry("lost"))));
    wait_for("the spool", async || metrics.gauge("audit_spool_entries") == 10.0).await;
    metrics
        .wait_for("audit_retries_total", |retries| retries > 0)
        .await;
    let dropped = "audit_entries_dropped_total{queue_full}";
    metrics.wait_for(dropped, |entries| entries == 1_001).await;
    assert_eq!(metrics.counter("audit_entries_committed_total"), 0);

    database.fail(Failure::Refuses(Arc::new(|row| row.action == "refused")));
    drop(writer.write(entry("refused")));
    metrics
        .wait_for("audit_entries_replayed_total", |entries| entries == 10)
        .await;
    metrics
        .wait_for("audit_entries_quarantined_total", |entries| entries == 1)
        .await;
    // An idle writer still resets the gauges.
    for gauge in [
        "audit_spool_entries",
        "audit_queue_entries",
        "audit_oldest_entry_age_seconds",
    ] {
        wait_for(gauge, async || metrics.gauge(gauge) == 0.0).await;
    }

    // The counters are final when the shutdown returns.
    drop(writer.write_all((0..5).map(|_| entry("last"))));
    assert_eq!(guard.shutdown(TIMEOUT).await.committed, 15);
    assert_eq!(metrics.counter("audit_entries_committed_total"), 15);
    assert_eq!(
        metrics.counter("audit_entries_submitted_total"),
        10 + 1_001 + 1 + 5
    );
    assert_eq!(metrics.counter("audit_entries_accepted_total"), 10 + 1 + 5);
}

/// Entries without a spool wait in memory, and are lost at a shutdown without time.
async fn outage_without_a_spool(database: &MemoryDatabase, metrics: &MetricStore) {
    database.fail(Failure::Unreachable);
    let (writer, guard) = database.writer().start().unwrap();
    drop(writer.write_all((0..7).map(|_| entry("waiting"))));
    for gauge in [
        "audit_queue_entries",
        "audit_queue_bytes",
        "audit_oldest_entry_age_seconds",
    ] {
        wait_for(gauge, async || metrics.gauge(gauge) > 0.0).await;
    }
    assert_eq!(metrics.gauge("audit_queue_entries"), 7.0);
    let report = guard.shutdown(Duration::ZERO).await;
    let counters = [
        "audit_entries_unknown_total",
        "audit_entries_dropped_total{shut_down}",
    ];
    assert_eq!(
        counters.map(|name| metrics.counter(name)),
        [report.unknown, report.lost]
    );
    assert_eq!(report.unknown + report.lost, 7);
    database.recover();
}

/// Asserts that every metric is described, and documented under its name and kind.
fn assert_documented(metrics: &MetricStore) {
    let documentation = include_str!("../src/audit/mod.rs");
    let described = metrics.described.lock().unwrap();
    assert_eq!(described.len(), 12);
    for (name, kind) in described.iter() {
        assert!(
            documentation.contains(&format!("| `{name}` | {kind} | ")),
            "{name} is not documented"
        );
    }
    for name in metrics.values.lock().unwrap().keys() {
        let name = name.split('{').next().unwrap();
        assert!(described.contains_key(name), "{name} is not described");
    }
}

/// The only test of this program, because the recorder is global.
#[tokio::test]
async fn a_recorder_gets_every_documented_metric_of_the_writer() {
    let metrics = MetricStore::default();
    ::metrics::set_global_recorder(metrics.clone()).unwrap_or_else(|_| panic!("another recorder"));
    let database = MemoryDatabase::new();
    outage_with_a_spool(&database, &metrics).await;
    outage_without_a_spool(&database, &metrics).await;

    // An idle writer emits its counters before it sleeps.
    let (writer, _guard) = database.writer().receipt_timeout(TIMEOUT).start().unwrap();
    let delivery = writer.write_all((0..3).map(|_| entry("quiet"))).await;
    assert!(delivery.is_durable(), "{delivery}");
    metrics
        .wait_for("audit_entries_committed_total", |entries| entries == 18)
        .await;
    assert_documented(&metrics);
}
