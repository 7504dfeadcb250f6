//! Every entry is committed once, or reported as dropped.

use std::collections::HashSet;
use std::time::Duration;

use db_services::audit::{
    self, AuditEntry, AuditLog, Delivery, DropReason, write_audit_log, write_audit_logs,
};
use db_services::client::Database;
use uuid::Uuid;

use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for, writer_to};

on_both! {
    async fn an_awaited_entry_is_committed(db: TestDb) {
        let (writer, guard) = db.writer();
        assert_eq!(writer.write(AuditEntry::new("auth.login")).await, Delivery::Committed);
        assert_eq!(db.count().await, 1, "committed when the receipt resolves, not later");
        let row = &db.rows().await[0];
        assert_eq!((row.action.as_str(), row.writer_seq), ("auth.login", Some(1)));
        assert!(row.writer_id.is_some());
        assert_eq!(guard.shutdown(TIMEOUT).await.committed, 1);
    }

    async fn many_entries_are_written_in_one_statement(db: TestDb) {
        let (writer, _guard) = db.writer();
        let counts = writer.write_all(numbered(1_000)).counts().await;
        assert_eq!((counts.committed, counts.weakest()), (1_000, Delivery::Committed));
        assert_eq!(db.count().await, 1_000);
        if db.is_postgres() {
            assert_eq!(db.text("SELECT count(DISTINCT tx_id)::text AS value FROM audit_logs").await, "1");
        }
        assert_eq!(writer.write_all([]).await, Delivery::Committed, "an empty group is committed");
        assert_eq!(writer.stats().submitted, 1_000);
    }

    async fn a_hundred_thousand_entries_of_eight_threads_are_stored_once(db: TestDb) {
        let (writer, guard) = db.builder().queue_capacity(100_000).start().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let writer = writer.clone();
                scope.spawn(move || {
                    let write = || {
                        for n in 0..12_500 {
                            let entry = AuditEntry::new("test.write").resource("number", (thread * 12_500 + n).to_string());
                            drop(writer.write(entry.metadata(serde_json::json!({"thread": thread}))));
                        }
                    };
                    if thread % 2 == 0 {
                        write();
                    } else {
                        // Inside a runtime that ends immediately.
                        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { write() });
                    }
                });
            }
        });
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.lost, report.pending, report.unknown), (100_000, 0, 0, 0));
        let rows = db.rows().await;
        assert_eq!(rows.len(), 100_000);
        let numbers: HashSet<_> = rows.iter().map(|row| row.resource_id.clone()).collect();
        let seqs: HashSet<_> = rows.iter().map(|row| row.writer_seq).collect();
        assert_eq!((numbers.len(), seqs.len()), (100_000, 100_000));
        assert_eq!(rows.iter().filter_map(|row| row.writer_seq).max(), Some(100_000), "numbered without gaps");
    }

    async fn entries_that_a_full_queue_drops_are_counted(db: TestDb) {
        let (writer, guard) = db.builder().queue_capacity(1_000).start().unwrap();
        let receipts: Vec<_> = numbered(20_000).map(|entry| writer.write(entry)).collect();
        let mut dropped = 0;
        for receipt in receipts {
            match receipt.await {
                Delivery::Committed => {}
                Delivery::Dropped(DropReason::QueueFull) => dropped += 1,
                other => panic!("{other:?}"),
            }
        }
        let report = guard.shutdown(TIMEOUT).await;
        assert!(dropped > 0, "the queue was never full: the test shows nothing");
        assert_eq!(report.lost, dropped);
        assert_eq!(report.committed + report.lost, 20_000);
        assert_eq!(db.count().await as u64, report.committed);
    }

    async fn the_queue_is_also_bounded_in_bytes(db: TestDb) {
        let (writer, guard) = db.builder().queue_bytes(64 << 10).start().unwrap();
        let big = || AuditEntry::new("x").metadata(serde_json::json!({"text": "x".repeat(60 << 10)}));
        let refused = writer.write_all([big(), big()]).await;
        assert_eq!(refused, Delivery::Dropped(DropReason::QueueFull), "the group is dropped as a whole");
        assert_eq!(writer.write(big()).await, Delivery::Committed, "smaller groups are still accepted");
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.lost), (1, 2));
        assert_eq!(db.count().await, 1);
    }

    async fn a_group_larger_than_a_batch_is_split_and_stored(db: TestDb) {
        let (writer, _guard) = db.writer();
        assert_eq!(writer.write_all(numbered(2_500)).await, Delivery::Committed);
        assert_eq!(db.count().await, 2_500);
    }

    async fn an_entry_written_twice_is_stored_once_and_its_neighbours_are_stored(db: TestDb) {
        let (writer, _guard) = db.writer();
        let entry = AuditEntry::new("first").id(Uuid::now_v7()).actor("alice");
        assert_eq!(writer.write(entry.clone()).await, Delivery::Committed);
        let mut again = entry;
        again.action = "second".into();
        let delivery = writer.write_all([AuditEntry::new("before"), again, AuditEntry::new("after")]).await;
        assert_eq!(delivery, Delivery::Committed);
        let mut actions: Vec<_> = db.rows().await.into_iter().map(|row| row.action).collect();
        actions.sort();
        assert_eq!(actions, ["after", "before", "first"]);
    }

    async fn an_entry_without_an_id_is_a_template_and_each_write_of_it_is_stored(db: TestDb) {
        let (writer, guard) = db.writer();
        let base = AuditEntry::new("login").actor("alice");
        for _ in 0..2 {
            assert_eq!(writer.write(base.clone()).await, Delivery::Committed);
        }
        assert_eq!(writer.write_all([base.clone(), base.clone().tenant("acme")]).await, Delivery::Committed);
        assert_eq!(guard.shutdown(TIMEOUT).await.committed, 4);
        assert_eq!(db.count().await, 4);
        let mut conn = db.connection().await;
        for _ in 0..2 {
            audit::insert(&mut conn, &base).await.unwrap();
            assert_eq!(audit::insert_many(&mut conn, &[base.clone(), base.clone()]).await.unwrap(), 2);
        }
        drop(conn);
        let rows = db.rows().await;
        let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!((rows.len(), ids.len()), (10, 10));
        let same_time = |row: &AuditLog| row.created_at.timestamp_micros() == base.created_at.timestamp_micros();
        assert!(rows.iter().all(same_time), "the time is when the entry was built");
    }

    async fn an_entry_larger_than_the_queue_is_truncated_and_written(db: TestDb) {
        let (writer, guard) = db.builder().queue_bytes(64 << 10).start().unwrap();
        // One that exceeds the bound, and one that exceeds it even when truncated.
        let texts = |entry: AuditEntry| entry.actor("𝕏".repeat(9_999)).resource("file", "𝕏".repeat(9_999));
        let text = serde_json::json!({"text": "x".repeat(1 << 20), "more": "x".repeat(60 << 10)});
        for entry in [AuditEntry::new("large").metadata(text.clone()), texts(AuditEntry::new("larger").metadata(text))] {
            assert_eq!(writer.write(entry).await, Delivery::Committed);
        }
        assert_eq!(guard.shutdown(TIMEOUT).await.committed, 2);
        for row in db.rows().await {
            let metadata = row.metadata.unwrap().parse().unwrap();
            assert!(metadata["_audit"]["cut"]["metadata"]["bytes"].as_u64() > Some(1 << 20), "{}", row.action);
            assert_eq!(metadata["more"].as_str().unwrap().len(), 60 << 10);
        }
    }

    async fn a_fire_and_forget_entry_wakes_an_idle_writer(db: TestDb) {
        let (writer, _guard) = db.writer();
        for round in 1..=10 {
            // Long enough for the writer to sleep. Only the entry can wake it.
            tokio::time::sleep(Duration::from_millis(10 * round)).await;
            drop(writer.write(AuditEntry::new("test.idle")));
            wait_for("the entry", async || writer.stats().committed == round).await;
        }
        assert_eq!(db.count().await, 10);
    }

    async fn dropping_the_guard_drains_the_queue(db: TestDb) {
        let (writer, guard) = db.writer();
        for entry in numbered(5_000) {
            drop(writer.write(entry));
        }
        drop(guard);
        assert_eq!(db.count().await, 5_000);
        assert_eq!(writer.write(AuditEntry::new("late")).await, Delivery::Dropped(DropReason::ShutDown));
        assert_eq!((writer.stats().submitted, writer.stats().dropped), (5_001, 1));
    }

    async fn a_flush_waits_for_the_entries_written_before_it(db: TestDb) {
        let (writer, _guard) = db.writer();
        assert_eq!(writer.flush(TIMEOUT).await.committed, 0);
        for entry in numbered(3_000) {
            drop(writer.write(entry));
        }
        let report = writer.flush(TIMEOUT).await;
        assert_eq!((report.committed, report.pending), (3_000, 0));
        assert_eq!(db.count().await, 3_000);
    }

    async fn no_entry_is_lost_when_the_callers_runtime_ends(db: TestDb) {
        let (writer, guard) = db.writer();
        let other = writer.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            runtime.spawn(async move {
                for entry in numbered(2_000) {
                    drop(other.write(entry));
                }
            });
            // Dropped while the task runs or after it: the writer has what it wrote.
        })
        .join()
        .unwrap();
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!(report.committed, writer.stats().submitted);
        assert_eq!(db.count().await as u64, report.committed);
    }

    async fn no_entry_is_lost_when_the_caller_panics(db: TestDb) {
        let (writer, guard) = db.writer();
        let panicking = writer.clone();
        let panicked = std::thread::spawn(move || {
            drop(panicking.write_all(numbered(100)));
            panic!("as planned");
        })
        .join();
        assert!(panicked.is_err());
        drop(guard);
        assert_eq!(db.count().await, 100);
    }

    async fn a_receipt_can_be_awaited_on_any_executor(db: TestDb) {
        let (writer, _guard) = db.writer();
        let delivery = std::thread::spawn(move || {
            futures_executor::block_on(async { writer.write(AuditEntry::new("x")).await })
        });
        assert_eq!(delivery.join().unwrap(), Delivery::Committed);
    }

    async fn concurrent_callers_share_batches(db: TestDb) {
        let (writer, _guard) = db.writer();
        let tasks: Vec<_> = numbered(500).map(|entry| tokio::spawn(writer.write(entry).into_future())).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Delivery::Committed);
        }
        assert_eq!(db.count().await, 500);
        if db.is_postgres() {
            let statements: u64 = db.text("SELECT count(DISTINCT tx_id)::text AS value FROM audit_logs").await.parse().unwrap();
            assert!(statements < 500, "{statements} statements for 500 entries");
        }
    }

    async fn entries_that_exceed_every_limit_are_stored(db: TestDb) {
        let (writer, _guard) = db.writer();
        let mut deep = serde_json::json!(1);
        for _ in 0..10_000 {
            deep = serde_json::Value::Array(vec![deep]);
        }
        let entries = [
            AuditEntry::new("a\0\u{10FFFF}").actor("\0".repeat(5_000)).ip_text("not an address"),
            AuditEntry::new("x".repeat(1 << 20)).tenant("𝕏".repeat(1 << 16)).resource("𝕏".repeat(9_999), "𝕏".repeat(9_999)),
            AuditEntry::new("").created_at(chrono::DateTime::<chrono::Utc>::MIN_UTC),
            AuditEntry::new("late").created_at(chrono::DateTime::<chrono::Utc>::MAX_UTC),
            AuditEntry::new("big").metadata(serde_json::json!({"text": "x".repeat(1 << 20)})),
            AuditEntry::new("deep").metadata(deep),
        ];
        for entry in entries {
            assert_eq!(writer.write(entry).await, Delivery::Committed);
        }
        assert_eq!(db.count().await, 6);
    }

    async fn the_free_functions_use_the_writer_of_their_scope(db: TestDb) {
        let (writer, _guard) = db.writer();
        audit::with_writer(writer, async {
            assert_eq!(write_audit_log(AuditEntry::new("one")).await, Delivery::Committed);
            // db_services exports them too.
            assert_eq!(db_services::write_audit_logs(numbered(3)).await, Delivery::Committed);
            drop(write_audit_logs(numbered(2)));
            assert_eq!(audit::flush(TIMEOUT).await.committed, 6);
            assert!(matches!(audit::status(), audit::Status::Running(stats) if stats.committed == 6));
            assert_eq!(audit::shutdown(TIMEOUT).await.committed, 6);
            assert!(matches!(audit::status(), audit::Status::Stopped(_)));
        })
        .await;
        assert_eq!(db.count().await, 6);
    }

    async fn entries_for_a_database_without_the_table_are_stored_once_it_is_migrated(db: TestDb) {
        // Like a deployment without migrations.
        db.sql("ALTER TABLE audit_logs RENAME TO hidden").await.unwrap();
        let (writer, guard) = db.builder()
            .receipt_timeout(Duration::from_millis(300))
            .start()
            .unwrap();
        assert_eq!(writer.write(AuditEntry::new("early")).await, Delivery::Pending);
        wait_for("a second attempt", async || writer.stats().retries >= 2).await;
        db.sql("ALTER TABLE hidden RENAME TO audit_logs").await.unwrap();
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.lost, report.quarantined), (1, 0, 0));
        assert_eq!(db.rows().await[0].action, "early");
    }
}

#[tokio::test]
async fn an_unreachable_database_blocks_neither_caller_nor_shutdown() {
    for url in [
        "postgres://u:hush@%2Fnowhere/db",
        "postgres://u:hush@127.0.0.1:1/db",
        "sqlite:///nowhere/audit.db",
    ] {
        let (writer, guard) = writer_to(Database::from_url(url).unwrap())
            .receipt_timeout(Duration::from_millis(100))
            .start()
            .unwrap();
        assert_eq!(
            writer.write(AuditEntry::new("x")).await,
            Delivery::Pending,
            "{url}"
        );
        let report = guard.shutdown(Duration::from_millis(100)).await;
        assert_eq!(
            (report.committed, report.lost + report.unknown, report.pending),
            (0, 1, 0),
            "{url}"
        );
    }
}

/// A server that accepts connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_database_blocks_neither_caller_nor_shutdown() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "postgres://u@{}/db?connect_timeout=600",
        silent.local_addr().unwrap()
    );
    let (writer, guard) = writer_to(Database::from_url(&url).unwrap())
        .receipt_timeout(Duration::from_millis(50))
        .start()
        .unwrap();
    assert_eq!(writer.write(AuditEntry::new("sent")).await, Delivery::Pending);
    let queued = writer.write_all(numbered(10));
    assert_eq!(writer.flush(Duration::from_millis(50)).await.pending, 11);
    let report = guard.shutdown(Duration::from_millis(50)).await;
    assert_eq!(report.lost + report.unknown, 11, "{report:?}");
    assert_eq!((report.committed, report.pending), (0, 0));
    assert!(matches!(
        queued.await,
        Delivery::Dropped(DropReason::ShutDown) | Delivery::Unknown
    ));
}
