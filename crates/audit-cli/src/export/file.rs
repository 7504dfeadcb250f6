//! Files that have their name once they are complete.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use db_services::files::create_private;
use uuid::Uuid;

use crate::error::{CliError, Context};

/// How the names of files end that are being written.
const SUFFIX: &str = ".partial";

/// Whether a file that has the name already stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Kept,
    Replaced,
}

/// A file under a random name in the directory of the one that it becomes. Dropping it removes it.
pub(crate) struct Unfinished {
    path: PathBuf,
    to: PathBuf,
}

impl Unfinished {
    /// Creates the file, for this user alone. Removes what a killed export to the same name has left: its lock ended
    /// with it.
    pub(crate) fn create(to: &Path) -> Result<(Self, File), CliError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        remove_abandoned(to, &name);
        let path = to.with_file_name(format!("{name}.{}{SUFFIX}", Uuid::new_v4().simple()));
        let file = create_private(&path).context(|| path.display().to_string())?;
        let unfinished = Self {
            path,
            to: to.to_owned(),
        };
        // File systems without locks keep what was left.
        let _ = file.try_lock();
        Ok((unfinished, file))
    }

    /// Creates a file with this content, and syncs it.
    pub(crate) fn with(to: &Path, content: &[u8]) -> Result<Self, CliError> {
        let (unfinished, mut file) = Self::create(to)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.context(|| to.display().to_string())?;
        Ok(unfinished)
    }

    /// Gives the file its name.
    pub(crate) fn rename(self, existing: Existing) -> Result<(), CliError> {
        let renamed = match existing {
            Existing::Replaced => fs::rename(&self.path, &self.to),
            // A link never replaces a file that was created meanwhile. Dropping removes the other name.
            Existing::Kept => match fs::hard_link(&self.path, &self.to) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(&self.path, &self.to),
                linked => linked,
            },
        };
        renamed.context(|| self.to.display().to_string())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_abandoned(to: &Path, name: &str) {
    for entry in fs::read_dir(directory(to)).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let random = found.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        let random = random.and_then(|rest| rest.strip_suffix(SUFFIX));
        let is_ours = random.is_some_and(|random| Uuid::try_parse(random).is_ok());
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_ours && is_file && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// The directory of a file.
pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// An error unless a file may be exported to this path.
pub(crate) fn ensure_free(path: &Path, existing: Existing) -> Result<(), CliError> {
    let shown = path.display();
    if path.file_name().is_none() {
        return Err(CliError::usage(format!("{shown} is not the name of a file")));
    }
    match (fs::symlink_metadata(path), existing) {
        (Err(error), _) if error.kind() == ErrorKind::NotFound => Ok(()),
        (Err(error), _) => Err(error).context(|| shown.to_string()),
        (Ok(found), Existing::Replaced) if found.is_file() => Ok(()),
        (Ok(found), _) if !found.is_file() => Err(CliError::new(format!(
            "{shown} exists and is no regular file: name another, or export to standard output"
        ))),
        (Ok(_), _) => Err(CliError::new(format!(
            "{shown} exists: name another file, or replace it with --force"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_export_left_is_removed_and_what_another_one_writes_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("rows.csv");
        let abandoned = dir
            .path()
            .join(format!("rows.csv.{}.partial", Uuid::nil().simple()));
        let other = dir.path().join("rows.csv.of-mine.partial");
        fs::write(&abandoned, "half").unwrap();
        fs::write(&other, "mine").unwrap();
        let (first, _open) = Unfinished::create(&to).unwrap();
        assert!(!abandoned.exists() && other.exists());
        let (second, _open) = Unfinished::create(&to).unwrap();
        assert!(first.path.exists() && second.path.exists());
        first.rename(Existing::Kept).unwrap();
        assert!(second.rename(Existing::Kept).is_err(), "it has the name already");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }
}
