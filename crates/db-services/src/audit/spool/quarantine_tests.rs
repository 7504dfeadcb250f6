use audit_core::spool::Store;
use tempfile::TempDir;

use super::*;
use crate::audit::AuditEntry;
use crate::audit::row::LogRow;
use crate::audit::spool::store::Directory;

pub(super) fn row(action: &str) -> LogRow {
    LogRow(AuditEntry::new(action).into())
}

pub(super) fn actions(dir: &Path) -> Vec<String> {
    let kept = Quarantine::open(dir).unwrap().list().unwrap();
    kept.into_iter()
        .map(|kept| kept.entry.unwrap().action.to_string())
        .collect()
}

#[test]
fn a_removed_quarantine_is_created_again_before_it_keeps_anything() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("spool");
    let mut directory = Directory::new(&dir, None);
    directory.quarantine(&[row("first")], "rude", None).unwrap();
    assert_eq!(actions(&dir), ["first"]);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.join(format!("quarantine.sqlite{suffix}")));
    }
    directory.quarantine(&[row("second")], "rude", None).unwrap();
    assert_eq!(actions(&dir), ["second"]);
    std::fs::remove_dir_all(&dir).unwrap();
    directory.quarantine(&[row("third")], "rude", None).unwrap();
    assert_eq!(actions(&dir), ["third"]);
}

#[test]
fn a_quarantine_that_is_removed_during_a_commit_is_not_in_place_afterwards() {
    let dir = TempDir::new().unwrap();
    let mut quarantine = Quarantine::open(dir.path()).unwrap();
    quarantine.verify_place().unwrap();
    std::fs::remove_file(dir.path().join("quarantine.sqlite")).unwrap();
    // SQLite notices it as well, unless the file is removed while it commits.
    quarantine.keep(&row("kept nowhere"), "rude", None).unwrap_err();
    quarantine.verify_place().unwrap_err();
    // Another file under its name is not this one, either.
    Quarantine::open(dir.path()).unwrap();
    quarantine.verify_place().unwrap_err();
}

/// A POSIX lock ends with the first descriptor of its file that the process closes, SQLite's or not.
#[cfg(target_os = "linux")]
#[test]
fn a_second_quarantine_in_a_process_keeps_the_locks_of_the_first() {
    use std::os::unix::fs::MetadataExt;
    let dir = TempDir::new().unwrap();
    let mut first = Quarantine::open(dir.path()).unwrap();
    first.execute("BEGIN; SELECT count(*) FROM quarantine").unwrap();
    let inode = std::fs::metadata(dir.path().join("quarantine.sqlite"))
        .unwrap()
        .ino();
    let locks = || {
        let all = std::fs::read_to_string("/proc/locks").unwrap();
        let own = |line: &&str| line.contains("POSIX") && line.contains(&format!(":{inode} "));
        all.lines().filter(own).count()
    };
    // The list is not read in one piece: a lock may be missing in it for a moment.
    let assert_locks = |wanted| {
        let found: Vec<usize> = (0..20)
            .map(|_| locks())
            .take_while(|found| *found != wanted)
            .collect();
        assert!(found.len() < 20, "{found:?} instead of {wanted}");
    };
    assert_locks(1);
    drop(Quarantine::open(dir.path()).unwrap());
    assert_locks(1);
    drop(first);
    assert_locks(0);
}

/// The other directory has the name that is shown for it.
#[cfg(target_os = "linux")]
#[test]
fn a_spool_in_a_directory_whose_name_is_not_utf_8_is_no_other_one() {
    use std::os::unix::ffi::OsStrExt;
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join(std::ffi::OsStr::from_bytes(b"d\xffdir"));
    let other = parent.path().join("d\u{FFFD}dir");
    for (dir, action) in [(&other, "other"), (&dir, "here")] {
        let mut directory = Directory::new(dir, None);
        directory.quarantine(&[row(action)], "rude", None).unwrap();
        let (_, file) = directory.create("sqlite:///a.db").unwrap();
        assert!(file.path().starts_with(dir) && file.path().exists());
    }
    assert_eq!(
        (actions(&other), actions(&dir)),
        (vec!["other".to_owned()], vec!["here".to_owned()])
    );
}
