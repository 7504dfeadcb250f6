//! Damaged files and logs, and the files of other programs.

use std::fs;
use std::path::{Path, PathBuf};

use audit_core::spool::{Adoption, Batch, SalvageFrom, Store, StoreError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tempfile::TempDir;

use super::file::{SpoolFile, batch};
use super::inspect::{Look, look};
use super::store::Directory;
use super::{codec, wal};
use crate::audit::{AuditEntry, AuditWriter, Durability, NewAuditLog};
use crate::client::Database;

pub(super) const NAME: &str = "018f4a5e-0000-7000-8000-000000000001";

/// A batch of this many rows, which its tag names.
pub(super) fn body(tag: i64, rows: usize) -> Batch<Vec<u8>> {
    let row = |n: usize| {
        AuditEntry::new(format!("batch.{tag}"))
            .resource("row", n.to_string())
            .into()
    };
    let rows: Vec<NewAuditLog> = (0..rows).map(row).collect();
    batch(codec::encode(rows.iter()))
}

/// A directory with a file of this many batches, as a killed process leaves it: its log has them all.
fn killed(batches: i64) -> (TempDir, PathBuf) {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..batches {
        file.commit(&[body(tag, 3)], &[]).unwrap();
    }
    for extension in ["spool", "spool-wal"] {
        let name = format!("{NAME}.{extension}");
        fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let path = copy.path().join(format!("{NAME}.spool"));
    (copy, path)
}

/// A directory with a file of this many batches that was closed: it has no log.
fn closed(batches: i64) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..batches {
        file.commit(&[body(tag, 30)], &[]).unwrap();
    }
    let path = file.path().to_owned();
    (dir, path)
}

fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0);
    fs::write(path, bytes).unwrap();
}

/// A scan, then the adoption of the file.
fn scan(dir: &Path, target: Option<&str>) -> Adoption<SpoolFile> {
    let mut directory = Directory::new(dir, None);
    directory.sweep().unwrap();
    let names = directory.list().unwrap();
    assert_eq!(names, [format!("{NAME}.spool")]);
    directory.adopt(&names[0], target).unwrap()
}

fn adopted(dir: &Path, target: Option<&str>) -> SpoolFile {
    match scan(dir, target) {
        Adoption::Adopted(file) => file,
        Adoption::UnknownTarget(damage) => panic!("{damage}"),
        _ => panic!("it is left alone"),
    }
}

/// The batches that can be read from either end.
fn salvaged(file: &mut SpoolFile) -> Vec<i64> {
    let (mut ids, mut last, mut ceiling) = (Vec::new(), i64::MIN, i64::MAX);
    while let Ok(Some(found)) = file.salvage(SalvageFrom::Above(last)) {
        last = found.id;
        ids.push(last);
    }
    while let Ok(Some(found)) = file.salvage(SalvageFrom::Between { floor: last, ceiling }) {
        ceiling = found.id;
        ids.push(ceiling);
    }
    ids
}

#[test]
fn a_table_name_in_another_letter_case_costs_no_batch() {
    for (from, to) in [("batchesbatches", "Batchesbatches"), ("aboutabout", "aBoutabout")] {
        let (dir, path) = closed(5);
        replace(&path, from.as_bytes(), to.as_bytes());
        let usage = adopted(dir.path(), Some("there")).check().unwrap();
        assert_eq!(usage.batches, 5, "{to}");
    }
}

/// Whichever bit of the schema's row is wrong: the file is whole, or damaged, but it never is unfinished.
#[test]
fn no_flipped_bit_in_the_first_page_removes_a_file() {
    let (_from, source) = closed(2);
    let bytes = fs::read(&source).unwrap();
    let used = bytes[..4096].iter().enumerate().filter(|(_, byte)| **byte != 0);
    for (at, bit) in used.flat_map(|(at, _)| [0, 2, 4, 5].map(|bit| (at, bit))) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(source.file_name().unwrap());
        let mut hurt = bytes.clone();
        hurt[at] ^= 1 << bit;
        fs::write(&path, hurt).unwrap();
        let adoption = Directory::new(dir.path(), None).adopt(&format!("{NAME}.spool"), Some("there"));
        assert!(!matches!(adoption, Ok(Adoption::Missing)), "byte {at}, bit {bit}");
        drop(adoption);
        assert!(path.exists(), "byte {at}, bit {bit}");
    }
}

#[test]
fn a_log_whose_file_is_cut_off_or_missing_is_kept_and_its_batches_are_read() {
    for length in [Some(0), Some(1), Some(100), Some(4095), Some(4096), None] {
        let (dir, path) = killed(6);
        match length {
            Some(length) => fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length)
                .unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let log = path.with_extension("spool-wal");
        let before = fs::read(&log).unwrap();
        assert!(matches!(look(&path), Look::Unreadable(_)), "{length:?}");
        assert_eq!(
            fs::read(&log).unwrap(),
            before,
            "{length:?}: a look changes nothing"
        );
        // The name of the database is in the file alone: an operator decides.
        assert!(
            matches!(scan(dir.path(), Some("there")), Adoption::UnknownTarget(_)),
            "{length:?}"
        );
        assert_eq!(fs::read(&log).unwrap(), before, "{length:?}");
        let mut file = adopted(dir.path(), None);
        assert!(matches!(file.check(), Err(StoreError::Corrupt(_))), "{length:?}");
        assert_eq!(salvaged(&mut file), [1, 2, 3, 4, 5, 6], "{length:?}");
        file.mark_damaged().unwrap();
        assert_eq!(
            fs::read(path.with_extension("damaged-wal")).unwrap(),
            before,
            "{length:?}"
        );
    }
}

#[test]
fn a_log_without_frames_and_without_a_file_is_removed() {
    let (dir, path) = killed(1);
    let log = path.with_extension("spool-wal");
    fs::remove_file(&path).unwrap();
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(32)
        .unwrap();
    Directory::new(dir.path(), None).sweep().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_programs_survive_a_sweep_a_writer_and_a_replay() {
    let dir = TempDir::new().unwrap();
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let customers = spool.join("customers.spool");
    let mut conn = SqliteConnection::establish(customers.to_str().unwrap()).unwrap();
    conn.batch_execute("CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('x')")
        .unwrap();
    drop(conn);
    fs::copy(&customers, spool.join(format!("{NAME}.unfinished"))).unwrap();
    for (name, text) in [
        ("Cargo.lock", "version = 4"),
        ("empty.lock", ""),
        ("018f4a5e-0000-7000-8000-000000000002.lock", "12345"),
        ("x.unfinished", "half of it"),
        ("x.spool-wal", ""),
        ("x.spool-shm", "index"),
        ("x.damaged", "of another program"),
    ] {
        fs::write(spool.join(name), text).unwrap();
    }
    let contents = || {
        let entries = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = entries
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = contents();
    assert_eq!(before.len(), 9);
    Directory::new(&spool, None).sweep().unwrap();
    assert_eq!(contents(), before, "after a sweep");
    let url = format!("sqlite://{}", dir.path().join("audit.db").display());
    let database = Database::from_url(&url).unwrap();
    database.migrate().await.unwrap();
    let builder = AuditWriter::builder(database.clone()).durability(Durability::Spill(spool.clone()));
    let (_writer, guard) = builder.start().unwrap();
    guard.shutdown(std::time::Duration::from_secs(60)).await;
    assert_eq!(contents(), before, "after a writer");
    let replayed = super::replay(&spool, &database, super::ReplayScope::AnyDatabase, |_| {})
        .await
        .unwrap();
    assert_eq!((replayed.files, replayed.damaged, replayed.left), (0, 0, 0));
    assert_eq!(
        super::restore_damaged(&spool, &database, super::ReplayScope::AnyDatabase).unwrap(),
        0
    );
    assert_eq!(contents(), before, "after a replay");
    assert_eq!(super::status(&spool).unwrap(), []);
}

#[test]
fn damage_in_a_page_of_batches_is_salvaged_if_the_target_can_be_read() {
    let (dir, path) = closed(40);
    let mut bytes = fs::read(&path).unwrap();
    let leaf = |page: usize| bytes[page * 4096] == 0x0d;
    let leaves: Vec<usize> = (4..bytes.len() / 4096).filter(|page| leaf(*page)).collect();
    let middle = leaves[leaves.len() / 2];
    bytes[middle * 4096..][..4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let mut file = adopted(dir.path(), Some("there"));
    assert!(matches!(file.check(), Err(StoreError::Corrupt(_))));
    let found = salvaged(&mut file).len();
    assert!((20..40).contains(&found), "{found}");
}

/// A log that was started again, so that it begins with the frames of the last commits and ends with older ones.
fn restarted() -> (TempDir, PathBuf, PathBuf) {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..8 {
        file.commit(&[body(tag, 3)], &[]).unwrap();
    }
    let mut other = SqliteConnection::establish(file.path().to_str().unwrap()).unwrap();
    other.batch_execute("PRAGMA wal_checkpoint(RESTART)").unwrap();
    for tag in 8..11 {
        file.commit(&[body(tag, 3)], &[]).unwrap();
    }
    for extension in ["spool", "spool-wal"] {
        let name = format!("{NAME}.{extension}");
        fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let path = copy.path().join(format!("{NAME}.spool"));
    let log = path.with_extension("spool-wal");
    assert_eq!(
        fs::read(&log).unwrap()[12..16],
        [0, 0, 0, 1],
        "it was started again once"
    );
    (copy, path, log)
}

/// Where the current frames of a log begin, and whether each commits.
fn frames(log: &[u8]) -> Vec<(usize, bool)> {
    let frames = (32..log.len()).step_by(24 + 4096);
    let current = frames.take_while(|at| log[at + 8..at + 16] == log[16..24]);
    current.map(|at| (at, log[at + 4..at + 8] != [0; 4])).collect()
}

#[test]
fn a_torn_last_commit_of_a_restarted_log_is_not_damage() {
    let (dir, _, log) = restarted();
    let mut bytes = fs::read(&log).unwrap();
    let (last, is_commit) = *frames(&bytes).last().unwrap();
    assert!(is_commit && last + 24 + 4096 < bytes.len(), "older frames follow");
    // The process was killed after the header: the page is of the older log.
    bytes[last + 24..][..4096].fill(0);
    fs::write(&log, bytes).unwrap();
    assert_eq!(wal::find_damage(&log).unwrap(), None);
    assert_eq!(adopted(dir.path(), Some("there")).check().unwrap().batches, 10);
}

#[test]
fn a_wrong_checksum_before_a_valid_commit_is_damage() {
    let (dir, _, log) = restarted();
    let bytes = fs::read(&log).unwrap();
    let frames = frames(&bytes);
    let before_last = frames[..frames.len() - 1]
        .iter()
        .rposition(|(_, is_commit)| *is_commit)
        .unwrap();
    assert_eq!(wal::find_damage(&log).unwrap(), None, "before");
    // In the page, in the checksum, in the salts and in the page number of a frame.
    for at in [24 + 100, 17, 9, 3] {
        let mut hurt = bytes.clone();
        hurt[frames[before_last].0 + at] ^= 0x10;
        fs::write(&log, hurt).unwrap();
        assert!(
            wal::find_damage(&log).unwrap().is_some(),
            "byte {at} of the frame"
        );
    }
    let mut file = adopted(dir.path(), Some("there"));
    assert!(matches!(file.check(), Err(StoreError::Corrupt(_))));
}
