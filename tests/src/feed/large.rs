//! A transaction with more rows than a batch.

use std::collections::HashSet;

use db_services::audit::query::{AuditFilter, Condition};

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
