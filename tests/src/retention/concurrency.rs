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

/// Each round races a hold against a drop of the month that it covers. Either the hold came first and the month is
/// there, or the month is gone and the hold covers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_and_a_drop_that_race_never_both_succeed() {
    const ROUNDS: usize = 12;
    let (db, parts) = aged(ROUNDS as i32 + 13).await;
    let rule = audit_ops::retention::RetentionPolicy {
        max_months: 100,
        ..rule()
    };
    let (mut held, mut dropped) = (0, 0);
    for (round, part) in parts[..ROUNDS].iter().enumerate() {
        let range = format!(
            "SELECT audit_hold_add('race', NULL, from_time, to_time) FROM audit_logs_months() WHERE partition = '{part}'"
        );
        let holding = async {
            // From before the drop begins to after it has ended.
            tokio::time::sleep(std::time::Duration::from_millis(round as u64 * 8)).await;
            db.sql(&range).await
        };
        let (drop, hold) = tokio::join!(drop_month(&db, part, &rule), holding);
        let exists = db
            .text(&format!("SELECT count(to_regclass('{part}'))::text AS value"))
            .await
            == "1";
        match drop {
            Ok(_) => {
                dropped += 1;
                assert!(!exists, "{part}");
            }
            Err(error) => {
                held += 1;
                assert!(error.contains("legal holds"), "{part}: {error}");
                assert!(exists && hold.is_ok(), "{part}: {hold:?}");
            }
        }
    }
    println!("{held} holds came first, {dropped} drops");
    assert_eq!(held + dropped, ROUNDS);
}

/// Late rows of the months that are dropped meanwhile: each is in the trail, in the default partition, or its month's
/// digest covers it.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_lost_that_is_written_during_drops() {
    use db_services::audit::{AuditEntry, Delivery, Verdict, verify_writers};
    let (db, parts) = aged(20).await;
    let (writer, guard) = db.writer();
    let old = chrono::Utc::now() - chrono::Months::new(19);
    let writing = async {
        for nth in 0..400 {
            let at = old + chrono::Days::new(nth % 60);
            let entry = AuditEntry::new("late").created_at(at);
            assert_eq!(writer.write(entry).await, Delivery::Committed);
        }
    };
    let dropping = async {
        let mut dropped = 0;
        for part in parts[..3].iter().cycle().take(30) {
            // Refused while rows come in, or because it is gone.
            dropped += usize::from(drop_month(&db, part, &rule()).await.is_ok());
        }
        dropped
    };
    let ((), dropped) = tokio::join!(writing, dropping);
    guard.shutdown(crate::support::TIMEOUT).await;
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger.len(), dropped);
    let accounts = verify_writers(&mut db.connection().await).await.unwrap();
    assert_eq!(accounts[0].verdict, Verdict::Complete, "{accounts:?}");
    assert_eq!(
        accounts[0].stored + accounts[0].expired,
        400,
        "{dropped} months were dropped"
    );
    let in_ledger: i64 = ledger.iter().map(|entry| entry.row_count).sum();
    assert_eq!(db.count().await + in_ledger, 63 + 400);
}

/// An archive is read a day at a time. Between two days rows may be inserted, and others be moved.
#[tokio::test]
async fn an_archive_is_read_in_one_snapshot() {
    let (db, parts) = aged(14).await;
    let dir = tempfile::tempdir().unwrap();
    crate::archive::write(&db, &parts[0], dir.path()).await.unwrap();
    db.sql(
        "CREATE OR REPLACE FUNCTION audit_logs_lines(from_time timestamptz, to_time timestamptz) RETURNS SETOF text \
         LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'read in %', current_setting('transaction_isolation'); END $$",
    )
    .await
    .unwrap();
    let error = crate::archive::write(&db, &parts[0], dir.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("read in repeatable read"), "{error}");
}
