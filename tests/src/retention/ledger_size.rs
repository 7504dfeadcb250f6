//! What the ledger keeps of a month, however its rows are.

use audit_ops::retention;
use db_services::audit::verify_writers;

use super::{aged, drop_month, rule};
use crate::support::TestDb;

async fn dropped(db: &TestDb, part: &str) -> retention::LedgerEntry {
    drop_month(db, part, &rule()).await.unwrap();
    retention::ledger(&mut db.connection().await)
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn the_numbers_of_a_writer_are_kept_in_parts_of_a_bounded_size() {
    let (db, parts) = aged(20).await;
    // Every second number of one writer, and all of another.
    db.sql(&format!(
        "INSERT INTO audit_logs (created_at, action, writer_id, writer_seq) \
         SELECT m.from_time + n * interval '1 second', 'x', w.id, n * w.step \
         FROM audit_logs_months() m, generate_series(1, 20001) n, \
              (VALUES ('0198c0de-0000-7000-8000-000000000001'::uuid, 2), ('0198c0de-0000-7000-8000-000000000002', 1)) w (id, step) \
         WHERE m.partition = '{}'; \
         INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES \
             ('x', '0198c0de-0000-7000-8000-000000000001', 40004), ('x', '0198c0de-0000-7000-8000-000000000002', 20002)",
        parts[0]
    ))
    .await
    .unwrap();
    let entry = dropped(&db, &parts[0]).await;
    assert_eq!(entry.writers, 2);
    let kept = "SELECT string_agg(format('%s %s %s %s', right(writer_id::text, 1), part, row_count, \
                (SELECT count(*) FROM unnest(numbers))), ', ' ORDER BY writer_id, part) AS value FROM audit_retention_writers";
    assert_eq!(
        db.text(kept).await,
        "1 1 10000 10000, 1 2 10000 10000, 1 3 1 1, 2 1 20001 1"
    );
    let accounts = verify_writers(&mut db.connection().await).await.unwrap();
    let expired: Vec<_> = accounts.iter().map(|account| account.expired).collect();
    assert_eq!(expired, [20_001, 20_001]);
}

/// No writer makes a record of more than 64 KiB; 64 MiB of a month are kept, of each writer the first.
#[tokio::test]
async fn the_records_that_the_ledger_keeps_of_writers_are_bounded() {
    let (db, parts) = aged(20).await;
    // 50 kB that cannot be compressed, 1,500 times.
    db.sql(&format!(
        "CREATE TEMP TABLE long AS SELECT (SELECT from_time FROM audit_logs_months() WHERE partition = '{}') AS t, \
             (SELECT string_agg(encode(sha256(n::text::bytea), 'base64'), '') FROM generate_series(1, 1100) n) AS noise; \
         INSERT INTO audit_logs (created_at, action, writer_id, metadata) SELECT t, 'audit.entries_lost', \
             '0198c0de-0000-7000-8000-000000000001', jsonb_build_object('ranges', jsonb_build_array(jsonb_build_array(n, n)), 'noise', noise) \
             FROM long, generate_series(1, 1500) n; \
         INSERT INTO audit_logs (created_at, action, writer_id, metadata) SELECT t + interval '1 day', 'audit.entries_lost', \
             '0198c0de-0000-7000-8000-000000000002', '{{\"ranges\": [[1, 1]]}}' FROM long; \
         INSERT INTO audit_logs (created_at, action, writer_id, metadata) SELECT t, 'audit.entries_lost', \
             '0198c0de-0000-7000-8000-000000000003', jsonb_build_object('noise', noise || noise) FROM long",
        parts[0]
    ))
    .await
    .unwrap();
    let size = "SELECT sum(pg_column_size(metadata))::text AS value FROM audit_logs WHERE action = 'audit.entries_lost'";
    let before: u64 = db.text(size).await.parse().unwrap();
    assert!(before > 66 << 20, "{before}");
    dropped(&db, &parts[0]).await;
    let kept = size.replace("audit_logs", "audit_retention_declarations");
    let kept: u64 = db.text(&kept).await.parse().unwrap();
    assert!((60 << 20..=64 << 20).contains(&kept), "{kept}");
    let writers = "SELECT string_agg(DISTINCT right(writer_id::text, 1), ' ') AS value FROM audit_retention_declarations";
    assert_eq!(
        db.text(writers).await,
        "1 2",
        "the third one's record is too long"
    );
}
