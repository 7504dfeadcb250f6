//! A query ends when its time is over, its error says what to narrow, and the connection stays as it was.

use std::time::Duration;

use db_services::audit::query::{AuditFilter, AuditQuery, Column, Condition, Position, QueryError};
use db_services::audit::{AuditEntry, TenantError, for_tenant, insert};
use db_services::client::Connection;
use diesel_async::SimpleAsyncConnection;

use crate::attacks::fixture::{connect, text};
use crate::support::{TIMEOUT, TestDb};

const SHORT: Duration = Duration::from_millis(50);

fn query(limit: Duration) -> AuditQuery {
    let filter = AuditFilter::new().and(Condition::since(chrono::DateTime::UNIX_EPOCH));
    AuditQuery::new(filter).time_limit(limit)
}

fn assert_is_late(error: &QueryError) {
    assert!(matches!(error, QueryError::TimeLimit { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("50ms: name an actor") || text.contains("0ns: name an actor"),
        "{text}"
    );
}

/// A database with a row that another session has locked.
async fn locked() -> (TestDb, tokio_postgres::Client) {
    let db = TestDb::postgres().await;
    insert(&mut db.connection().await, &AuditEntry::new("a.b").tenant("acme"))
        .await
        .unwrap();
    let locker = connect(&db.url).await;
    locker
        .batch_execute("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    (db, locker)
}

async fn setting(conn: &mut Connection) -> String {
    use diesel_async::RunQueryDsl;
    let Connection::Postgres(conn) = conn else {
        panic!("SQLite")
    };
    let shown = diesel::dsl::sql::<diesel::sql_types::Text>("SELECT current_setting('statement_timeout')");
    shown.get_result(&mut **conn).await.unwrap()
}

#[tokio::test]
async fn a_locked_table_ends_a_query_on_postgres() {
    let (db, locker) = locked().await;
    let mut conn = db.connection().await;
    let before = setting(&mut conn).await;
    assert_is_late(
        &query(SHORT)
            .page(&mut conn, &Position::Newest, 1)
            .await
            .unwrap_err(),
    );
    assert_is_late(&query(SHORT).count(&mut conn, 1).await.unwrap_err());
    assert_is_late(&query(SHORT).top(&mut conn, Column::Actor, 1).await.unwrap_err());
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(
        query(TIMEOUT)
            .page(&mut conn, &Position::Newest, 9)
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
    assert_eq!(setting(&mut conn).await, before, "the session is left as it was");
    insert(&mut conn, &AuditEntry::new("a.b")).await.unwrap();
}

#[tokio::test]
async fn a_shorter_limit_of_the_session_stays_on_postgres() {
    let (db, locker) = locked().await;
    let mut conn = db.connection().await;
    for shorter in ["50ms", "1s"] {
        let Connection::Postgres(pg) = &mut conn else {
            panic!("SQLite")
        };
        pg.batch_execute(&format!("SET statement_timeout = '{shorter}'"))
            .await
            .unwrap();
        let error = query(TIMEOUT).count(&mut conn, 1).await.unwrap_err();
        assert!(matches!(error, QueryError::Database(_)), "{error:?}");
        assert_eq!(setting(&mut conn).await, shorter);
    }
    let Connection::Postgres(pg) = &mut conn else {
        panic!("SQLite")
    };
    pg.batch_execute("SET statement_timeout = '2h'").await.unwrap();
    assert_is_late(&query(SHORT).count(&mut conn, 1).await.unwrap_err());
    assert_eq!(setting(&mut conn).await, "2h");
    drop(locker);
}

#[tokio::test]
async fn a_tenants_reader_goes_on_after_a_query_that_took_too_long_on_postgres() {
    let (db, locker) = locked().await;
    let count = for_tenant(&db.database, "acme", async |conn| {
        let before = setting(conn).await;
        let error = query(SHORT).count(conn, 9).await.unwrap_err();
        assert_is_late(&error);
        locker.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(setting(conn).await, before);
        Ok(query(TIMEOUT).count(conn, 9).await?)
    });
    assert_eq!(count.await.unwrap(), db_services::audit::query::Count::Exactly(1));
    locker
        .batch_execute("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = for_tenant(&db.database, "acme", async |conn| {
        Ok(query(SHORT).count(conn, 9).await?)
    })
    .await;
    let Err(TenantError::Query(error)) = error else {
        panic!("{error:?}")
    };
    assert!(error.to_string().contains("name an actor"), "{error}");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let sessions = "SELECT count(*)::text FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND datname = current_database()";
    assert_eq!(
        text(&locker, sessions).await,
        ["0"],
        "no transaction was left open"
    );
}

#[tokio::test]
async fn a_query_ends_at_the_next_row_on_sqlite() {
    let db = TestDb::sqlite().await;
    let mut conn = db.connection().await;
    insert(&mut conn, &AuditEntry::new("a.b").tenant("acme"))
        .await
        .unwrap();
    assert_is_late(
        &query(Duration::ZERO)
            .page(&mut conn, &Position::Newest, 1)
            .await
            .unwrap_err(),
    );
    assert_is_late(&query(Duration::ZERO).count(&mut conn, 1).await.unwrap_err());
    assert_is_late(
        &query(Duration::ZERO)
            .top(&mut conn, Column::Actor, 1)
            .await
            .unwrap_err(),
    );
    let late = for_tenant(&db.database, "acme", async |conn| {
        Ok(query(Duration::ZERO).count(conn, 9).await?)
    })
    .await;
    assert!(late.unwrap_err().to_string().contains("name an actor"));
    assert_eq!(db.rows().await.len(), 1, "the limit ends with its query");
    // Also if no row passes the filter. The pass over the index looks at the time once for a thousand rows.
    db.sql("INSERT INTO audit_logs (action, created_at) SELECT 'x', 1024 * 1024")
        .await
        .unwrap();
    let nobody = AuditFilter::new()
        .and(Condition::actor("nobody"))
        .and(Condition::text("x"));
    let error = AuditQuery::new(nobody)
        .time_limit(Duration::ZERO)
        .count(&mut conn, 1)
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::TimeLimit { .. }), "{error:?}");
}
