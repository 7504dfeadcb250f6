//! The writer's counters, and the callback for lost entries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, Delivery, DropReason, Loss};

use crate::spool::fast_retry;
use crate::support::{TIMEOUT, numbered, wait_for};

#[tokio::test]
async fn every_counter_shows_what_happened() {
    let database = MemoryDatabase::new();
    let (writer, guard) = database
        .writer()
        .retry(fast_retry())
        .receipt_timeout(TIMEOUT)
        .queue_capacity(10)
        .start()
        .unwrap();
    assert_eq!(writer.stats(), Default::default());

    database.fail(Failure::Unreachable);
    drop(writer.write_all(numbered(4)));
    drop(writer.write_all(numbered(20)));
    wait_for("an attempt", async || writer.stats().retries > 0).await;
    let stats = writer.stats();
    assert_eq!(
        (stats.submitted, stats.accepted, stats.dropped, stats.queued),
        (24, 4, 20, 4)
    );
    assert!(
        stats.queued_bytes > 4 * "test.write".len() && stats.oldest_age > Duration::ZERO,
        "{stats:?}"
    );

    database.fail(Failure::Refuses(Arc::new(|row| row.action == "rude.word")));
    wait_for("the retry", async || writer.stats().committed == 4).await;
    assert_eq!(
        writer.write(AuditEntry::new("rude.word")).await,
        Delivery::Quarantined
    );
    wait_for("an empty queue", async || {
        writer.stats().oldest_age == Duration::ZERO
    })
    .await;
    let stats = writer.stats();
    assert_eq!((stats.submitted, stats.accepted, stats.quarantined), (25, 5, 1));
    assert_eq!(
        (stats.queued, stats.queued_bytes, stats.spooled, stats.replayed),
        (0, 0, 0, 0)
    );

    // Entries in flight at the shutdown deadline may be stored or not.
    database.fail(Failure::Unreachable);
    let before = writer.stats().retries;
    drop(writer.write_all(numbered(3)));
    wait_for("an attempt", async || writer.stats().retries > before).await;
    let report = guard.shutdown(Duration::ZERO).await;
    let stats = writer.stats();
    assert_eq!(
        (stats.unknown, stats.committed, stats.quarantined, stats.dropped),
        (3, 4, 1, 20)
    );
    assert_eq!(
        (report.unknown, report.committed, report.quarantined, report.lost),
        (3, 4, 1, 20)
    );
}

#[tokio::test]
async fn the_callback_gets_each_loss_with_its_reason_although_it_panics() {
    let database = MemoryDatabase::new();
    let reported: Arc<Mutex<Vec<Loss>>> = Arc::default();
    let losses = Arc::clone(&reported);
    let (writer, guard) = database
        .writer()
        .retry(fast_retry())
        .receipt_timeout(TIMEOUT)
        .queue_capacity(100)
        .on_loss(move |loss| {
            losses
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .push(loss.clone());
            panic!("as planned");
        })
        .start()
        .unwrap();
    let reported = || -> Vec<_> {
        let losses = reported.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        losses
            .iter()
            .map(|loss| (loss.first, loss.last, loss.count, loss.reason.clone()))
            .collect()
    };
    assert!(writer.write_all(numbered(2)).await.is_durable());
    assert_eq!(
        writer.write_all(numbered(101)).await,
        Delivery::Dropped(DropReason::QueueFull)
    );
    wait_for("the loss", async || {
        reported() == [(3, 103, 101, DropReason::QueueFull)]
    })
    .await;

    // The writer continues. Entries lost at the shutdown are reported before it returns.
    assert!(writer.write_all(numbered(2)).await.is_durable());
    database.fail(Failure::Unreachable);
    let before = writer.stats().retries;
    drop(writer.write(AuditEntry::new("sent")));
    wait_for("an attempt", async || writer.stats().retries > before).await;
    drop(writer.write_all(numbered(50)));
    let report = guard.shutdown(Duration::ZERO).await;
    assert_eq!((report.committed, report.lost, report.unknown), (4, 151, 1));
    assert_eq!(reported()[1..], [(107, 156, 50, DropReason::ShutDown)]);
}
