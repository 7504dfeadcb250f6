//! What becomes of a reader when the server restarts, crashes, fails over, or has prepared transactions.

use db_services::audit::feed::FeedError;
use db_services::audit::query::{AuditFilter, Condition};
use db_services::client::Connection;
use db_test::{Server, wait_for};

use super::{Reader, run, write, written};
use crate::support::TestDb;

#[tokio::test]
async fn a_position_of_another_server_is_refused() {
    let (db, server) = (TestDb::postgres().await, Server::start(&[]).unwrap());
    let mut reader = Reader::from_now(&mut db.connection().await).await;
    let other = TestDb::on(&server);
    let error = reader.try_batch(&mut other.connection().await).await.unwrap_err();
    assert!(matches!(error, FeedError::OtherDatabase("server")), "{error:?}");
}

#[tokio::test]
async fn a_prepared_transaction_comes_when_it_is_committed_also_after_a_restart() {
    let server = Server::start(&[("max_prepared_transactions", "5"), ("autovacuum", "off")]).unwrap();
    let db = TestDb::on(&server);
    let mut reader = Reader::from_now(&mut db.connection().await).await;
    let mut session = db.connection().await;
    for name in ["a", "b"] {
        run(&mut session, "BEGIN").await;
        write(&mut session, name).await;
        run(&mut session, &format!("PREPARE TRANSACTION '{name}'")).await;
    }
    written(&db, "early").await;
    let batch = reader.try_batch(&mut db.connection().await).await.unwrap();
    assert_eq!(super::actions(batch.rows), ["early"]);
    assert_eq!(batch.lag.open, 2);
    assert!(batch.lag.oldest.unwrap().began.is_some());
    run(&mut session, "COMMIT PREPARED 'b'").await;
    assert_eq!(reader.actions(&mut db.connection().await).await, ["b"]);
    drop(session);
    server.restart_immediate().unwrap();
    let db = TestDb::at(db.url.clone());
    let mut conn = db.connection().await;
    assert!(reader.rows(&mut conn).await.is_empty());
    run(&mut conn, "COMMIT PREPARED 'a'").await;
    assert_eq!(reader.actions(&mut conn).await, ["a"]);
    assert!(reader.rows(&mut conn).await.is_empty());
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_read_loses_and_repeats_nothing() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let all: Vec<String> = (0..30).map(|n| format!("act{n:02}")).collect();
    for action in &all {
        written(&db, action).await;
    }
    let mut reader = Reader::from_beginning().limit(7);
    let mut seen = super::actions(reader.try_batch(&mut db.connection().await).await.unwrap().rows);
    for crash in [false, true] {
        match crash {
            true => server.stop_immediate().unwrap(),
            false => server.stop_fast().unwrap(),
        }
        server.start_again().unwrap();
        let db = TestDb::at(db.url.clone());
        seen.extend(super::actions(
            reader.try_batch(&mut db.connection().await).await.unwrap().rows,
        ));
    }
    let db = TestDb::at(db.url.clone());
    seen.extend(reader.actions(&mut db.connection().await).await);
    assert_eq!(seen, all);
}

/// A transaction that ends without a trace on the disk: after a crash another one gets its id.
#[tokio::test]
async fn an_id_that_a_crash_gives_a_second_time_is_read() {
    // Otherwise the log is on the disk within milliseconds.
    let server = Server::start(&[("wal_writer_delay", "10s")]).unwrap();
    let db = TestDb::on(&server);
    written(&db, "one").await;
    let mut early = Reader::from_beginning();
    assert_eq!(early.actions(&mut db.connection().await).await, ["one"]);
    let url = db.url.clone();
    let mut attempts = 0;
    let (mut now, db) = loop {
        let db = TestDb::at(url.clone());
        let before = end_of_ids(&db).await;
        db.sql("BEGIN; INSERT INTO audit_logs (action) VALUES ('lost'); ROLLBACK")
            .await
            .unwrap();
        let burnt = end_of_ids(&db).await;
        assert!(before < burnt);
        let mut conn = db.connection().await;
        let now = Reader::from_now(&mut conn).await;
        assert!(early.rows(&mut conn).await.is_empty());
        drop(conn);
        server.restart_immediate().unwrap();
        let db = TestDb::at(url.clone());
        if end_of_ids(&db).await < burnt {
            break (now, db);
        }
        attempts += 1;
        assert!(attempts < 20, "no crash loses an id");
    };
    for n in 0..4 {
        written(&db, &format!("anew{n}")).await;
    }
    for reader in [&mut early, &mut now] {
        let anew = ["anew0", "anew1", "anew2", "anew3"];
        assert_eq!(reader.actions(&mut db.connection().await).await, anew);
    }
}

/// Its log is on the disk only when a transaction commits.
fn lazy_server() -> Server {
    Server::start(&[
        ("wal_writer_delay", "10s"),
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1h"),
    ])
    .unwrap()
}

/// A transaction that writes, as a bulk load elsewhere, and so keeps the log ahead of the disk.
async fn load(db: &TestDb) -> Connection {
    let mut load = db.connection().await;
    let sql = "CREATE TABLE load (a text); BEGIN; INSERT INTO load SELECT 'x' FROM generate_series(1, 1000)";
    run(&mut load, sql).await;
    load
}

/// A call that finds nothing would otherwise never get on while others write.
#[tokio::test]
async fn a_call_passes_over_what_came_to_the_disk_while_it_read() {
    let server = lazy_server();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    reader.filter = AuditFilter::new().and(Condition::actor("nobody"));
    for _ in 0..5 {
        written(&db, "noise").await;
    }
    let mut load = load(&db).await;
    run(&mut load, "LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE").await;
    let reading = tokio::spawn(async move { reader.try_batch(&mut conn).await });
    let waits = "SELECT count(*)::text AS value FROM pg_locks WHERE NOT granted";
    wait_for("the reader waits for the table", async || {
        db.text(waits).await == "1"
    })
    .await;
    run(&mut load, "COMMIT").await;
    let batch = reading.await.unwrap().unwrap();
    assert!(batch.rows.is_empty() && !batch.more);
    assert_eq!(batch.lag.unread, 0);
}

/// The rows that are left may pass no longer: another filter, or a month that was dropped.
#[tokio::test]
async fn parts_of_a_transaction_do_not_come_again_when_nothing_is_left_of_it() {
    let server = lazy_server();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    db.sql("INSERT INTO audit_logs (action) SELECT 'act' FROM generate_series(1, 10)")
        .await
        .unwrap();
    let mut reader = Reader::from_beginning().limit(6);
    assert_eq!(reader.try_batch(&mut conn).await.unwrap().rows.len(), 6);
    let _load = load(&db).await;
    reader.filter = AuditFilter::new().and(Condition::actor("nobody"));
    assert!(reader.rows(&mut conn).await.is_empty());
    reader.filter = AuditFilter::new();
    assert!(reader.rows(&mut conn).await.is_empty());
}

async fn end_of_ids(db: &TestDb) -> i64 {
    let end = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS value";
    db.text(end).await.parse().unwrap()
}

/// A server that follows no primary is a standby all the same, and can be promoted.
#[tokio::test]
async fn a_standby_is_refused_and_a_promotion_is_noticed() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    written(&db, "one").await;
    let mut reader = Reader::from_beginning();
    assert_eq!(reader.actions(&mut db.connection().await).await, ["one"]);
    server.stop_fast().unwrap();
    server.put("standby.signal", "").unwrap();
    server.start_again().unwrap();
    let db = TestDb::at(db.url.clone());
    assert_eq!(db.text("SELECT pg_is_in_recovery()::text AS value").await, "true");
    for reader in [&mut reader, &mut Reader::from_beginning()] {
        let error = reader.try_batch(&mut db.connection().await).await.unwrap_err();
        assert!(matches!(error, FeedError::Standby), "{error:?}");
    }
    assert_eq!(db.text("SELECT pg_promote()::text AS value").await, "true");
    let error = reader.try_batch(&mut db.connection().await).await.unwrap_err();
    assert!(
        matches!(
            error,
            FeedError::Timeline {
                position: 1,
                server: 2
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        Reader::from_beginning().actions(&mut db.connection().await).await,
        ["one"]
    );
}
