use audit_core::spool::Store;
use tempfile::TempDir;

use super::*;
use crate::audit::AuditEntry;
use crate::audit::row::LogRow;
use crate::audit::spool::store::Directory;

fn row(action: &str) -> LogRow {
    LogRow(AuditEntry::new(action).into())
}

fn actions(dir: &Path) -> Vec<String> {
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
    quarantine.keep(&row("kept nowhere"), "rude", None).unwrap();
    quarantine.verify_place().unwrap_err();
    // Another file under its name is not this one, either.
    Quarantine::open(dir.path()).unwrap();
    quarantine.verify_place().unwrap_err();
}

/// Only root can create a file in a directory of another user, so only root's run tells the two apart.
#[cfg(unix)]
#[test]
fn the_quarantine_belongs_to_the_owner_of_its_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = TempDir::new().unwrap();
    let _ = chown(dir.path(), Some(65_534), Some(65_534));
    Quarantine::open(dir.path()).unwrap();
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&dir.path().join("quarantine.sqlite")), owner(dir.path()));
}
