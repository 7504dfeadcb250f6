//! Statements of the feed that the server ends.

use db_services::audit::feed::FeedError;

use super::{Reader, run, written};
use crate::support::TestDb;

/// A statement that waits for a lock takes as long as one that reads too much.
#[tokio::test]
async fn a_statement_timeout_makes_windows_narrower_and_loses_nothing() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let mut reader = Reader::from_now(&mut conn).await;
    let mut all = Vec::new();
    for n in 0..40 {
        written(&db, &format!("act{n:02}")).await;
        all.push(format!("act{n:02}"));
    }
    run(&mut conn, "SET statement_timeout = '1s'").await;
    let mut holder = db.connection().await;
    run(
        &mut holder,
        "BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE",
    )
    .await;
    let mut narrower = 0;
    let error = loop {
        let kept = reader.position.clone();
        match reader.try_batch(&mut conn).await {
            Ok(batch) => assert!(batch.rows.is_empty() && batch.more && reader.position != kept),
            Err(error) => break error,
        }
        narrower += 1;
    };
    // Down to a single transaction, after which the limit is too short in any case.
    assert!((1..10).contains(&narrower), "{narrower}");
    assert!(
        matches!(&error, FeedError::Database(error) if error.to_string().contains("statement timeout")),
        "{error:?}"
    );
    run(&mut holder, "COMMIT").await;
    assert_eq!(reader.actions(&mut conn).await, all);
}
