//! A recorder of the `metrics` facade that panics does not stop the writer. A separate test program, because
//! the recorder is global.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, Delivery};
use db_test::{TIMEOUT, wait_for};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// Counts its calls, and panics in each.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicU64>);

impl Panics {
    fn panic(&self) -> ! {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("as planned");
    }
}

impl CounterFn for Panics {
    fn increment(&self, _: u64) {
        self.panic();
    }

    fn absolute(&self, _: u64) {
        self.panic();
    }
}

impl GaugeFn for Panics {
    fn increment(&self, _: f64) {
        self.panic();
    }

    fn decrement(&self, _: f64) {
        self.panic();
    }

    fn set(&self, _: f64) {
        self.panic();
    }
}

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.panic();
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.panic();
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.panic();
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.panic();
    }
}

#[tokio::test]
async fn a_writer_survives_a_recorder_that_panics() {
    let recorder = Panics::default();
    metrics::set_global_recorder(recorder.clone()).ok().unwrap();
    let database = MemoryDatabase::new();
    let (writer, guard) = database.writer().receipt_timeout(TIMEOUT).start().unwrap();
    // The counters are emitted once a second: the writer must survive the first panic.
    for round in 1..=2 {
        let calls = recorder.0.load(Ordering::Relaxed);
        assert_eq!(
            writer.write(AuditEntry::new("x")).await,
            Delivery::Committed,
            "{round}"
        );
        wait_for("a panic", async || recorder.0.load(Ordering::Relaxed) > calls).await;
    }
    database.fail(Failure::Unreachable);
    drop(writer.write(AuditEntry::new("lost")));
    let report = guard.shutdown(Duration::from_millis(10)).await;
    assert_eq!(
        (report.committed, report.lost + report.unknown, report.pending),
        (2, 1, 0)
    );
    assert_eq!(writer.flush(TIMEOUT).await, report);
}
