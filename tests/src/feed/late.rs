//! Rows of transactions that commit late, or in part, or not at all.

use std::time::Instant;

use db_services::audit::feed::FeedError;
use db_services::audit::query::{AuditFilter, Condition};
use db_services::audit::{AuditEntry, for_tenant, insert};
use db_test::Server;

use super::{Reader, actions, run, write, written};
use crate::support::{TIMEOUT, TestDb, on_both};

on_both! {
    async fn a_reader_gets_each_row_once_and_nothing_without_new_rows(db: TestDb) {
        let mut conn = db.connection().await;
        let mut reader = Reader::from_beginning();
        assert!(reader.rows(&mut conn).await.is_empty());
        let mut all = Vec::new();
        for n in 0..5 {
            written(&db, &format!("act{n}")).await;
            written(&db, &format!("act{n}b")).await;
            all.extend([format!("act{n}"), format!("act{n}b")]);
            assert_eq!(reader.actions(&mut conn).await, all[2 * n..]);
            assert!(reader.rows(&mut conn).await.is_empty());
        }
        assert_eq!(Reader::from_beginning().limit(3).actions(&mut conn).await, all);
    }

    async fn a_reader_from_now_gets_what_comes_later(db: TestDb) {
        let mut conn = db.connection().await;
        for n in 0..3 {
            written(&db, &format!("before{n}")).await;
        }
        let mut reader = Reader::from_now(&mut conn).await;
        assert!(reader.rows(&mut conn).await.is_empty());
        written(&db, "after").await;
        assert_eq!(reader.actions(&mut conn).await, ["after"]);
    }

    async fn a_rollback_leaves_nothing_to_read(db: TestDb) {
        let mut conn = db.connection().await;
        let mut reader = Reader::from_now(&mut conn).await;
        let mut session = db.connection().await;
        run(&mut session, "BEGIN").await;
        write(&mut session, "undone").await;
        run(&mut session, "ROLLBACK").await;
        assert!(reader.rows(&mut conn).await.is_empty());
        run(&mut session, "BEGIN").await;
        write(&mut session, "kept1").await;
        run(&mut session, "SAVEPOINT a").await;
        write(&mut session, "undone").await;
        run(&mut session, "ROLLBACK TO SAVEPOINT a; SAVEPOINT b").await;
        write(&mut session, "kept2").await;
        run(&mut session, "RELEASE SAVEPOINT b").await;
        assert!(reader.rows(&mut conn).await.is_empty());
        run(&mut session, "COMMIT").await;
        let mut kept = reader.actions(&mut conn).await;
        kept.sort();
        assert_eq!(kept, ["kept1", "kept2"]);
    }

    async fn a_filter_passes_over_other_rows(db: TestDb) {
        let mut conn = db.connection().await;
        for n in 0..40 {
            written(&db, if n % 10 == 3 { "wanted" } else { "other" }).await;
        }
        let mut reader = Reader::from_beginning().limit(3);
        reader.filter = AuditFilter::new().and(Condition::action("wanted"));
        assert_eq!(reader.actions(&mut conn).await, ["wanted"; 4]);
        reader.filter = AuditFilter::new().and(Condition::actor("nobody"));
        reader.position = Reader::from_beginning().position;
        assert!(reader.rows(&mut conn).await.is_empty());
        // The position is behind all rows, once the log of the server is on the disk up to there.
        let begun = Instant::now();
        while reader.try_batch(&mut conn).await.unwrap().lag.unread > 0 {
            assert!(begun.elapsed() < TIMEOUT);
        }
        reader.filter = AuditFilter::new();
        assert!(reader.rows(&mut conn).await.is_empty());
        written(&db, "next").await;
        assert_eq!(reader.actions(&mut conn).await, ["next"]);
    }

    async fn a_tenants_reader_gets_its_own_rows(db: TestDb) {
        let mut conn = db.connection().await;
        let mut position = Reader::from_beginning().position;
        for round in 0..3 {
            for tenant in ["acme", "globex", "acme"] {
                let entry = AuditEntry::new(format!("{tenant}{round}")).tenant(tenant);
                insert(&mut conn, &entry).await.unwrap();
            }
            let (seen, after) = for_tenant(&db.database, "acme", async |conn| {
                let mut reader = Reader::from_beginning().limit(1);
                reader.position = position.clone();
                let mut seen = Vec::new();
                loop {
                    let batch = reader.try_batch(conn).await?;
                    seen.extend(batch.rows);
                    if !batch.more {
                        return Ok((seen, reader.position));
                    }
                }
            })
            .await
            .unwrap();
            position = after;
            assert_eq!(actions(seen), [format!("acme{round}"), format!("acme{round}")]);
        }
    }
}

#[tokio::test]
async fn a_row_that_commits_late_comes_when_it_is_committed() {
    // The lag counts the transactions of the whole server.
    let server = Server::start(&[("autovacuum", "off")]).unwrap();
    let db = TestDb::on(&server);
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    let mut late = db.connection().await;
    run(&mut late, "BEGIN").await;
    write(&mut late, "late").await;
    written(&db, "early").await;
    let batch = reader.try_batch(&mut conn).await.unwrap();
    assert_eq!(actions(batch.rows.clone()), ["early"]);
    assert_eq!(batch.lag.open, 1, "{:?}", batch.lag);
    let oldest = batch.lag.oldest.expect("the server has an open transaction");
    assert!(oldest.behind >= 2 && oldest.began.is_some(), "{oldest:?}");
    // A reader by the newest time, or by the highest number, is behind the row already.
    let newest = batch.rows[0].created_at;
    run(&mut late, "COMMIT").await;
    let rows = reader.rows(&mut conn).await;
    assert!(rows[0].created_at < newest && rows[0].tx_id < batch.rows[0].tx_id);
    assert_eq!(actions(rows), ["late"]);
    assert!(reader.rows(&mut conn).await.is_empty());
}

#[tokio::test]
async fn many_late_transactions_come_each_when_it_commits() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await.limit(2);
    let mut sessions = Vec::new();
    for n in 0..6 {
        let mut session = db.connection().await;
        run(&mut session, "BEGIN").await;
        for _ in 0..3 {
            write(&mut session, &format!("late{n}")).await;
        }
        sessions.push(session);
    }
    let mut seen = Vec::new();
    for n in [4, 0, 5, 1, 3, 2] {
        written(&db, &format!("early{n}")).await;
        if n % 2 == 0 {
            seen.extend(reader.actions(&mut conn).await);
            assert_eq!(seen.last().unwrap(), &format!("early{n}"));
        }
        let end = if n == 3 { "ROLLBACK" } else { "COMMIT" };
        run(&mut sessions[n], end).await;
    }
    seen.extend(reader.actions(&mut conn).await);
    seen.sort();
    let mut expected: Vec<String> = (0..6).map(|n| format!("early{n}")).collect();
    for n in [0, 1, 2, 4, 5] {
        expected.extend(vec![format!("late{n}"); 3]);
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn subtransactions_of_functions_belong_to_their_transaction() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    let mut session = db.connection().await;
    run(
        &mut session,
        "BEGIN; DO $$ BEGIN FOR n IN 1..100 LOOP BEGIN INSERT INTO audit_logs (action) VALUES ('sub'); \
         IF n % 2 = 0 THEN RAISE 'undo'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
    )
    .await;
    written(&db, "between").await;
    assert_eq!(reader.actions(&mut conn).await, ["between"]);
    run(&mut session, "COMMIT").await;
    assert_eq!(reader.actions(&mut conn).await, ["sub"; 50]);
    assert!(reader.rows(&mut conn).await.is_empty());
}

#[tokio::test]
async fn a_transaction_that_has_written_cannot_read_the_feed() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    run(&mut conn, "BEGIN").await;
    write(&mut conn, "own").await;
    let error = reader.try_batch(&mut conn).await.unwrap_err();
    assert!(matches!(error, FeedError::TransactionHasWritten), "{error:?}");
}
