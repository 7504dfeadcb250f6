//! A disk that is full, or nearly full, delays the entries of a spool and loses none.

use std::path::Path;

use db_services::audit::spool::{self, ReplayScope};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, AuditWriter, Delivery, Durability, WriterGuard};
use tempfile::TempDir;

use crate::small_disk::{SmallDisk, rerun_in_name_space};
use crate::spool::fast_retry;
use crate::support::{TIMEOUT, TestDb, numbered, wait_for};

/// A block of the file system in memory.
const BLOCK: usize = 4 << 10;

fn ahead(database: &MemoryDatabase, dir: &Path) -> (AuditWriter, WriterGuard) {
    let builder = database
        .writer()
        .retry(fast_retry())
        .durability(Durability::WriteAhead(dir.to_owned()));
    builder.start().unwrap()
}

/// The index of SQLite's log takes eight blocks, which SQLite reports otherwise than a file that has no space.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_starts_on_a_nearly_full_disk_takes_the_spool_into_use_later() {
    if rerun_in_name_space(
        "spool_disk::a_writer_that_starts_on_a_nearly_full_disk_takes_the_spool_into_use_later",
    ) {
        return;
    }
    let disk = SmallDisk::mount(2);
    let mut waiting = Vec::new();
    for blocks in 0..24 {
        disk.fill_but(blocks * BLOCK);
        let dir = disk.path().join(blocks.to_string());
        // An inode of this file system takes no block.
        std::fs::create_dir(&dir).unwrap();
        let database = MemoryDatabase::new();
        database.fail(Failure::Unreachable);
        let (writer, guard) = ahead(&database, &dir);
        drop(writer.write(AuditEntry::new("early")));
        waiting.push((blocks, writer, guard));
    }
    disk.free();
    for (blocks, writer, guard) in waiting {
        let case = format!("{blocks} free blocks at the start");
        wait_for(&case, async || {
            writer.write(AuditEntry::new("late")).await == Delivery::Spooled
        })
        .await;
        drop(guard);
    }
}

/// Leaves 50 entries as a killed process does, in a file and its log, without the log's index if a program that
/// cleans directories removed it.
async fn leave_killed(dir: &Path, has_index: bool) {
    let (origin, database) = (TempDir::new().unwrap(), MemoryDatabase::new());
    database.fail(Failure::Unreachable);
    let (writer, guard) = ahead(&database, origin.path());
    assert_eq!(writer.write_all(numbered(50)).await, Delivery::Spooled);
    for entry in std::fs::read_dir(origin.path()).unwrap() {
        let from = entry.unwrap().path();
        if has_index || from.extension().is_none_or(|found| found != "spool-shm") {
            std::fs::copy(&from, dir.join(from.file_name().unwrap())).unwrap();
        }
    }
    guard.shutdown(TIMEOUT).await;
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "ballast")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_a_killed_process_that_fills_its_disk_is_drained() {
    if rerun_in_name_space("spool_disk::a_spool_of_a_killed_process_that_fills_its_disk_is_drained") {
        return;
    }
    for (has_index, blocks) in [(true, 0), (true, 3), (false, 0), (false, 3), (false, 7)] {
        let case = format!("index {has_index}, {blocks} free blocks");
        let disk = SmallDisk::mount(3);
        leave_killed(disk.path(), has_index).await;
        disk.fill_but(blocks * BLOCK);
        let database = MemoryDatabase::new();
        let (_writer, guard) = ahead(&database, disk.path());
        wait_for(&case, async || database.entries().len() == 50).await;
        guard.shutdown(TIMEOUT).await;
        assert_eq!(names(disk.path()), [""; 0], "{case}");

        let db = TestDb::sqlite().await;
        disk.free();
        leave_killed(disk.path(), has_index).await;
        disk.fill_but(blocks * BLOCK);
        let done = spool::replay(disk.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await;
        let done = done.unwrap();
        assert_eq!((done.files, done.entries), (1, 50), "{case}: {done:?}");
        assert_eq!(names(disk.path()), [""; 0], "{case}");
    }
}
