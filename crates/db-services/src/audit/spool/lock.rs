//! Locks on spool files, and their names in the directory.

use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::inspect::beside;
use crate::files::{create_for_owner, private};

/// The lock of a spool file: `<name>.lock` beside it, locked (`flock`).
///
/// It is a file of its own because SQLite holds POSIX locks on the data file, which end in the whole process
/// as soon as any descriptor of that file is closed.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Locks the lock of a spool file; none if another holds it.
    pub(super) fn try_take(data: &Path) -> io::Result<Option<Self>> {
        loop {
            let path = path_for(data);
            verify_regular(&path)?;
            let file = match create_for_owner(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match private().open(&path) {
                    // Its holder removed it a moment ago.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened?,
                },
                created => created?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its last holder may have removed it between the two steps: then it locks nothing.
            let lock = Self { path, file };
            if lock.is_in_place()? {
                return Ok(Some(lock));
            }
        }
    }

    /// True if a spool file has a lock and another holds it.
    pub(super) fn is_held(data: &Path) -> io::Result<bool> {
        let path = path_for(data);
        verify_regular(&path)?;
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// True if others would find this lock. A program that cleans directories may have removed it; it is
    /// created again then, unless another process was faster.
    pub(super) fn is_kept(&mut self) -> io::Result<bool> {
        if self.is_in_place()? {
            return Ok(true);
        }
        match create_for_owner(&self.path) {
            Ok(file) if file.try_lock().is_ok() => {
                self.file = file;
                self.is_in_place()
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(Identity::at(&self.path)? == Some(Identity::of(&self.file.metadata()?)))
    }

    /// Removes the lock file, if it is still this one and empty, as locks are. The locked file must be removed or renamed before.
    pub(super) fn remove(&self) {
        let is_empty = self.file.metadata().is_ok_and(|lock| lock.len() == 0);
        if !is_empty || !self.is_in_place().unwrap_or(false) {
            return;
        }
        // One that stays is removed by the next scan.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Which file a name means: its device and inode. Without those, all files are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// The file under this name, if there is one.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}

/// True if something has this name, a symbolic link to nothing included. An error proves neither.
pub(super) fn is_present(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// An error if this name means something other than a regular file. To open a pipe waits for its other end, and
/// SQLite looks for a log beside the target of a symbolic link.
pub(super) fn verify_regular(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_symlink() {
        "a symbolic link"
    } else {
        "not a regular file"
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Err(io::Error::other(format!("{name} is {what}, and is left alone")))
}

fn path_for(data: &Path) -> PathBuf {
    data.with_extension("lock")
}

/// Syncs a directory: the names in it survive a power loss.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Renames a file and SQLite's own files beside it, which are not always there, to another extension.
pub(super) fn rename(path: &Path, extension: &str) -> io::Result<PathBuf> {
    let renamed = path.with_extension(extension);
    rename_to(path, &renamed)?;
    Ok(renamed)
}

/// Renames a file and SQLite's own files beside it, which are not always there. The log goes first: a file that is
/// found without it was copied before.
pub(super) fn rename_to(path: &Path, renamed: &Path) -> io::Result<()> {
    for suffix in ["-shm", "-wal", ""] {
        let from = beside(path, suffix);
        match std::fs::rename(from, beside(renamed, suffix)) {
            Err(error) if suffix.is_empty() || error.kind() != io::ErrorKind::NotFound => {
                return Err(error);
            }
            _ => {}
        }
    }
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes a file and SQLite's own files beside it. The next scan removes what is left.
pub(super) fn remove_files(path: &Path) {
    let _ = std::fs::remove_file(path);
    remove_files_beside(path);
}

/// Removes SQLite's own files beside a file.
pub(super) fn remove_files_beside(path: &Path) {
    for suffix in ["-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(beside(path, suffix));
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
