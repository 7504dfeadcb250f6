//! The indexes serve the statements: a window reads its pages, and the rest of a large transaction comes in an order.

use db_test::Postgres;
use diesel::sql_types::{Integer, Text};
use diesel_async::SimpleAsyncConnection;
use uuid::Uuid;

use super::state::{Key, Part, Window};
use super::{sqlite, statements};
use crate::audit::query::AuditFilter;
use crate::audit::query::run;
use crate::audit::query::sql::Sql;
use crate::client::{Connection, Database};

fn window(from: i64, to: i64) -> Window {
    Window {
        part: Part::New,
        from,
        to,
        listed: Vec::new(),
        inside: None,
        without: None,
    }
}

/// The plan of a statement, with the settings that it has.
async fn plan(conn: &mut Connection, settings: &str, sql: Sql) -> String {
    let Connection::Postgres(conn) = conn else {
        panic!("this is PostgreSQL");
    };
    let scope = run::begin(conn, None).await.unwrap();
    conn.batch_execute(settings).await.unwrap();
    let sql = sql.explained("EXPLAIN (COSTS OFF) ").returning::<Text>();
    let lines: Vec<String> = run::postgres(conn, sql).await.unwrap();
    run::end(conn, scope).await.unwrap();
    lines.join("\n")
}

/// Three months of rows by 300 transactions, one of which has a third of them.
const ROWS: [&str; 4] = [
    "SELECT audit_logs_ensure_partitions('2026-08-01', '2026-10-01')",
    "DO $$ BEGIN FOR n IN 0..299 LOOP \
     INSERT INTO audit_logs (action, created_at, metadata) \
     SELECT 'a', '2026-08-01'::timestamptz + (n * 100 + i) * interval '4 minutes', '{\"a\": \"some text\"}' \
     FROM generate_series(1, 100) i; COMMIT; END LOOP; END $$",
    "INSERT INTO audit_logs (action, created_at) \
     SELECT 'import', '2026-08-20'::timestamptz + (i % 9000) * interval '3 minutes' FROM generate_series(1, 15000) i",
    "ANALYZE audit_logs",
];

#[tokio::test]
async fn windows_and_large_transactions_on_postgres_use_their_indexes() {
    let server = Postgres::migrated().unwrap_or_else(|error| panic!("{error}"));
    let database = Database::from_url(server.url()).unwrap();
    let mut conn = database.connection().await.unwrap();
    let Connection::Postgres(session) = &mut conn else {
        panic!("this is PostgreSQL");
    };
    for sql in ROWS {
        session.batch_execute(sql).await.unwrap();
    }
    let filter = AuditFilter::new();
    // Between the rows' transactions, as a reader is that has caught up.
    for (from, to) in [(1_000_000, 1_000_010), (1_000_000, 1_000_001)] {
        let plan = plan(
            &mut conn,
            "SELECT 1",
            statements::rows(&window(from, to), &filter, 1_001),
        )
        .await;
        assert!(
            plan.contains("Bitmap Index Scan on audit_logs_2026_09_tx_id_idx"),
            "{plan}"
        );
        assert!(!plan.contains("Seq Scan on audit_logs_2026_0"), "{plan}");
    }
    let after = Key {
        tx: 1_000_000,
        // 2026-08-28
        created_at: 841_104_000_000_000,
        id: Uuid::from_u128(u128::MAX / 2),
    };
    let window = window(after.tx, after.tx + 1);
    let at = statements::at_time(&window, after, &filter, 1_001);
    let plan_at = plan(&mut conn, statements::INDEXED, at).await;
    assert!(
        plan_at.contains("Index Scan using audit_logs_2026_08_pkey"),
        "{plan_at}"
    );
    assert!(
        !plan_at.contains("Sort") && !plan_at.contains("2026_09"),
        "{plan_at}"
    );
    let behind = statements::behind_time(
        &window,
        after,
        after.created_at + 3_000_000_000_000,
        &filter,
        1_001,
    );
    let plan_behind = plan(&mut conn, statements::INDEXED, behind).await;
    assert!(plan_behind.contains("Incremental Sort"), "{plan_behind}");
    assert!(
        !plan_behind.contains("Merge Append"),
        "months are read one after the other: {plan_behind}"
    );
    assert!(
        !plan_behind.contains("->  Sort") && !plan_behind.contains("Seq Scan"),
        "{plan_behind}"
    );
}

#[tokio::test]
async fn the_feed_on_sqlite_reads_the_order_and_then_rows_by_their_key() {
    let database = Database::from_url("sqlite::memory:").unwrap();
    database.migrate().await.unwrap();
    let Connection::Sqlite(mut conn) = database.connection().await.unwrap() else {
        panic!("this is SQLite");
    };
    let sql = sqlite::rows(5, 10, &AuditFilter::new(), 7).explained("EXPLAIN QUERY PLAN ");
    let sql = sql.returning::<(Integer, Integer, Integer, Text)>();
    let lines: Vec<(i32, i32, i32, String)> = run::sqlite(&mut conn, sql).await.unwrap();
    let lines: Vec<_> = lines.into_iter().map(|(.., line)| line).collect();
    assert_eq!(
        lines,
        [
            "SEARCH o USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            "SEARCH audit_logs USING PRIMARY KEY (id=? AND created_at=?)"
        ]
    );
}
