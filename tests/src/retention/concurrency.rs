//! Drops beside other sessions.

use audit_ops::retention;

use super::{aged, assert_drop_refused, drop_month, rule};
use crate::support::wait_for;

/// The row is inserted after the month was read, and committed before the month is locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_inserted_during_a_drop_stops_it() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let (db, parts) = aged(20).await;
    let mut late = AsyncPgConnection::establish(&db.url).await.unwrap();
    let insert = format!(
        "BEGIN; INSERT INTO audit_logs (created_at, action) SELECT from_time, 'late' FROM audit_logs_months() WHERE partition = '{}'",
        parts[0]
    );
    late.batch_execute(&insert).await.unwrap();
    let (url, part) = (db.url.clone(), parts[0].clone());
    let dropping = tokio::spawn(async move {
        let database = db_services::client::Database::from_url(&url).unwrap();
        retention::drop_month(&mut database.connection().await.unwrap(), &part, &rule(), None).await
    });
    wait_for("the drop to wait for the insert", async || {
        db.text("SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs'::regclass AND NOT granted").await != "0"
    })
    .await;
    late.batch_execute("COMMIT").await.unwrap();
    let refused = dropping.await.unwrap().unwrap_err().to_string();
    assert!(
        refused.contains("rows were inserted into") && refused.contains("Repeat it"),
        "{refused}"
    );
    assert_eq!(db.count().await, 64);
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
    assert_eq!(
        retention::ledger(&mut db.connection().await).await.unwrap()[0].row_count,
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_that_drop_the_same_month_drop_it_once() {
    let (db, parts) = aged(20).await;
    let rule = rule();
    let (one, other) = tokio::join!(
        drop_month(&db, &parts[0], &rule),
        drop_month(&db, &parts[0], &rule)
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(db.count().await, 60);
}

/// A drop would otherwise see only some of the restored rows.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped_during_a_restore() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let (db, parts) = aged(20).await;
    let mut restorer = AsyncPgConnection::establish(&db.url).await.unwrap();
    restorer
        .batch_execute("BEGIN; SELECT audit_retention_lock()")
        .await
        .unwrap();
    assert_drop_refused(
        &db,
        &parts[0],
        &rule(),
        "another session drops or restores a month",
    )
    .await;
    restorer.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
}
