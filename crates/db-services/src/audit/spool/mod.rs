//! Where does an entry wait when the database does not take it, or before it is sent? In a local
//! file, synced.
//!
//! Each writer has a file of its own in the spool directory (its format: `file.rs`, `codec.rs`); the
//! file of a process that ended otherwise than cleanly is an orphan, adopted under a lock by the next
//! writer to the same database. `quarantine.sqlite` beside them holds the entries that the database
//! refuses, and lines that cannot be read.
//!
//! The public part is for operators: [`status`], [`replay`] and [`Quarantine`].

mod codec;
mod file;
mod quarantine;
mod replay;
mod thread;

use std::fmt::Display;
use std::path::{Path, PathBuf};

pub use quarantine::{Quarantine, Quarantined};
pub use replay::{Replayed, replay};
pub(super) use thread::{Answer, Spool, SpoolId};

/// A file of a spool directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {path}: {detail}")]
#[non_exhaustive]
pub struct SpoolError {
    /// The file or directory.
    pub path: PathBuf,
    /// What went wrong.
    pub detail: String,
}

impl SpoolError {
    fn at(path: &Path, error: impl Display) -> Self {
        Self { path: path.to_owned(), detail: error.to_string() }
    }
}

/// A file of a spool directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStatus {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub state: SpoolState,
}

/// What a spool file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolState {
    /// Entries that wait.
    Waiting {
        /// True while a writer uses it; otherwise the next writer to its database adopts it.
        in_use: bool,
        /// The database that the entries are for, without credentials.
        target: String,
        /// How many entries.
        entries: u64,
        /// In how many batches.
        batches: u64,
        /// How large they are, in bytes.
        bytes: u64,
    },
    /// It was damaged and set aside; what could be read of it was replayed.
    Damaged,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// Lists the spool files of a directory, without changing anything.
///
/// # Errors
/// When the directory cannot be read. A file that cannot be read is listed as such.
pub fn status(dir: &Path) -> Result<Vec<SpoolStatus>, SpoolError> {
    let state = |path: &Path| match file::glance(path) {
        Ok(file::Glance { in_use, target, batches, entries, bytes }) => {
            SpoolState::Waiting { in_use, target, entries, batches, bytes }
        }
        Err(error) => SpoolState::Unreadable(error.detail),
    };
    let mut all = Vec::new();
    for path in files(dir, "spool")? {
        let state = state(&path);
        // One that was replayed meanwhile is gone.
        if path.exists() {
            all.push(SpoolStatus { state, path });
        }
    }
    all.extend(
        files(dir, "damaged")?.into_iter().map(|path| SpoolStatus { path, state: SpoolState::Damaged }),
    );
    Ok(all)
}

/// The files of a directory with this extension, the oldest writer's first: names are UUIDs v7.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, SpoolError> {
    let failed = |error| SpoolError::at(dir, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
