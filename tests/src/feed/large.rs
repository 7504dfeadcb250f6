//! A transaction with more rows than a batch.

use std::collections::HashSet;

use db_services::audit::query::{AuditFilter, Condition};
use db_services::client::Connection;

use super::{Reader, written};
use crate::support::TestDb;

/// Rows of one transaction: some with the same time, some over a year, and some without a partition.
const IMPORT: &str = "SELECT audit_logs_ensure_partitions(now() - interval '11 months', now()); \
    INSERT INTO audit_logs (id, action, actor_id, created_at) SELECT gen_random_uuid(), 'import', 'a' || n % 10, \
    CASE n % 3 WHEN 0 THEN now() WHEN 1 THEN now() - n * interval '2 hours' ELSE now() - n * interval '20 days' END \
    FROM generate_series(1, 1500) n";

async fn import() -> TestDb {
    let db = TestDb::postgres().await;
    written(&db, "before").await;
    db.sql(IMPORT).await.unwrap();
    written(&db, "after").await;
    db
}

async fn read(db: &TestDb, limit: u32, filter: AuditFilter) -> Vec<String> {
    let mut reader = Reader::from_beginning().limit(limit);
    reader.filter = filter;
    let rows = reader.rows(&mut db.connection().await).await;
    let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len(), "no row comes twice");
    super::actions(rows)
}

/// With the smaller limits the rest is read by the indexes, with the larger ones it is sorted.
#[tokio::test]
async fn a_large_transaction_is_read_whole_in_small_batches() {
    let db = import().await;
    for limit in [1, 7, 50, 200, 1_000, 1_501, 5_000] {
        let actions = read(&db, limit, AuditFilter::new()).await;
        assert_eq!(actions.len(), 1_502, "{limit}");
        assert_eq!(
            (actions[0].as_str(), actions[1_501].as_str()),
            ("before", "after")
        );
        let filter = AuditFilter::new().and(Condition::actor("a3"));
        assert_eq!(read(&db, limit, filter).await.len(), 150, "{limit}");
        let filter = AuditFilter::new().and(Condition::actor("nobody"));
        assert!(read(&db, limit, filter).await.is_empty());
    }
}

#[tokio::test]
async fn batches_end_with_a_transaction_unless_it_is_larger() {
    let db = TestDb::postgres().await;
    for n in [3, 2, 4, 9, 1] {
        db.sql(&format!(
            "INSERT INTO audit_logs (action) SELECT 'of{n}' FROM generate_series(1, {n})"
        ))
        .await
        .unwrap();
    }
    let mut conn = db.connection().await;
    let mut reader = Reader::from_beginning().limit(5);
    let mut sizes = Vec::new();
    loop {
        let batch = reader.try_batch(&mut conn).await.unwrap();
        sizes.push(batch.rows.len());
        if !batch.more {
            break;
        }
    }
    assert_eq!(sizes, [5, 4, 5, 4, 1]);
}

/// Small rows, then `count` of a mebibyte.
fn large_rows(is_sqlite: bool, count: u32) -> String {
    match is_sqlite {
        true => format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200) \
             INSERT INTO audit_logs (action) SELECT 'small' FROM n; \
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) \
             INSERT INTO audit_logs (action, metadata) SELECT 'large', json_object('t', printf('%.*c', 1048576, 'x')) FROM n"
        ),
        false => format!(
            "INSERT INTO audit_logs (action) SELECT 'small' FROM generate_series(1, 200); \
             INSERT INTO audit_logs (action, metadata) \
             SELECT 'large', jsonb_build_object('t', repeat('x', 1048576)) FROM generate_series(1, {count})"
        ),
    }
}

#[tokio::test]
async fn a_batch_is_small_although_its_rows_are_large() {
    for db in [TestDb::sqlite().await, TestDb::postgres().await] {
        let mut conn = db.connection().await;
        let is_sqlite = matches!(conn, Connection::Sqlite(_));
        // In one transaction, and in many.
        super::run(&mut conn, &large_rows(is_sqlite, 40)).await;
        for _ in 0..20 {
            super::run(&mut conn, &large_rows(is_sqlite, 1)).await;
        }
        for limit in [10, 5_000] {
            let mut reader = Reader::from_beginning().limit(limit);
            let (mut ids, mut large) = (HashSet::new(), 0);
            loop {
                let batch = reader.try_batch(&mut conn).await.unwrap();
                let rows = batch.rows.iter().filter(|row| row.action == "large").count();
                assert!(rows <= 17, "{rows} MiB");
                large += rows;
                for row in &batch.rows {
                    assert!(ids.insert(row.id), "no row comes twice");
                }
                if !batch.more {
                    break;
                }
            }
            assert_eq!((large, ids.len()), (60, 60 + 21 * 200));
        }
    }
}
