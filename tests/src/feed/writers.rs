//! Eight writers that commit at random times, and readers that read in small batches, also while rows move between partitions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use db_services::audit::AuditLog;
use db_services::client::Database;
use proptest::test_runner::{RngAlgorithm, TestRng};
use uuid::Uuid;

use super::{Reader, run};
use crate::support::{TIMEOUT, TestDb, run_sql, wait_for};

const WRITERS: usize = 8;
const TRANSACTIONS: usize = 60;

struct Random(TestRng);

impl Random {
    fn new(seed: u8) -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    fn below(&mut self, end: u32) -> u32 {
        use proptest::prelude::Rng;
        self.0.next_u32() % end
    }
}

/// Transactions with rows, savepoints, rollbacks and pauses. Returns the ids that were committed.
async fn write_at_random(database: Database, seed: u8, running: Arc<AtomicUsize>) -> Vec<Uuid> {
    let mut random = Random::new(seed);
    let mut conn = database.connection().await.unwrap();
    let mut committed = Vec::new();
    for _ in 0..TRANSACTIONS {
        run(&mut conn, "BEGIN").await;
        let mut ids = Vec::new();
        // By PostgreSQL, because the row's month was moved while it waited.
        let mut is_refused = false;
        for _ in 0..random.below(4) {
            let id = Uuid::new_v4();
            let days = random.below(120);
            let insert = format!(
                "INSERT INTO audit_logs (id, action, created_at) VALUES ('{id}', 'stress', now() - interval '{days} days')"
            );
            if let Err(error) = run_sql(&mut conn, &insert).await {
                assert!(error.contains("violates partition constraint"), "{error}");
                is_refused = true;
                break;
            }
            ids.push(id);
            if random.below(3) == 0 {
                run(
                    &mut conn,
                    "SAVEPOINT s; INSERT INTO audit_logs (action) VALUES ('undone'); ROLLBACK TO s",
                )
                .await;
            }
            tokio::time::sleep(Duration::from_millis(random.below(3).into())).await;
        }
        // A few stay open for long.
        let pause = if random.below(10) == 0 {
            60
        } else {
            random.below(5)
        };
        tokio::time::sleep(Duration::from_millis(pause.into())).await;
        if is_refused || random.below(5) == 0 {
            run(&mut conn, "ROLLBACK").await;
        } else {
            run(&mut conn, "COMMIT").await;
            committed.extend(ids);
        }
    }
    running.fetch_sub(1, Ordering::SeqCst);
    committed
}

/// Reads until the writers have ended and nothing is left.
async fn read_all(database: Database, limit: u32, running: Arc<AtomicUsize>) -> Vec<AuditLog> {
    let mut conn = database.connection().await.unwrap();
    let mut reader = Reader::from_beginning().limit(limit);
    let mut rows = Vec::new();
    loop {
        let is_over = running.load(Ordering::SeqCst) == 0;
        let batch = reader.try_batch(&mut conn).await.unwrap();
        rows.extend(batch.rows);
        if is_over && !batch.more {
            return rows;
        }
    }
}

/// Moves the rows of an old month from the default partition to one of its own, and cuts that one twice. Each has to
/// wait for the writers.
async fn maintain(db: &TestDb, running: Arc<AtomicUsize>) {
    let old_month = "date_trunc('month', now() AT TIME ZONE 'UTC') - interval '3 months'";
    let moved = format!("SELECT audit_logs_move_month({old_month})");
    let cut = |days: u32| {
        format!(
            "DO $$ DECLARE at constant timestamptz := ({old_month}) AT TIME ZONE 'UTC' + interval '{days} days'; BEGIN \
                 IF NOT audit_logs_cut((SELECT partition FROM audit_logs_partitions() WHERE from_time < at AND to_time > at), at) \
                 THEN RAISE 'not cut'; END IF; END $$"
        )
    };
    wait_for("rows to move", async || {
        db.text("SELECT count(*)::text AS value FROM audit_logs_default")
            .await
            .parse::<u32>()
            .unwrap()
            > 50
    })
    .await;
    for statement in [moved, cut(20), cut(10)] {
        wait_for(&statement, async || db.sql(&statement).await.is_ok()).await;
    }
    running.fetch_sub(1, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_committed_row_comes_once_while_eight_writers_commit_at_random() {
    let db = TestDb::postgres().await;
    assert_each_comes_once(&db, Arc::new(AtomicUsize::new(WRITERS))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_committed_row_comes_once_while_rows_move_between_partitions() {
    let db = TestDb::postgres().await;
    let running = Arc::new(AtomicUsize::new(WRITERS + 1));
    tokio::join!(
        assert_each_comes_once(&db, running.clone()),
        maintain(&db, running)
    );
    let segments = "SELECT count(*)::text AS value FROM audit_logs_partitions() \
                    WHERE to_time <= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '2 months'";
    assert_eq!(db.text(segments).await, "3");
}

/// Writes, and reads until all that is counted as running has ended.
async fn assert_each_comes_once(db: &TestDb, running: Arc<AtomicUsize>) {
    // The pool has ten connections.
    let readers = [1, 7].map(|limit| tokio::spawn(read_all(db.database.clone(), limit, running.clone())));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write_at_random(db.database.clone(), n as u8, running.clone())))
        .collect();
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(tokio::time::timeout(TIMEOUT, writer).await.unwrap().unwrap());
    }
    committed.sort();
    assert!(committed.len() > 300, "{}", committed.len());
    for reader in readers {
        let rows = tokio::time::timeout(TIMEOUT, reader).await.unwrap().unwrap();
        let mut seen: HashMap<Uuid, usize> = HashMap::new();
        for row in &rows {
            assert_eq!(row.action, "stress", "a row that was rolled back was read");
            *seen.entry(row.id).or_default() += 1;
        }
        assert!(seen.values().all(|&count| count == 1), "no row comes twice");
        let mut ids: Vec<_> = seen.into_keys().collect();
        ids.sort();
        assert_eq!(ids, committed);
    }
}
