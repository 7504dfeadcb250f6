//! An instrumentation of diesel that panics does not end the writing to SQLite. In a process of its own: the
//! instrumentation is that of the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use db_services::audit::{AuditEntry, AuditWriter, Delivery};
use db_services::client::Database;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

static PANICS_LEFT: AtomicU32 = AtomicU32::new(0);

fn instrumentation() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        let is_writing = std::thread::current().name() == Some("audit-sqlite");
        let panics = is_writing
            && matches!(event, InstrumentationEvent::StartQuery { .. })
            && PANICS_LEFT
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        assert!(!panics, "as planned");
    }))
}

#[tokio::test]
async fn entries_are_committed_after_an_instrumentation_has_panicked() {
    set_default_instrumentation(instrumentation).unwrap();
    let database = Database::from_url("sqlite::memory:").unwrap();
    database.migrate().await.unwrap();
    let builder = AuditWriter::builder(database).receipt_timeout(Duration::from_secs(120));
    let (writer, guard) = builder.start().unwrap();
    for panics in [0, 1, 3] {
        PANICS_LEFT.store(panics, Ordering::SeqCst);
        assert_eq!(
            writer.write(AuditEntry::new("app.entry")).await,
            Delivery::Committed
        );
        assert_eq!(PANICS_LEFT.load(Ordering::SeqCst), 0);
    }
    assert_eq!(guard.shutdown(Duration::from_secs(120)).await.committed, 3);
}
