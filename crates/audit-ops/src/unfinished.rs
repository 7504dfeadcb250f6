//! Files that have their name once they are complete.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use db_services::files::create_private;
use uuid::Uuid;

/// How the names of files end that are being written.
pub const SUFFIX: &str = ".partial";

/// Whether a file that has the name already stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and to give the name is an error.
    Kept,
    /// It is replaced.
    Replaced,
}

/// A file under a random name in the directory of the one that it becomes. Dropping it removes it.
///
/// It is locked until it has its name, so that other processes can tell it from what a killed one has left.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    /// The same open file as the one that is written, which may be closed before it has its name.
    lock: File,
}

impl Unfinished {
    /// Creates the file `STEM.….partial`, for this user alone.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(dir: &Path, stem: &str) -> io::Result<(Self, File)> {
        Self::create_by(dir, stem, || {})
    }

    /// The same for a file that one process writes at a time. First removes what killed ones have left.
    ///
    /// # Errors
    /// When it cannot be created. [`ErrorKind::ResourceBusy`] if another process writes one with this stem. File systems
    /// without locks do not show that.
    pub fn create_alone(dir: &Path, stem: &str) -> io::Result<(Self, File)> {
        visit(dir, stem, |path| {
            if let Ok(Ok(())) = File::open(path).map(|file| file.try_lock()) {
                let _ = fs::remove_file(path);
            }
        });
        let (unfinished, file) = Self::create(dir, stem)?;
        let mut is_alone = true;
        // Of two processes that create theirs at the same time, the later one sees the other's.
        visit(dir, stem, |path| {
            let is_own = path.file_name() == unfinished.path.file_name();
            is_alone &= is_own || !is_locked(path);
        });
        if !is_alone {
            let message = "another process is writing this file: wait for it, or name another file";
            return Err(io::Error::new(ErrorKind::ResourceBusy, message));
        }
        Ok((unfinished, file))
    }

    fn create_by(dir: &Path, stem: &str, mut created: impl FnMut()) -> io::Result<(Self, File)> {
        loop {
            let path = dir.join(format!("{stem}.{}{SUFFIX}", Uuid::new_v4().simple()));
            let file = create_private(&path)?;
            let lock = file.try_clone().inspect_err(|_| drop(fs::remove_file(&path)))?;
            created();
            let unfinished = Self { path, lock };
            let is_locked = unfinished.lock.try_lock();
            // Before it was locked, another process may have taken it for one that a killed process had left.
            let is_taken = matches!(is_locked, Err(TryLockError::WouldBlock)) || !unfinished.path.exists();
            if !is_taken {
                return Ok((unfinished, file));
            }
        }
    }

    /// Where it is until it has its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, in the directory where it is.
    ///
    /// # Errors
    /// When it cannot have it. [`ErrorKind::AlreadyExists`] if a file that is kept has it.
    pub fn rename(self, name: &OsStr, existing: Existing) -> io::Result<()> {
        let to = self.path.with_file_name(name);
        match existing {
            Existing::Replaced => fs::rename(&self.path, &to),
            // A link never replaces a file that was created meanwhile. Dropping removes the other name.
            Existing::Kept => match fs::hard_link(&self.path, &to) {
                // The file system may have no links.
                Err(error) if error.kind() != ErrorKind::AlreadyExists => match to.symlink_metadata() {
                    Ok(_) => Err(ErrorKind::AlreadyExists.into()),
                    Err(_) => fs::rename(&self.path, &to),
                },
                linked => linked,
            },
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_locked(path: &Path) -> bool {
    let locked = File::open(path).map(|file| file.try_lock());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}

/// Calls a function with each file that [`Unfinished`] can have created.
fn visit(dir: &Path, stem: &str, mut found: impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let random = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        let random = random.and_then(|rest| rest.strip_suffix(SUFFIX));
        let is_ours = random.is_some_and(|random| Uuid::try_parse(random).is_ok());
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            found(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_other_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!("rows.{}.partial", Uuid::nil().simple()));
        let other = dir.path().join("rows.of-mine.partial");
        fs::write(&left, "half").unwrap();
        fs::write(&other, "mine").unwrap();
        let (unfinished, _file) = Unfinished::create_alone(dir.path(), "rows").unwrap();
        assert!(!left.exists() && other.exists());
        assert!(unfinished.path().exists());
        drop(unfinished);
        assert_eq!(count(dir.path()), 1);
    }

    #[test]
    fn one_process_at_a_time_writes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (first, file) = Unfinished::create_alone(dir.path(), "rows").unwrap();
        // It is complete, and has no name yet.
        drop(file);
        let refused = Unfinished::create_alone(dir.path(), "rows").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
        assert!(Unfinished::create_alone(dir.path(), "rows.manifest.json").is_ok());
        assert_eq!(count(dir.path()), 1);
        first.rename(OsStr::new("rows"), Existing::Kept).unwrap();
        let (second, _file) = Unfinished::create_alone(dir.path(), "rows").unwrap();
        let kept = second.rename(OsStr::new("rows"), Existing::Kept).unwrap_err();
        assert_eq!(kept.kind(), ErrorKind::AlreadyExists);
        assert_eq!(count(dir.path()), 1);
    }

    #[test]
    fn a_file_that_another_process_removes_before_it_is_locked_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut times = 0;
        let (unfinished, _file) = Unfinished::create_by(dir.path(), "rows", || {
            times += 1;
            if times == 1 {
                visit(dir.path(), "rows", |path| fs::remove_file(path).unwrap());
            }
        })
        .unwrap();
        assert_eq!(times, 2);
        assert!(unfinished.path().exists());
        assert_eq!(count(dir.path()), 1);
    }
}
