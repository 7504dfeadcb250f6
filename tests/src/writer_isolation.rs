//! Writers in one process use only their own database.

use db_services::audit::{self, AuditEntry, AuditWriter, Delivery, write_audit_log};
use db_services::client::Database;

use crate::support::{TIMEOUT, TestDb, numbered, writer_to};

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_two_writers_in_one_process_never_mix() {
    let (postgres, sqlite) = (TestDb::postgres().await, TestDb::sqlite().await);
    let ((first, first_guard), (second, second_guard)) = (postgres.writer(), sqlite.writer());
    let write = |writer: AuditWriter, action: &'static str| async move {
        audit::with_writer(writer, async {
            for _ in 0..200 {
                assert_eq!(
                    write_audit_log(AuditEntry::new(action)).await,
                    Delivery::Committed
                );
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    tokio::join!(write(first, "to.postgres"), write(second, "to.sqlite"));
    drop((first_guard, second_guard));
    for (db, action) in [(postgres, "to.postgres"), (sqlite, "to.sqlite")] {
        let rows = db.rows().await;
        assert_eq!(rows.len(), 200);
        assert!(rows.iter().all(|row| row.action == action));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_hundred_scoped_writers_never_mix() {
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            tokio::spawn(async move {
                let database = Database::from_url("sqlite::memory:").unwrap();
                database.migrate().await.unwrap();
                let (writer, guard) = writer_to(database.clone()).start().unwrap();
                audit::with_writer(writer, async {
                    for _ in 0..n {
                        drop(write_audit_log(AuditEntry::new(format!("test.{n}"))));
                    }
                })
                .await;
                guard.shutdown(TIMEOUT).await;
                let rows = audit::latest(&mut database.connection().await.unwrap(), 1_000)
                    .await
                    .unwrap();
                assert_eq!(rows.len(), n);
                assert!(rows.iter().all(|row| row.action == format!("test.{n}")));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_memory_database_exists_as_long_as_its_writer() {
    let database = Database::from_url("sqlite::memory:").unwrap();
    database.migrate().await.unwrap();
    let (writer, _guard) = writer_to(database).start().unwrap();
    assert_eq!(writer.write_all(numbered(10)).await, Delivery::Committed);
    assert!(!std::path::Path::new(":memory:").exists());
}

#[test]
fn a_queue_bound_of_zero_is_an_error() {
    let builder = || AuditWriter::builder(Database::from_url("sqlite::memory:").unwrap());
    for builder in [builder().queue_capacity(0), builder().queue_bytes(0)] {
        assert!(
            builder
                .start()
                .unwrap_err()
                .to_string()
                .contains("must not be zero")
        );
    }
}
