//! The write-ahead log of a spool file in use is removed or cut off: what is acknowledged from then on is safe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use db_services::audit::spool::{self, ReplayScope};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditWriter, Delivery, Durability};
use tempfile::TempDir;

use crate::spool::fast_retry;
use crate::support::{TIMEOUT, TestDb, numbered};

const ENTRIES: usize = 30;

/// The log of the only spool file.
fn log(dir: &Path) -> PathBuf {
    let mut paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "spool-wal"))
        .unwrap()
}

/// The directory as a killed process leaves it: copied while the writer runs.
fn as_if_killed(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

async fn write(writer: &AuditWriter, numbers: std::ops::Range<usize>) {
    for entry in numbered(ENTRIES).skip(numbers.start).take(numbers.len()) {
        assert_eq!(writer.write(entry).await, Delivery::Spooled);
    }
}

/// Writes ten entries, does this to the log, writes the others, and returns the numbers of those that are stored
/// after a kill and a replay.
async fn stored_after(act: impl Fn(&Path)) -> BTreeSet<usize> {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    database.fail(Failure::Unreachable);
    let durability = Durability::WriteAhead(dir.path().to_owned());
    let builder = database.writer().retry(fast_retry()).durability(durability);
    let (writer, guard) = builder.start().unwrap();
    write(&writer, 0..10).await;
    act(&log(dir.path()));
    write(&writer, 10..ENTRIES).await;
    let killed = as_if_killed(dir.path());
    let db = TestDb::sqlite().await;
    spool::replay(killed.path(), &db.database, ReplayScope::AnyDatabase, |_| {})
        .await
        .unwrap();
    guard.shutdown(TIMEOUT).await;
    let rows = db.rows().await;
    let number = |id: &Option<String>| id.as_ref()?.parse().ok();
    rows.iter().filter_map(|row| number(&row.resource_id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_safe_though_the_log_of_the_spool_file_was_removed() {
    let stored = stored_after(|log| std::fs::remove_file(log).unwrap()).await;
    assert_eq!(stored.len(), ENTRIES, "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_follow_are_safe_though_the_log_of_the_spool_file_was_cut_off() {
    let cut_off = |log: &Path| {
        let file = std::fs::File::options().write(true).open(log).unwrap();
        file.set_len(0).unwrap();
    };
    let stored = stored_after(cut_off).await;
    assert!((10..ENTRIES).all(|number| stored.contains(&number)), "{stored:?}");
}
