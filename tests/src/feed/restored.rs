//! Rows that another cluster has written, whose transaction ids are in the future.

use db_test::Server;

use super::{Reader, run, write, written};
use crate::support::TestDb;

/// Inserts a row as a restore does, with a transaction id of another cluster.
async fn restore(db: &TestDb, action: &str, tx_id: &str) {
    db.sql(&format!(
        "INSERT INTO audit_logs (action, tx_id) VALUES ('{action}', {tx_id})"
    ))
    .await
    .unwrap();
}

/// An id that the server gives after `count` others.
fn ahead(count: i64) -> String {
    format!("pg_snapshot_xmax(pg_current_snapshot())::text::bigint + {count}")
}

async fn burn(db: &TestDb, ids: u32) {
    for _ in 0..ids {
        db.sql("SELECT pg_current_xact_id()").await.unwrap();
    }
}

#[tokio::test]
async fn rows_from_the_future_come_first_and_never_again() {
    // Tests of other databases would use up ids.
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    written(&db, "own").await;
    for n in 0..20 {
        restore(&db, &format!("foreign{n:02}"), &ahead(10 + n)).await;
    }
    restore(&db, "far", "1000000000000").await;
    let mut now = Reader::from_now(&mut conn).await;
    let mut reader = Reader::from_beginning().limit(3);
    let mut all = reader.actions(&mut conn).await;
    all.sort();
    let mut expected: Vec<String> = (0..20).map(|n| format!("foreign{n:02}")).collect();
    expected.insert(0, "far".to_owned());
    expected.push("own".to_owned());
    assert_eq!(all, expected);
    // The server's own transactions reach those ids.
    let mut own = Vec::new();
    for n in 0..30 {
        burn(&db, 2).await;
        let mut late = db.connection().await;
        run(&mut late, "BEGIN").await;
        write(&mut late, &format!("late{n}")).await;
        written(&db, &format!("next{n}")).await;
        for reader in [&mut reader, &mut now] {
            assert_eq!(reader.actions(&mut conn).await, [format!("next{n}")]);
        }
        run(&mut late, "COMMIT").await;
        own.push(format!("late{n}"));
        for reader in [&mut reader, &mut now] {
            assert_eq!(reader.actions(&mut conn).await, [format!("late{n}")]);
        }
    }
    assert_eq!(own.len(), 30);
}

#[tokio::test]
async fn rows_from_the_future_that_arrive_later_come_when_the_server_gets_there() {
    // Tests of other databases would use up ids.
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    restore(&db, "foreign", &ahead(20)).await;
    assert!(reader.rows(&mut conn).await.is_empty());
    burn(&db, 30).await;
    assert_eq!(reader.actions(&mut conn).await, ["foreign"]);
    assert!(reader.rows(&mut conn).await.is_empty());
}

#[tokio::test]
async fn a_restored_row_of_the_past_comes_to_new_readers_alone() {
    // Tests of other databases would use up ids.
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    restore(&db, "restored", "3").await;
    assert!(reader.rows(&mut conn).await.is_empty());
    assert_eq!(Reader::from_beginning().actions(&mut conn).await, ["restored"]);
}

/// The ids of the foreign rows are given while they are being read.
#[tokio::test]
async fn own_rows_that_commit_while_rows_from_the_future_are_read_come_once() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    let mut expected = Vec::new();
    for n in 0..10 {
        restore(&db, &format!("foreign{n}"), &ahead(30)).await;
        expected.push(format!("foreign{n}"));
    }
    let mut reader = Reader::from_beginning().limit(1);
    let mut seen = super::actions(reader.try_batch(&mut conn).await.unwrap().rows);
    assert_eq!(seen, ["foreign0"]);
    for n in 0..60 {
        written(&db, &format!("own{n:02}")).await;
        expected.push(format!("own{n:02}"));
    }
    seen.extend(reader.actions(&mut conn).await);
    seen.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn rows_with_ids_that_no_database_gives_come_to_readers_from_the_beginning() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    written(&db, "own").await;
    for id in [i64::MAX - 1, 1 << 62, -1, i64::MIN] {
        restore(&db, &id.to_string(), &id.to_string()).await;
    }
    // Not the last number, behind which there is no other.
    restore(&db, "last", &i64::MAX.to_string()).await;
    let ids = [i64::MAX - 1, 1 << 62, -1, i64::MIN].map(|id| id.to_string());
    for limit in [1, 2, 1_000] {
        let mut seen = Reader::from_beginning().limit(limit).actions(&mut conn).await;
        seen.sort();
        let mut expected: Vec<String> = ids.to_vec();
        expected.push("own".to_owned());
        expected.sort();
        assert_eq!(seen, expected, "{limit}");
    }
    let mut reader = Reader::from_now(&mut conn).await;
    written(&db, "next").await;
    assert_eq!(reader.actions(&mut conn).await, ["next"]);
}
