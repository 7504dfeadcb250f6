//! Local files in which entries wait while the database does not accept them, or before they are sent.
//!
//! The policy is [`audit_core::spool`]; this module reads and writes its files. The public part is for
//! operators: [`status`], [`replay`], [`restore_damaged`] and [`Quarantine`].
//!
//! # On-disk format
//!
//! | file | what |
//! | --- | --- |
//! | `<uuid>.spool` | batches of entries; the first of a writer is named by its `writer_id`, further ones by a new UUIDv7 |
//! | `<uuid>.spool-wal`, `-shm` | SQLite's write-ahead log and its index, while the file is open and after a crash |
//! | `<uuid>.lock` | locked (`flock`) while a process uses the spool file |
//! | `<uuid>.unfinished` | a spool file that is being created |
//! | `<uuid>.damaged`, `-wal`, `-shm` | a spool file that was found to be damaged, after what can be read was copied; with another UUID if its own is taken |
//! | `quarantine.sqlite` | rejected entries and damaged lines of all writers of the directory |
//! | `quarantine-2.sqlite` and so on | the same, of a user who may not open the one before |
//! | `quarantine.<uuid>.damaged`, `-wal`, `-shm`, `-journal` | a quarantine that was found to be damaged |
//!
//! **A spool file** is an SQLite database in WAL mode with `synchronous = FULL`: what a commit appended is
//! synced. Its `application_id` is 0x41554C47 ("AULG"), its `user_version` 1. It has two tables:
//!
//! - `about (key, value)` with one row, `target`: the database that the entries are for. That is
//!   `postgres://host:port,host:port/name` with every host in its order, or `sqlite://` and an absolute path.
//! - `batches (id, entries, body)`: `id` ascends in the order of arrival and is never used twice, `entries` is
//!   the number of rows, `body` their lines.
//!
//! **A line** is the CRC-32 of the rest in eight hexadecimal digits, a space, a JSON object with the columns of
//! `audit_logs` that are not null, and a line feed. Times are microseconds since 1970-01-01 UTC; `metadata` is
//! a string that holds the JSON text exactly. Each line has its own sum, so a damaged one does not take its
//! neighbours with it.
//!
//! **Creation.** The file is written as `.unfinished`, synced, renamed, and the directory synced. A crash leaves
//! a whole file or an `.unfinished` one; the next scan removes the latter. Older versions created files in two
//! steps; a whole one without a target whose tables never had a row is removed as well.
//!
//! **Other files.** A file is one of the spool if its name is a UUID or its `application_id` the spool's; others
//! are neither read nor changed. Only what never held a batch is removed unread, and only empty locks. A log with
//! frames is not removed unread, and a file is missing only if the system says so: an error of `stat` proves
//! nothing. Symbolic links and pipes are left alone and reported as unreadable: SQLite looks for a log beside the
//! target of a link, and to open a pipe waits for its other end. Beside one with the name of a quarantine the next
//! quarantine is created.
//!
//! A scan lists the directory once. The files that it finds are adopted a few at a time, and at most 32 are looked
//! at before the next requests are answered. One for another database is looked at once.
//!
//! **Locks.** A file whose lock can be taken belongs to a process that ended; the next writer to the same
//! database, or `auditlog spool replay`, adopts it. The lock is valid only while its name means the locked inode,
//! which is checked after locking and at each commit. If a program that cleans directories removes it, the writer
//! creates it again; if another process adopted the file meanwhile, the writer copies its batches to a new file.
//! Correctness does not depend on it: both may replay the same batches, which are stored once, and a file is
//! removed only under SQLite's write lock, when it is empty.
//!
//! **Versions.** A file with a higher `user_version` is left alone and reported.
//!
//! **A crash** (SIGKILL, power loss) leaves every acknowledged batch in its file or in the file's log. Removals
//! that were not synced are undone; those batches are replayed and found stored.
//!
//! **Damage** is what is proven: `SQLITE_CORRUPT`, `SQLITE_NOTADB`, a failed `quick_check`, or a commit in the log
//! behind a frame with a wrong checksum. A last commit with a wrong checksum, in a log that was started again,
//! is not: a process was killed before it acknowledged that commit. The rest of a commit whose sync failed, behind
//! a smaller commit, is not. I/O errors, locks of others and a lack of descriptors are not: the file stays as it is
//! and is tried again.
//!
//! SQLite reports an I/O error as damage at times: as a number in the text of `quick_check`, or as a malformed
//! file. So before a file is believed to be damaged, file and log are read from end to end without SQLite; then
//! the file is opened and checked afresh, and read once more. A read that fails is a passing error. The same is done
//! where a batch cannot be copied, and before the file is renamed. A file that is whole goes on being used; if it
//! looks damaged again, its batches are copied and it is removed.
//!
//! A damaged file is opened for reading alone. Its batches are read from the first one up to the damage, then from
//! the last one down to it, and copied, synced, to the writer's file; then it is renamed to `.damaged`, its log
//! first. If a copy fails the file stays, and the copy goes on at the next scan. Damaged lines go to the quarantine.
//! A damaged file that does not say which database it is for is left alone.
//!
//! A log with frames whose file is missing or has no first page is damage too. The file is written again, without
//! a target and with the row `restored` in `about`: so SQLite reads the batches of the log.
//!
//! **Removed files.** A writer finds out before it acknowledges a batch that its file or the log of it is no longer
//! in the directory, or was replaced or cut off. It copies what it still has open to a new file. Not noticed: a log
//! that is cut off within the microseconds of one commit.
//!
//! **Owner.** Files have the mode 0600. What root creates (a replay by command) is given to the owner of the
//! directory.
//!
//! **A quarantine** is an SQLite database with a rollback journal and `synchronous = EXTRA`: a committed row is in
//! the file itself. It has one table, `quarantine (id, set_aside_at, reason, sqlstate, line, target)`:
//! `set_aside_at` is in microseconds since 1970-01-01 UTC, `line` is a line as above without its line feed, and
//! `target` is the database that the entry is for, as in a spool file. A line is kept once for each target. Older
//! versions had no `target`, and a write-ahead log: their rows are copied to a new table, and have none. A writer
//! checks the whole file, and the log that an older version left, before it uses it: a damaged one is renamed and
//! reported, and a new one is created.
//!
//! # Limits
//!
//! - The index of the log (`-shm`) is shared memory: a program that truncates it kills the process that uses it
//!   (SIGBUS), as with every SQLite database in WAL mode. Acknowledged entries are in the file and its log.
//! - In a log that was started again, damage to the last commit alone cannot be distinguished from a commit that
//!   was never acknowledged, nor can damage that leaves no more than one commit behind it recognizable.

#[cfg(test)]
mod adoption_tests;
mod classify;
mod codec;
#[cfg(test)]
mod damage_tests;
mod file;
mod inspect;
#[cfg(test)]
mod kill_tests;
mod lock;
mod place;
mod quarantine;
mod replay;
mod store;
mod table;
mod thread;
mod wal;
#[cfg(test)]
mod wal_tests;

use std::path::{Path, PathBuf};

pub use audit_core::spool::StoreError;
use audit_core::spool::{NoticeLevel, SpoolNotice};
pub use quarantine::{Quarantine, Quarantined, Retried};
pub use replay::{Replayed, replay, restore_damaged};
pub(super) use thread::Spool;

use crate::LOG_TARGET;
use inspect::{Glance, Look};

/// A file or directory of a spool could not be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {path}: {source}")]
#[non_exhaustive]
pub struct SpoolError {
    /// The file or directory.
    pub path: PathBuf,
    /// The reason.
    pub source: SpoolErrorKind,
}

/// Why a file or directory of a spool could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolErrorKind {
    /// The operating system reported an error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// SQLite could not open the file.
    #[error(transparent)]
    Open(#[from] diesel::ConnectionError),
    /// SQLite could not read or write the file, or the database a row of it.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// An operation on a spool file failed: its disk is full, the file is corrupt or was removed, or the error
    /// may pass by itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file was removed from the directory while it was in use.
    #[error("it was removed from the directory")]
    Removed,
}

impl SpoolError {
    fn at(path: &Path, source: impl Into<SpoolErrorKind>) -> Self {
        Self {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Which files of a directory a [`replay`] or [`restore_damaged`] takes, and which entries a
/// [`Quarantine::retry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayScope {
    /// Those that are for the same database.
    #[default]
    SameDatabase,
    /// All: the database has another address now, or is the copy of another.
    AnyDatabase,
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
    /// It was damaged and renamed; what could be read of it was copied before.
    Damaged,
    /// A newer version of this program wrote it, with this version of the format; it is left alone.
    NewerVersion(i64),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// Lists the spool files of a directory, without changing anything.
///
/// # Errors
/// When the directory cannot be read. A file that cannot be read is listed as such.
pub fn status(dir: &Path) -> Result<Vec<SpoolStatus>, SpoolError> {
    let state = |path: &Path| match inspect::look(path) {
        Look::Whole(Glance {
            in_use,
            target,
            content,
        }) => SpoolState::Waiting {
            in_use,
            target,
            entries: content.entries.unsigned_abs(),
            batches: content.batches.unsigned_abs(),
            bytes: content.bytes.unsigned_abs(),
        },
        Look::Newer(version) => SpoolState::NewerVersion(version),
        Look::Unreadable(reason) => SpoolState::Unreadable(reason),
    };
    let paths = paths(dir)?;
    let mut all = Vec::new();
    for path in ours(&paths, "spool") {
        let state = state(path);
        // One that was replayed meanwhile is gone.
        if lock::is_present(path).unwrap_or(true) {
            let path = path.clone();
            all.push(SpoolStatus { state, path });
        }
    }
    let damaged = ours(&paths, "damaged").chain(lone_damaged_logs(&paths));
    all.extend(damaged.map(|path| SpoolStatus {
        path: path.clone(),
        state: SpoolState::Damaged,
    }));
    Ok(all)
}

/// The files of a directory, sorted: names are UUIDs v7, so the oldest writer's comes first. Symbolic links are
/// among them; a directory is not, nor is a pipe: opening one waits until somebody writes to it.
fn paths(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let failed = |error| SpoolError::at(dir, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A file that cannot be looked at is reported by those that open it.
        let is_file = |kind: std::fs::FileType| kind.is_file() || kind.is_symlink();
        if entry.file_type().map_or(true, is_file) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The spool's files with this extension.
fn ours<'a>(paths: &'a [PathBuf], extension: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    let is_named = move |path: &Path| path.extension().is_some_and(|found| found == extension);
    paths
        .iter()
        .filter(move |path| is_named(path) && inspect::is_ours(path))
}

/// Logs of damaged files without their file: a process was killed while it renamed the two.
fn lone_damaged_logs(paths: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let has_file = |log: &Path| paths.binary_search(&log.with_extension("damaged")).is_ok();
    ours(paths, "damaged-wal").filter(move |log| !has_file(log))
}

/// The name of a file in its directory.
fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Logs what an operator should know.
pub(super) fn log_notice(notice: &SpoolNotice) {
    match notice.level() {
        NoticeLevel::Warning => log::warn!(target: LOG_TARGET, file = notice.file(); "{notice}"),
        NoticeLevel::Error => log::error!(target: LOG_TARGET, file = notice.file(); "{notice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_directory_or_a_pipe_with_the_name_of_a_spool_file_is_none() {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("018f3a2e-7b1c-7def-8000-0123456789ac.spool")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(dir.path().join("018f3a2e-7b1c-7def-8000-0123456789ad.spool"))
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::write(
            dir.path().join("018f3a2e-7b1c-7def-8000-0123456789ab.spool"),
            "garbage",
        )
        .unwrap();
        let found = status(dir.path()).unwrap();
        let names: Vec<String> = found.iter().map(|file| file_name(&file.path)).collect();
        assert_eq!(names, ["018f3a2e-7b1c-7def-8000-0123456789ab.spool"]);
    }
}
