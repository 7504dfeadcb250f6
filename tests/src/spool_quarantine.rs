//! A quarantined entry is written again to the database that it was meant for, and to no other unasked.

use std::path::Path;

use db_services::audit::spool::{self, Quarantine, ReplayScope, Retried};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, AuditWriter, Delivery, Durability};
use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::spool::fast_retry;
use crate::support::{TIMEOUT, TestDb, on_both};

async fn polite(db: &TestDb) {
    db.sql(match db.is_postgres() {
        true => "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
        false => "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' BEGIN SELECT RAISE(ABORT, 'rude'); END",
    })
    .await
    .unwrap();
}

async fn rude(db: &TestDb) {
    db.sql(match db.is_postgres() {
        true => "ALTER TABLE audit_logs DROP CONSTRAINT polite",
        false => "DROP TRIGGER polite",
    })
    .await
    .unwrap();
}

/// Three entries that the database rejects are in the quarantine.
async fn quarantine_three(db: &TestDb, dir: &Path) {
    polite(db).await;
    let builder = AuditWriter::builder(db.database.clone()).durability(Durability::Spill(dir.to_owned()));
    let (writer, guard) = builder.start().unwrap();
    let entries = ["kind.word", "rude.word", "rude.word", "rude.word"].map(AuditEntry::new);
    assert_eq!(writer.write_all(entries).counts().await.quarantined, 3);
    guard.shutdown(TIMEOUT).await;
    rude(db).await;
}

async fn retry(dir: &Path, database: &Database, scope: ReplayScope) -> Retried {
    let mut quarantine = Quarantine::open(dir).unwrap();
    quarantine.retry(database, scope).await.unwrap()
}

fn kept(dir: &Path) -> usize {
    Quarantine::open(dir).unwrap().list().unwrap().len()
}

on_both! {
    async fn a_quarantined_entry_is_written_to_its_own_database_alone(db: TestDb) {
        let (dir, other) = (TempDir::new().unwrap(), TestDb::sqlite().await);
        quarantine_three(&db, dir.path()).await;
        let done = retry(dir.path(), &other.database, ReplayScope::SameDatabase).await;
        assert_eq!((done.stored, done.other_target), (0, 3), "{done:?}");
        assert_eq!((other.count().await, kept(dir.path())), (0, 3));
        let done = retry(dir.path(), &db.database, ReplayScope::SameDatabase).await;
        assert_eq!((done.stored, done.other_target), (3, 0), "{done:?}");
        assert_eq!((db.count().await, kept(dir.path())), (4, 0));
    }

    async fn a_quarantined_entry_is_written_to_another_database_on_request(db: TestDb) {
        let (dir, origin) = (TempDir::new().unwrap(), TestDb::sqlite().await);
        quarantine_three(&origin, dir.path()).await;
        let done = retry(dir.path(), &db.database, ReplayScope::AnyDatabase).await;
        assert_eq!((done.stored, done.other_target), (3, 0), "{done:?}");
        assert_eq!((db.count().await, kept(dir.path())), (3, 0));
    }

    async fn the_database_says_why_it_takes_no_quarantined_entry(db: TestDb) {
        let dir = TempDir::new().unwrap();
        quarantine_three(&db, dir.path()).await;
        polite(&db).await;
        let done = retry(dir.path(), &db.database, ReplayScope::SameDatabase).await;
        let reasons: Vec<_> = done.rejected.into_iter().collect();
        let part = if db.is_postgres() { "polite" } else { "rude" };
        assert!(matches!(&*reasons, [(reason, 3)] if reason.contains(part)), "{reasons:?}");
        db.sql("ALTER TABLE audit_logs RENAME TO elsewhere").await.unwrap();
        let done = retry(dir.path(), &db.database, ReplayScope::SameDatabase).await;
        assert_eq!(done.stored, 0);
        assert!(done.failure.is_some_and(|reason| reason.contains("audit_logs")));
        assert_eq!(kept(dir.path()), 3);
    }
}

/// Its rows do not say which database they are for.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_an_older_version_quarantined_is_written_on_request_alone() {
    let (dir, db) = (TempDir::new().unwrap(), TestDb::sqlite().await);
    quarantine_three(&db, dir.path()).await;
    let path = dir.path().join("quarantine.sqlite").display().to_string();
    let mut conn = SqliteConnection::establish(&path).unwrap();
    conn.batch_execute("UPDATE quarantine SET target = NULL").unwrap();
    drop(conn);
    let done = retry(dir.path(), &db.database, ReplayScope::SameDatabase).await;
    assert_eq!((done.stored, done.unknown_target), (0, 3), "{done:?}");
    let done = retry(dir.path(), &db.database, ReplayScope::AnyDatabase).await;
    assert_eq!(
        (done.stored, done.unknown_target, kept(dir.path())),
        (3, 0, 0),
        "{done:?}"
    );
}

/// A replay on request has decided which database its entries are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_quarantines_entries_for_the_database_that_it_writes_to() {
    let (dir, db, database) = (
        TempDir::new().unwrap(),
        TestDb::sqlite().await,
        MemoryDatabase::new(),
    );
    database.fail(Failure::Unreachable);
    let builder = database
        .writer()
        .retry(fast_retry())
        .durability(Durability::WriteAhead(dir.path().to_owned()));
    let (writer, guard) = builder.start().unwrap();
    assert_eq!(
        writer.write(AuditEntry::new("rude.word")).await,
        Delivery::Spooled
    );
    guard.shutdown(TIMEOUT).await;
    polite(&db).await;
    let done = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await;
    assert_eq!(done.unwrap().quarantined, 1);
    let target = Quarantine::open(dir.path())
        .unwrap()
        .list()
        .unwrap()
        .remove(0)
        .target;
    let path = db.database.sqlite_path().unwrap();
    assert_eq!(target.unwrap(), format!("sqlite://{}", path.display()));
    rude(&db).await;
    assert_eq!(
        retry(dir.path(), &db.database, ReplayScope::SameDatabase)
            .await
            .stored,
        1
    );
}
