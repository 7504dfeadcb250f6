//! Spool files that are damaged, locked, removed or renamed lose no acknowledged entry.

use std::path::{Path, PathBuf};

use db_services::audit::spool::{self, Quarantine, ReplayScope, Replayed, SpoolState};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{self, AuditEntry, Delivery, Durability, verify_writers};
use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::small_disk::{SmallDisk, rerun_in_name_space};
use crate::spool::{fast_retry, write_damaged_spool};
use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for};

/// Writes entries to a spool file, like a writer whose database is unreachable.
async fn write_spool(entries: Vec<AuditEntry>, dir: &Path) -> PathBuf {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let builder = database
        .writer()
        .retry(fast_retry())
        .receipt_timeout(TIMEOUT)
        .durability(Durability::WriteAhead(dir.to_owned()));
    let (writer, guard) = builder.start().unwrap();
    assert_eq!(writer.write_all(entries).await, Delivery::Spooled);
    guard.shutdown(TIMEOUT).await;
    only(dir, "spool")
}

fn only(dir: &Path, extension: &str) -> PathBuf {
    let mut found = with_extension(dir, extension);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

async fn replay(dir: &Path, database: &Database) -> Replayed {
    spool::replay(dir, database, ReplayScope::AnyDatabase, |_| {})
        .await
        .unwrap()
}

/// The number of readable entries in a file of `write_damaged_spool`.
async fn readable_entries() -> i64 {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    write_damaged_spool(&MemoryDatabase::new(), dir.path()).await;
    assert_eq!(replay(dir.path(), &db.database).await.damaged, 1);
    let stored = db.count().await;
    assert!(stored > 1_500, "{stored}");
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_during_a_recovery_loses_no_readable_entry() {
    if rerun_in_name_space("spool_files::a_full_disk_during_a_recovery_loses_no_readable_entry") {
        return;
    }
    let (disk, db) = (SmallDisk::mount(8), TestDb::sqlite().await);
    write_damaged_spool(&MemoryDatabase::new(), disk.path()).await;
    let damaged = std::fs::read(only(disk.path(), "spool")).unwrap();
    disk.fill_but(0);
    let error = spool::replay(disk.path(), &db.database, ReplayScope::AnyDatabase, |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("stays as it is"), "{error}");
    assert_eq!(std::fs::read(only(disk.path(), "spool")).unwrap(), damaged);
    assert_eq!(with_extension(disk.path(), "damaged").len(), 0);
    disk.free();
    assert_eq!(replay(disk.path(), &db.database).await.damaged, 1);
    assert_eq!(db.count().await, readable_entries().await);
}

/// SQLite writes a removal to its log first, for which a full disk has no space.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_fills_its_disk_is_replayed_and_removed() {
    if rerun_in_name_space("spool_files::a_spool_that_fills_its_disk_is_replayed_and_removed") {
        return;
    }
    let (disk, db) = (SmallDisk::mount(8), TestDb::sqlite().await);
    let database = MemoryDatabase::new();
    let path = write_spool(numbered(3_000).collect(), disk.path()).await;
    disk.fill_but(0);
    let refused = std::fs::write(disk.path().join("more"), [0; 8 << 10]);
    assert!(refused.is_err(), "the disk is full");
    let builder = database
        .writer()
        .retry(fast_retry())
        .durability(Durability::WriteAhead(disk.path().to_owned()));
    let (writer, guard) = builder.start().unwrap();
    wait_for("the orphan is removed", async || !path.exists()).await;
    assert_eq!(
        database
            .rows()
            .iter()
            .filter(|row| &*row.action == "test.write")
            .count(),
        3_000
    );
    disk.free();
    writer.write(AuditEntry::new("later")).await;
    guard.shutdown(TIMEOUT).await;

    let path = write_spool(numbered(3_000).collect(), disk.path()).await;
    disk.fill_but(0);
    let done = replay(disk.path(), &db.database).await;
    assert_eq!((done.files, done.entries, path.exists()), (1, 3_000, false));
}

/// Like an operator with a shell in the file: SQLite reports "database is locked".
#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_another_connection_has_locked_is_left_unchanged() {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let path = write_spool(numbered(100).collect(), dir.path()).await;
    let mut holder = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    holder
        .batch_execute("PRAGMA locking_mode = EXCLUSIVE; UPDATE batches SET entries = entries")
        .unwrap();
    let held = replay(dir.path(), &db.database).await;
    assert_eq!((held.left, held.damaged, held.entries), (1, 0, 0));
    let (writer, guard) = db
        .builder()
        .durability(Durability::Spill(dir.path().to_owned()))
        .start()
        .unwrap();
    assert_eq!(
        writer.write(AuditEntry::new("meanwhile")).await,
        Delivery::Committed
    );
    drop(guard);
    assert_eq!(only(dir.path(), "spool"), path);
    drop(holder);
    let free = replay(dir.path(), &db.database).await;
    assert_eq!((free.left, free.files, free.entries), (0, 1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_whose_lock_another_process_holds_is_in_use() {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let path = write_spool(numbered(100).collect(), dir.path()).await;
    let mut holder = std::process::Command::new("flock")
        .arg(path.with_extension("lock"))
        .args(["sh", "-c", "echo locked; cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("cannot run flock(1): install util-linux");
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(holder.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line, "locked\n");
    let state = spool::status(dir.path()).unwrap().remove(0).state;
    assert!(
        matches!(
            state,
            SpoolState::Waiting {
                in_use: true,
                entries: 102,
                ..
            }
        ),
        "{state:?}"
    );
    assert_eq!(
        (replay(dir.path(), &db.database).await.left, db.count().await),
        (1, 0)
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(replay(dir.path(), &db.database).await.entries, 100);
}

#[tokio::test]
async fn entries_are_acknowledged_and_stored_although_the_directory_is_removed() {
    let (database, parent) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let dir = parent.path().join("spool");
    database.fail(Failure::Unreachable);
    let ahead = || {
        database
            .writer()
            .retry(fast_retry())
            .receipt_timeout(TIMEOUT)
            .durability(Durability::WriteAhead(dir.clone()))
    };
    let (writer, guard) = ahead().start().unwrap();
    assert_eq!(writer.write_all(numbered(10)).await, Delivery::Spooled);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(writer.write_all(numbered(20).skip(10)).await, Delivery::Spooled);
    guard.shutdown(TIMEOUT).await;
    database.recover();
    let (_writer, guard) = ahead().start().unwrap();
    wait_for("the replay", async || database.entries().len() == 20).await;
    drop(guard);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intact_file_that_was_renamed_is_replayed_on_request() {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let path = write_spool(numbered(100).collect(), dir.path()).await;
    std::fs::rename(&path, path.with_extension("damaged")).unwrap();
    assert_eq!(replay(dir.path(), &db.database).await, Replayed::default());
    assert_eq!(
        spool::restore_damaged(dir.path(), &db.database, ReplayScope::SameDatabase).unwrap(),
        0,
        "the file is for another database"
    );
    assert_eq!(
        spool::restore_damaged(dir.path(), &db.database, ReplayScope::AnyDatabase).unwrap(),
        1
    );
    let done = replay(dir.path(), &db.database).await;
    assert_eq!((done.files, done.entries, done.damaged), (1, 100, 0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A damaged file is read as far as possible, and renamed again.
    write_damaged_spool(&MemoryDatabase::new(), dir.path()).await;
    assert_eq!(replay(dir.path(), &db.database).await.damaged, 1);
    let stored = db.count().await;
    assert_eq!(
        spool::restore_damaged(dir.path(), &db.database, ReplayScope::AnyDatabase).unwrap(),
        1
    );
    assert_eq!(replay(dir.path(), &db.database).await.damaged, 1);
    assert_eq!(
        (db.count().await, with_extension(dir.path(), "damaged").len()),
        (stored, 1)
    );
}

/// The service's next rejected row would be lost if root's replay created a quarantine for itself. Run as another
/// user, the owners are the same in any case.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_by_root_creates_belongs_to_the_services_user() {
    use std::os::unix::fs::{MetadataExt, chown};
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let _ = chown(dir.path(), Some(65_534), Some(65_534));
    db.sql(
        "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' \
         BEGIN SELECT RAISE(ABORT, 'rude'); END",
    )
    .await
    .unwrap();
    write_spool(vec![AuditEntry::new("rude.word")], dir.path()).await;
    assert_eq!(replay(dir.path(), &db.database).await.quarantined, 1);
    let owner = std::fs::metadata(dir.path()).unwrap().uid();
    let quarantine = std::fs::metadata(dir.path().join("quarantine.sqlite")).unwrap();
    assert_eq!((quarantine.uid(), quarantine.mode() & 0o777), (owner, 0o600));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), owner, "{:?}", entry.file_name());
    }
}

/// The name of its database cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_without_a_target_is_only_replayed_on_request() {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let path = dir.path().join("00000000-0000-7000-8000-000000000000.spool");
    std::fs::write(&path, [0xA5; 5_000]).unwrap();
    let (writer, guard) = db
        .builder()
        .durability(Durability::Spill(dir.path().to_owned()))
        .start()
        .unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    drop(guard);
    let done = spool::replay(dir.path(), &db.database, ReplayScope::SameDatabase, |_| {})
        .await
        .unwrap();
    assert_eq!((done.left, done.damaged), (1, 0));
    assert_eq!(std::fs::read(&path).unwrap(), [0xA5; 5_000]);
    assert_eq!(replay(dir.path(), &db.database).await.damaged, 1);
}

on_both! {
    async fn a_row_that_is_rejected_in_a_replay_is_declared_for_its_writer(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let entries = numbered(20).enumerate().map(|(n, entry)| if n == 7 { AuditEntry::new("rude.word") } else { entry });
        write_spool(entries.collect(), dir.path()).await;
        db.sql(match db.is_postgres() {
            true => "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
            false => "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' BEGIN SELECT RAISE(ABORT, 'rude'); END",
        }).await.unwrap();
        let done = replay(dir.path(), &db.database).await;
        assert_eq!((done.entries, done.quarantined, done.failure), (19, 1, None));
        assert_eq!(Quarantine::open(dir.path()).unwrap().list().unwrap().len(), 1);
        let mut conn = db.connection().await;
        let accounts = verify_writers(&mut conn).await.unwrap();
        assert_eq!(accounts.len(), 1, "{accounts:?}");
        assert_eq!((accounts[0].quarantined, accounts[0].missing), (1, 0), "{accounts:?}");
        let rows = audit::latest_with_records(&mut conn, 100).await.unwrap();
        let declared = rows.iter().find(|row| row.action == "audit.entry_quarantined").unwrap();
        assert_eq!(declared.writer_id, Some(accounts[0].writer_id));
    }
}
