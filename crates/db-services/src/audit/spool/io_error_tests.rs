//! An I/O error is no damage: passing errors of reads, on real files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use audit_core::Time;
use audit_core::spool::{
    Adoption, Batch, SpoolConfig, SpoolNotice, SpoolReply, SpoolRequest, SpoolWorker, Store,
};
use tempfile::TempDir;

use super::*;
use crate::audit::spool::codec;
use crate::audit::spool::inspect::{Look, look};
use crate::audit::spool::place::hook;
use crate::audit::spool::store::Directory;
use crate::audit::{AuditEntry, NewAuditLog};

const NAME: &str = "018f4a5e-0000-7000-8000-000000000001";

fn body(tag: i64) -> Batch<Vec<u8>> {
    let row = |n: usize| {
        AuditEntry::new(format!("batch.{tag}"))
            .resource("row", n.to_string())
            .into()
    };
    let rows: Vec<NewAuditLog> = (0..30).map(row).collect();
    batch(codec::encode(rows.iter()))
}

/// A directory with a file of this many batches that was closed, and its bytes.
fn closed(batches: i64) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..batches {
        file.commit(&[body(tag)], &[]).unwrap();
    }
    let path = file.path().to_owned();
    drop(file);
    let bytes = fs::read(&path).unwrap();
    (dir, path, bytes)
}

/// The bytes with a page of batches overwritten.
fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let leaves: Vec<usize> = (4..bytes.len() / 4096)
        .filter(|page| bytes[page * 4096] == 0x0d)
        .collect();
    bytes[leaves[leaves.len() / 2] * 4096..][..4096].fill(0xa5);
    bytes
}

/// Overwrites a file in its place.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

/// Each plain read fails, until the test ends.
struct UnreadableDisk;

impl UnreadableDisk {
    fn new() -> Self {
        hook::set(|| Err(io::Error::other("input/output error")));
        Self
    }
}

impl Drop for UnreadableDisk {
    fn drop(&mut self) {
        hook::clear();
    }
}

/// A worker that adopts what is in a directory, as a replay does.
struct Replayer {
    worker: SpoolWorker<Directory>,
    now: Time,
    notices: Vec<SpoolNotice>,
    rows: Vec<String>,
}

impl Replayer {
    fn new(dir: &Path) -> Self {
        let config = SpoolConfig::new("there", u64::MAX);
        Self {
            worker: SpoolWorker::new(Directory::new(dir, None), config, Time::START),
            now: Time::START,
            notices: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Reads until there is nothing to be read, and removes what was read.
    fn run(&mut self) {
        let mut request = vec![SpoolRequest::Read];
        loop {
            let (mut replies, mut read) = (Vec::new(), None);
            self.worker
                .handle(std::mem::take(&mut request), self.now, &mut replies);
            for reply in replies {
                match reply {
                    SpoolReply::Read(batch) => read = batch,
                    SpoolReply::Notice(notice) => self.notices.push(notice),
                    _ => {}
                }
            }
            let Some(batch) = read else { break };
            self.rows
                .extend(batch.rows.iter().map(|row| row.action.to_string()));
            request = vec![SpoolRequest::Remove(batch.ids), SpoolRequest::Read];
        }
        self.now = self.now + std::time::Duration::from_secs(31);
    }

    /// How many different batches were read.
    fn batches(&self) -> usize {
        let batches: BTreeMap<&String, ()> = self.rows.iter().map(|row| (row, ())).collect();
        batches.len()
    }

    fn is_damage_reported(&self) -> bool {
        self.notices
            .iter()
            .any(|notice| matches!(notice, SpoolNotice::Damaged { .. }))
    }
}

fn adopted(dir: &Path) -> SpoolFile {
    match Directory::new(dir, None).adopt(&format!("{NAME}.spool"), Some("there")) {
        Ok(Adoption::Adopted(file)) => file,
        _ => panic!("it is left alone"),
    }
}

#[test]
fn result_codes_within_the_text_of_a_check_are_io_errors_unless_they_mean_damage() {
    let judge = |code: &str| inspect::judge(&format!("*** in database main ***\nTree 4 page 4: {code}"));
    // An I/O error, one of its kinds, one of a damaged file system, a lack of memory.
    for code in [10, 266, 8458, 7] {
        let result = judge(&format!("unable to get the page. error code={code}"));
        assert!(matches!(result, Err(StoreError::Transient(_))), "{result:?}");
    }
    let two = judge("error code=11, then error code=10");
    assert!(matches!(two, Err(StoreError::Transient(_))), "{two:?}");
    for damage in [
        "error code=11",
        "error code=267",
        "error code=523",
        "free space corruption",
    ] {
        let result = judge(damage);
        assert!(matches!(result, Err(StoreError::Corrupt(_))), "{result:?}");
    }
    assert_eq!(inspect::judge("ok"), Ok(()));
}

#[test]
fn a_damaged_file_that_cannot_be_read_now_stays_as_it_is() {
    let (dir, path, bytes) = closed(40);
    let damaged = damaged(&bytes);
    overwrite(&path, &damaged);
    let mut replayer = Replayer::new(dir.path());
    {
        let _disk = UnreadableDisk::new();
        assert!(matches!(look(&path), Look::Unreadable(text) if text.contains("cannot be read now")));
        replayer.run();
        replayer.run();
    }
    assert!(!replayer.is_damage_reported(), "{:?}", replayer.notices);
    assert!(matches!(
        &replayer.notices[..],
        [SpoolNotice::AdoptionFailed { .. }]
    ));
    assert_eq!(fs::read(&path).unwrap(), damaged);
    replayer.run();
    assert!(replayer.is_damage_reported());
    assert!((20..40).contains(&replayer.batches()), "{}", replayer.batches());
    assert!(path.with_extension("damaged").exists() && !path.exists());
}

#[test]
fn a_page_that_cannot_be_read_for_a_moment_costs_no_batch() {
    let (dir, path, bytes) = closed(40);
    overwrite(&path, &damaged(&bytes));
    let mut replayer = Replayer::new(dir.path());
    // The error passes before the file is read through: from then on the page is as it was.
    let (target, whole) = (path.clone(), bytes);
    hook::set(move || {
        overwrite(&target, &whole);
        Ok(())
    });
    replayer.run();
    hook::clear();
    assert_eq!(replayer.batches(), 40);
    assert!(!replayer.is_damage_reported(), "{:?}", replayer.notices);
    assert!(!path.with_extension("damaged").exists());
}

/// The file is damaged, and while it is copied another page cannot be read.
#[test]
fn a_batch_that_cannot_be_read_for_a_moment_is_not_the_edge_of_the_damage() {
    let (dir, path, bytes) = closed(40);
    overwrite(&path, &damaged(&bytes));
    let mut plain = Replayer::new(dir.path());
    plain.run();
    let readable = plain.batches();
    drop(plain);

    let (dir, path, bytes) = closed(40);
    let damaged = damaged(&bytes);
    let mut worse = damaged.clone();
    let leaves: Vec<usize> = (4..bytes.len() / 4096)
        .filter(|page| worse[page * 4096] == 0x0d)
        .collect();
    worse[leaves[1] * 4096..][..4096].fill(0xa5);
    overwrite(&path, &worse);
    let mut replayer = Replayer::new(dir.path());
    // Two reads for the check; the third is the one at the first edge.
    let (count, target) = (Rc::new(Cell::new(0)), path);
    hook::set(move || {
        count.set(count.get() + 1);
        if count.get() == 3 {
            overwrite(&target, &damaged);
        }
        Ok(())
    });
    replayer.run();
    hook::clear();
    assert!(replayer.is_damage_reported());
    assert_eq!(replayer.batches(), readable);
}

#[test]
fn the_file_of_a_running_writer_that_looks_damaged_for_a_moment_goes_on_being_used() {
    let (dir, path, bytes) = closed(40);
    let mut file = adopted(dir.path());
    file.check().unwrap();
    let ids: Vec<i64> = (1..=40).collect();
    // Nothing of it was read with this connection yet.
    overwrite(&path, &damaged(&bytes));
    assert!(matches!(file.read(&ids), Err(StoreError::Corrupt(_))));
    overwrite(&path, &bytes);
    file.verify_readable().unwrap();
    assert_eq!(file.check().unwrap().batches, 40);
    let appended = file.commit(&[body(40)], &[]).unwrap();
    assert_eq!(file.read(&[ids, appended.ids].concat()).unwrap().len(), 41);
}

/// The last connection that is closed moves the log into the file.
#[test]
fn a_file_that_is_checked_again_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    file.commit(&[body(0)], &[]).unwrap();
    let (path, log) = (file.path().to_owned(), log_of(file.path()));
    let before = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    assert_eq!(file.check().unwrap().batches, 1);
    assert_eq!((fs::read(&path).unwrap(), fs::read(&log).unwrap()), before);
}

/// The reads of a check fail after the file was opened for reading.
#[test]
fn a_check_that_fails_for_a_passing_reason_leaves_a_file_that_takes_batches() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    let ids = file.commit(&[body(0)], &[]).unwrap().ids;
    file.verify_readable().unwrap();
    assert!(!file.is_for_changes);
    file.commit(&[body(1)], &ids).unwrap();
    assert_eq!(file.check().unwrap().batches, 1);
}
