//! Logs of which a part is wrong: what proves damage, and what does not.

use std::fs;
use std::path::{Path, PathBuf};

use audit_core::spool::{Adoption, Store, StoreError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tempfile::TempDir;

use super::damage_tests::{NAME, body};
use super::file::SpoolFile;
use super::store::Directory;
use super::wal;

/// The file and its log as a killed process leaves them.
fn killed(dir: &Path) -> (TempDir, PathBuf) {
    let copy = TempDir::new().unwrap();
    for extension in ["spool", "spool-wal"] {
        let name = format!("{NAME}.{extension}");
        fs::copy(dir.join(&name), copy.path().join(&name)).unwrap();
    }
    let log = copy.path().join(format!("{NAME}.spool-wal"));
    (copy, log)
}

fn check(dir: &Path) -> Result<u64, StoreError> {
    match Directory::new(dir, None).adopt(&format!("{NAME}.spool"), Some("there"))? {
        Adoption::Adopted(mut file) => file.check().map(|usage| usage.batches),
        _ => panic!("it is left alone"),
    }
}

/// Writes commits of these numbers of rows of which all but the last one fail after they were written, and returns
/// the file with its log. Before them one succeeds.
fn after_failures(rows: &[usize], before: usize) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..before {
        file.commit(&[body(tag as i64, 3)], &[]).unwrap();
    }
    let (start, _) = killed(dir.path());
    let mut rest: Vec<u8> = Vec::new();
    let mut last = None;
    for (tag, rows) in (100..).zip(rows) {
        let (copy, log) = {
            let copy = TempDir::new().unwrap();
            for extension in ["spool", "spool-wal"] {
                let name = format!("{NAME}.{extension}");
                fs::copy(start.path().join(&name), copy.path().join(&name)).unwrap();
            }
            let log = copy.path().join(format!("{NAME}.spool-wal"));
            (copy, log)
        };
        let Ok(Adoption::Adopted(mut found)) =
            Directory::new(copy.path(), None).adopt(&format!("{NAME}.spool"), Some("there"))
        else {
            panic!("it is left alone")
        };
        found.check().unwrap();
        found.commit(&[body(tag, *rows)], &[]).unwrap();
        let (killed, killed_log) = killed(copy.path());
        let mut bytes = fs::read(&log).unwrap();
        if bytes.len() < rest.len() {
            bytes.extend_from_slice(&rest[bytes.len()..]);
        }
        fs::write(&killed_log, &bytes).unwrap();
        rest = bytes;
        last = Some((killed, killed_log));
    }
    last.unwrap()
}

#[test]
fn the_rest_of_a_commit_whose_sync_failed_behind_a_smaller_one_is_not_damage() {
    for (rows, before) in [
        (&[300, 3][..], 1),
        (&[300, 3], 20),
        (&[900, 300, 3], 5),
        (&[60, 1], 40),
    ] {
        let (dir, log) = after_failures(rows, before);
        assert_eq!(wal::find_damage(&log).unwrap(), None, "{rows:?} behind {before}");
        assert_eq!(
            check(dir.path()).unwrap(),
            before as u64 + 1,
            "{rows:?} behind {before}"
        );
    }
}

/// Wherever one bit of a log of small and large commits is wrong, nothing is lost silently.
#[test]
fn no_flipped_bit_in_a_log_is_taken_for_the_rest_of_a_failed_commit() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for (tag, rows) in [1, 20, 3, 30].into_iter().enumerate() {
        file.commit(&[body(tag as i64, rows)], &[]).unwrap();
    }
    let (_killed, log) = killed(dir.path());
    let bytes = fs::read(&log).unwrap();
    let frames = (bytes.len() - 32) / 4120;
    for frame in 0..frames {
        let begin = 32 + frame * 4120;
        // Each bit of its header, and some of its page.
        let bits = (0..24 * 8).chain([24, 100, 1000, 4119].map(|at| at * 8));
        for bit in bits {
            let mut hurt = bytes.clone();
            hurt[begin + bit / 8] ^= 1 << (bit % 8);
            // To look for damage is a matter of the log alone.
            fs::write(&log, hurt).unwrap();
            assert!(
                wal::find_damage(&log).unwrap().is_some(),
                "bit {bit} of frame {frame} of {frames}"
            );
        }
    }
}

/// The first frame of a commit that makes the file grow, and changes only large numbers besides: with another page
/// number it looks like the rest of one.
#[test]
fn a_wrong_page_number_is_not_taken_for_the_rest_of_a_failed_commit() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
    for tag in 0..30 {
        file.commit(&[body(tag, 30)], &[]).unwrap();
    }
    let (_killed, log) = killed(dir.path());
    let bytes = fs::read(&log).unwrap();
    let begins: Vec<usize> = (32..bytes.len()).step_by(4120).collect();
    let is_first = |at: &usize| bytes[*at..at + 4] == [0, 0, 0, 1];
    let firsts: Vec<usize> = begins.into_iter().filter(is_first).collect();
    assert!(firsts.len() > 20, "{}", firsts.len());
    // The last commit of the log alone is behind the frame.
    for begin in &firsts[10..] {
        let end = firsts
            .iter()
            .find(|next| *next > begin)
            .copied()
            .unwrap_or(bytes.len());
        for bit in 0..32 {
            let mut hurt = bytes[..end].to_vec();
            hurt[begin + bit / 8] ^= 1 << (bit % 8);
            fs::write(&log, hurt).unwrap();
            assert!(
                wal::find_damage(&log).unwrap().is_some(),
                "bit {bit} of the frame at {begin}"
            );
        }
    }
}

/// A process was killed when it had started the log again; the next one found the index whole, and counts from zero.
#[test]
fn an_older_log_behind_one_that_counts_from_zero_is_not_damage() {
    let log_of = |commits: i64| {
        let dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
        for tag in 0..commits {
            file.commit(&[body(tag, 3)], &[]).unwrap();
        }
        let (killed, log) = killed(dir.path());
        (fs::read(&log).unwrap(), killed)
    };
    let (older, _) = log_of(40);
    let (newer, dir) = log_of(10);
    let log = dir.path().join(format!("{NAME}.spool-wal"));
    assert_eq!((&newer[12..16], newer.len() < older.len()), (&[0; 4][..], true));
    let behind = [&newer, &older[newer.len()..]].concat();
    fs::write(&log, &behind).unwrap();
    assert_eq!(wal::find_damage(&log).unwrap(), None);
    assert_eq!(check(dir.path()).unwrap(), 10);

    // Killed between the header of the last frame and its page.
    let mut torn = behind.clone();
    let page = newer.len() - 4096..newer.len();
    torn[page.clone()].copy_from_slice(&older[page]);
    fs::write(&log, &torn).unwrap();
    assert_eq!(wal::find_damage(&log).unwrap(), None);

    // An earlier commit with a wrong bit is damage.
    let mut hurt = behind;
    hurt[32 + 100] ^= 1;
    fs::write(&log, &hurt).unwrap();
    assert!(wal::find_damage(&log).unwrap().is_some());
}

/// As after a write that was lost. Two commits that can be seen prove that the first was acknowledged.
#[test]
fn a_block_of_zeros_hides_one_commit_of_a_restarted_log_at_most() {
    for rows in [1, 3, 12] {
        let dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), NAME, "there").unwrap();
        for tag in 0..8 {
            file.commit(&[body(tag, rows)], &[]).unwrap();
        }
        let mut other = SqliteConnection::establish(file.path().to_str().unwrap()).unwrap();
        other.batch_execute("PRAGMA wal_checkpoint(RESTART)").unwrap();
        for tag in 8..12 {
            file.commit(&[body(tag, rows)], &[]).unwrap();
        }
        let (_whole, whole) = killed(dir.path());
        let bytes = fs::read(whole).unwrap();
        for block in 0..bytes.len() / 4096 {
            let (copy, log) = killed(dir.path());
            let mut hurt = bytes.clone();
            hurt[block * 4096..][..4096].fill(0);
            fs::write(&log, &hurt).unwrap();
            if let Ok(found) = check(copy.path()) {
                assert!(found >= 11, "{rows} rows, block {block}: {found} of 12");
            }
        }
    }
}
