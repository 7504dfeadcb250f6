use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::audit::spool::Quarantine;
use crate::audit::spool::file::SpoolFile;

/// A lock that its holder removes between the opening and the locking by another locks nothing.
#[test]
fn a_lock_has_one_holder_although_each_holder_removes_it() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("contended.spool");
    let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while taken.load(Ordering::SeqCst) < 500 {
                    let Some(lock) = Lock::try_take(&data).unwrap() else {
                        continue;
                    };
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "another holds it");
                    std::thread::yield_now();
                    holders.fetch_sub(1, Ordering::SeqCst);
                    taken.fetch_add(1, Ordering::SeqCst);
                    lock.remove();
                }
            });
        }
    });
}

/// Only root can create a file in a directory of another user, so only root's run tells the two apart.
#[cfg(unix)]
#[test]
fn all_files_belong_to_the_owner_of_their_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = TempDir::new().unwrap();
    let _ = chown(dir.path(), Some(65_534), Some(65_534));
    let owner = |path: &Path| {
        let found = std::fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    let mut file = SpoolFile::create(dir.path(), "created", "here").unwrap();
    let mut quarantine = Quarantine::open(dir.path()).unwrap();
    // Its journal exists during a transaction.
    quarantine
        .execute("BEGIN; INSERT INTO quarantine VALUES (1, 1, '', NULL, x'', NULL)")
        .unwrap();
    // A program that cleans directories removes the lock; the next commit creates it again.
    std::fs::remove_file(dir.path().join("created.lock")).unwrap();
    file.commit(&[], &[]).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(owner(&path), owner(dir.path()), "{}", path.display());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    for name in [
        "created.spool",
        "created.spool-wal",
        "created.spool-shm",
        "created.lock",
        "quarantine.sqlite",
        "quarantine.sqlite-journal",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_lock_and_delays_nobody() {
    let dir = TempDir::new().unwrap();
    let lock = dir.path().join("piped.lock");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&lock)
            .status()
            .unwrap()
            .success()
    );
    let error = Lock::is_held(&dir.path().join("piped.spool")).unwrap_err();
    assert!(error.to_string().contains("is not a regular file"), "{error}");
}
