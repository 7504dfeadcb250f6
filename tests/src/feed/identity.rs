//! A position is refused where its rows may be lost: in another database, or in an older copy.

use std::time::Instant;

use db_services::audit::feed::{FeedError, Position};
use db_services::audit::query::{AuditFilter, Condition};
use tempfile::TempDir;

use super::{Reader, run, written};
use crate::support::{TIMEOUT, TestDb, on_both};

on_both! {
    async fn a_position_of_another_database_is_refused(db: TestDb) {
        let other = if db.is_postgres() { TestDb::postgres().await } else { TestDb::sqlite().await };
        for db in [&db, &other] {
            written(db, "one").await;
        }
        let mut reader = Reader::from_now(&mut db.connection().await).await;
        let kept = reader.position.clone();
        let error = reader.try_batch(&mut other.connection().await).await.unwrap_err();
        assert!(matches!(error, FeedError::OtherDatabase(_)), "{error:?}");
        assert!(error.to_string().contains("start again"), "{error}");
        assert_eq!(reader.position, kept);
        assert!(reader.rows(&mut db.connection().await).await.is_empty());
    }
}

#[tokio::test]
async fn a_position_of_the_other_kind_of_database_is_refused() {
    let (postgres, sqlite) = (TestDb::postgres().await, TestDb::sqlite().await);
    for (from, to) in [(&postgres, &sqlite), (&sqlite, &postgres)] {
        let mut reader = Reader::from_now(&mut from.connection().await).await;
        let error = reader.try_batch(&mut to.connection().await).await.unwrap_err();
        assert!(
            matches!(error, FeedError::OtherDatabase("kind of database")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_another_one() {
    let db = TestDb::postgres().await;
    let mut reader = Reader::from_now(&mut db.connection().await).await;
    while db.database.revert_migration().await.is_ok() {}
    db.database.migrate().await.unwrap();
    let error = reader.try_batch(&mut db.connection().await).await.unwrap_err();
    assert!(matches!(error, FeedError::OtherDatabase("table")), "{error:?}");
}

/// As in an older copy of the files, whose transaction ids are behind the position.
#[tokio::test]
async fn a_snapshot_that_is_older_than_the_position_is_refused() {
    let db = TestDb::postgres().await;
    let mut old = db.connection().await;
    run(
        &mut old,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM audit_logs",
    )
    .await;
    written(&db, "one").await;
    let mut reader = Reader::from_beginning();
    assert_eq!(reader.actions(&mut db.connection().await).await, ["one"]);
    let error = reader.try_batch(&mut old).await.unwrap_err();
    assert!(matches!(error, FeedError::Backwards { .. }), "{error:?}");
}

/// As in an older copy of the files that has moved on: transaction ids are ahead of the position again.
#[tokio::test]
async fn a_position_whose_last_row_is_gone_is_refused() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    for action in ["one", "two"] {
        written(&db, action).await;
    }
    let mut reader = Reader::from_beginning();
    assert_eq!(reader.actions(&mut conn).await, ["one", "two"]);
    let now = Reader::from_now(&mut conn).await;
    // A reader that has passed the last row, which its filter left out.
    let mut filtered = Reader::from_beginning();
    filtered.filter = AuditFilter::new().and(Condition::action("one"));
    assert_eq!(filtered.actions(&mut conn).await, ["one"]);
    let begun = Instant::now();
    while filtered.try_batch(&mut conn).await.unwrap().lag.unread > 0 {
        assert!(begun.elapsed() < TIMEOUT);
    }
    for mut reader in [&reader, &now, &filtered].map(|reader| Reader::at(&reader.position.parse().unwrap())) {
        assert!(reader.rows(&mut conn).await.is_empty());
    }
    db.sql(
        "ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_append_only; \
         DELETE FROM audit_logs WHERE action = 'two'; \
         ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_append_only",
    )
    .await
    .unwrap();
    for (name, mut reader) in [("all", reader), ("now", now), ("filtered", filtered)] {
        let error = reader.try_batch(&mut conn).await.unwrap_err();
        assert!(matches!(error, FeedError::LastRowMissing), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_position_outlives_the_month_of_its_last_row() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions(now() - interval '14 months', now()); \
         INSERT INTO audit_logs (action, created_at) VALUES ('old', now() - interval '14 months')",
    )
    .await
    .unwrap();
    let mut reader = Reader::from_beginning();
    assert_eq!(reader.actions(&mut conn).await, ["old"]);
    let gone = "SELECT (audit_logs_drop_month(min(p.partition), 12, 'old', trust_clock => true) > 0)::text AS value \
                FROM audit_retention_plan(12, true) p WHERE p.verdict = 'drop' AND p.row_count > 0";
    assert_eq!(db.text(gone).await, "true");
    written(&db, "new").await;
    let mut behind = Reader::at(&reader.position.parse().unwrap());
    assert_eq!(reader.actions(&mut conn).await, ["new"]);
    // A row that somebody inserts into that month is newer than the position.
    db.sql("INSERT INTO audit_logs (action, created_at) VALUES ('again', now() - interval '14 months')")
        .await
        .unwrap();
    assert_eq!(behind.actions(&mut conn).await, ["new", "again"]);
}

/// Any writer may insert one, and no reader may stop at it.
#[tokio::test]
async fn a_position_behind_a_row_with_an_extreme_time_is_one() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let mut writer = super::connect_as(&db, "writer").await;
    let mut reader = Reader::from_now(&mut conn).await;
    let extremes = [
        "294276-12-31 23:59:59",
        "262143-01-01",
        "infinity",
        "-infinity",
        "4714-11-24 BC",
        "0001-01-01 BC",
    ];
    for time in extremes {
        let insert = format!("INSERT INTO audit_logs (action, created_at) VALUES ('{time}', '{time}Z')");
        run(
            &mut writer,
            &insert.replace("infinityZ", "infinity").replace(" BCZ", " BC"),
        )
        .await;
        assert_eq!(reader.actions(&mut conn).await, [time]);
        written(&db, "next").await;
        assert_eq!(reader.actions(&mut conn).await, ["next"]);
    }
}

/// Copies a file of SQLite, with everything that is in it.
async fn copy(db: &TestDb, to: &TempDir) -> TestDb {
    let path = to.path().join("copy.db");
    db.sql(&format!("VACUUM INTO '{}'", path.display()))
        .await
        .unwrap();
    TestDb::at(format!("sqlite://{}", path.display()))
}

#[tokio::test]
async fn an_older_copy_of_a_file_is_noticed_before_and_after_it_has_grown() {
    let (db, dir) = (TestDb::sqlite().await, tempfile::tempdir().unwrap());
    written(&db, "one").await;
    let old = copy(&db, &dir).await;
    let mut reader = Reader::from_beginning();
    let mut conn = db.connection().await;
    assert_eq!(reader.actions(&mut conn).await, ["one"]);
    // The copy has what the reader has seen.
    assert!(reader.rows(&mut old.connection().await).await.is_empty());
    written(&db, "two").await;
    assert_eq!(reader.actions(&mut conn).await, ["two"]);
    let error = reader.try_batch(&mut old.connection().await).await.unwrap_err();
    assert!(
        matches!(
            error,
            FeedError::Backwards {
                position: 2,
                server: 1
            }
        ),
        "{error:?}"
    );
    for action in ["else", "more"] {
        written(&old, action).await;
    }
    let error = reader.try_batch(&mut old.connection().await).await.unwrap_err();
    assert!(matches!(error, FeedError::LastRowMissing), "{error:?}");
}

#[tokio::test]
async fn positions_of_an_existing_sqlite_trail_begin_with_its_oldest_row() {
    let db = TestDb::empty_sqlite();
    db.database.migrate().await.unwrap();
    while !db.database.revert_migration().await.unwrap().ends_with("000003") {}
    for n in [3, 1, 2] {
        db.sql(&format!(
            "INSERT INTO audit_logs (action, created_at) VALUES ('act{n}', {n})"
        ))
        .await
        .unwrap();
    }
    db.database.migrate().await.unwrap();
    let mut conn = db.connection().await;
    let mut reader = Reader::at(&Position::beginning()).limit(2);
    assert_eq!(reader.actions(&mut conn).await, ["act1", "act2", "act3"]);
}
