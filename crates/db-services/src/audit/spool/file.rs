//! One spool file: how it is opened, restored and removed. Its batches are in [`contents`].

mod contents;

use std::path::{Path, PathBuf};

use audit_core::spool::{StoreError, Usage};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::classify::{classify, may_lack_space};
use super::inspect::{self, Content, EMPTY_PAGES, Header, PAGE, log_of, open_to_look};
use super::lock::{Lock, is_present, remove_files, rename, rename_to, sync_dir};
use super::place::{Place, Placed};
use super::table::{ALONE, SHARED, batches, holds_only, open, transaction, write_new};

pub(super) use self::contents::batch;

/// The extension of a file that is not whole yet.
pub(super) const UNFINISHED: &str = "unfinished";

/// A file larger than this is made small again once nothing is in it, in bytes.
const SHRINK_BEYOND: u64 = 16 << 20;

/// No file that is in use is smaller, in bytes.
const EMPTY_BYTES: u64 = PAGE * EMPTY_PAGES;

/// A spool file that this process has locked.
pub(super) struct SpoolFile {
    path: PathBuf,
    /// Closed before the lock ends; none while it is closed.
    conn: Option<SqliteConnection>,
    /// True if it was opened for changes by this process alone, for want of space.
    is_alone: bool,
    lock: Lock,
    /// The file. Closed after the connection: that ends the locks of SQLite on it in this process.
    main: Place,
    /// Its write-ahead log, if the file is open for changes.
    log: Option<Place>,
    /// True if the connection is for changes, and not for reading alone.
    is_for_changes: bool,
}

impl SpoolFile {
    /// Creates a file of this name.
    #[cfg(test)]
    pub(super) fn create(dir: &Path, name: &str, target: &str) -> Result<Self, StoreError> {
        let path = dir.join(format!("{name}.spool"));
        let lock = Lock::try_take(&path).map_err(|error| classify(&error))?;
        let lock = lock.ok_or_else(|| StoreError::Transient("another process uses it".to_owned()))?;
        Self::create_locked(path, lock, target)
    }

    /// Creates a file as a whole or not at all: under another name, synced, then renamed.
    pub(super) fn create_locked(path: PathBuf, lock: Lock, target: &str) -> Result<Self, StoreError> {
        let unfinished = path.with_extension(UNFINISHED);
        for name in [&path, &log_of(&path), &unfinished] {
            if is_present(name).map_err(|error| classify(&error))? {
                let text = format!("{} exists already", name.display());
                return Err(StoreError::Transient(text));
            }
        }
        let create = || {
            write_new(&unfinished, "target", target)?;
            std::fs::rename(&unfinished, &path)?;
            // The name of the file must survive a power loss as well as what is in it.
            path.parent().map_or(Ok(()), sync_dir)?;
            let main = Place::of(&path, EMPTY_BYTES)?;
            let conn = open(&path, SHARED)?;
            Ok((conn, main, Place::of(&log_of(&path), u64::MAX)?))
        };
        match create() {
            Ok((conn, main, log)) => Ok(Self {
                path,
                conn: Some(conn),
                is_alone: false,
                lock,
                main,
                log: Some(log),
                is_for_changes: true,
            }),
            Err(error) => {
                let error: Box<dyn std::error::Error> = error;
                remove_files(&unfinished);
                remove_files(&path);
                lock.remove();
                let (text, error) = (crate::client::describe(&*error), classify(&*error));
                // A disk that has no space for the index of the log is a full one.
                Err(match may_lack_space(&error) {
                    true => StoreError::DiskFull(text),
                    false => error,
                })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A locked file that is looked at, and what it is. It is corrupt only if that is found twice, and each byte
    /// can be read before and after the second time.
    pub(super) fn look(path: &Path, lock: Lock) -> Result<(Self, Result<Header, StoreError>), StoreError> {
        inspect::verify_regular_files(path).map_err(|error| classify(&error))?;
        if inspect::is_cut_off_beside_log(path).map_err(|error| classify(&error))? {
            restore(path)?;
        }
        let mut file = Self {
            path: path.to_owned(),
            conn: None,
            is_alone: false,
            lock,
            main: Place::of(path, EMPTY_BYTES).map_err(|error| classify(&error))?,
            log: None,
            is_for_changes: false,
        };
        let mut header = file.reopen();
        if matches!(header, Err(StoreError::Corrupt(_))) {
            file.verify_readable()?;
            header = file.reopen();
            if matches!(header, Err(StoreError::Corrupt(_))) {
                file.verify_readable()?;
            }
        }
        match header {
            Ok(_) | Err(StoreError::Corrupt(_)) => Ok((file, header)),
            Err(error) => Err(error),
        }
    }

    /// Opens it afresh, for reading alone, and reads what it is. The connection that was open is closed after
    /// that: the last one moves the log into the file, which is not to be changed now.
    ///
    /// Where there is no space for the index of the log, it is opened for changes by this process alone.
    fn reopen(&mut self) -> Result<Header, StoreError> {
        if self.is_alone {
            // No other connection can open it.
            return inspect::header(self.conn()?);
        }
        let mut conn = open_to_look(&self.path)?;
        let header = inspect::header(&mut conn);
        match header {
            // A damaged log stays as it is: closing a file that is open for changes removes the log.
            Err(error) if may_lack_space(&error) && inspect::log_damage(&self.path)?.is_none() => {
                drop(conn);
                self.open_alone()?;
                self.note_log()?;
                inspect::header(self.conn()?)
            }
            Ok(_) | Err(StoreError::Corrupt(_)) => {
                self.conn = Some(conn);
                self.is_for_changes = false;
                header
            }
            Err(error) => Err(error),
        }
    }

    /// Opens it afresh and reads it from end to end, then opens it for changes. A damaged file stays open for
    /// reading alone.
    pub(super) fn check(&mut self) -> Result<Usage, StoreError> {
        self.verify_place()?;
        if let Some(damage) = inspect::log_damage(&self.path)? {
            return Err(StoreError::Corrupt(damage));
        }
        self.reopen()?;
        let conn = self.conn()?;
        inspect::check(conn)?;
        let content = inspect::content(conn)?;
        if !self.is_for_changes {
            self.open_for_changes()?;
        }
        Ok(usage(content))
    }

    fn open_for_changes(&mut self) -> Result<(), StoreError> {
        match open(&self.path, SHARED).map_err(|error| classify(&error)) {
            Ok(conn) => self.conn = Some(conn),
            Err(error) if may_lack_space(&error) => self.open_alone()?,
            Err(error) => return Err(error),
        }
        self.note_log()
    }

    fn open_alone(&mut self) -> Result<(), StoreError> {
        self.conn = None;
        self.conn = Some(open(&self.path, ALONE).map_err(|error| classify(&error))?);
        self.is_alone = true;
        Ok(())
    }

    /// Notes the log of a file that was opened for changes.
    fn note_log(&mut self) -> Result<(), StoreError> {
        if self.log.is_none() {
            let log = Place::of(&log_of(&self.path), u64::MAX);
            self.log = Some(log.map_err(|error| classify(&error))?);
        }
        self.is_for_changes = true;
        Ok(())
    }

    /// The connection for changes. A check that failed for a passing reason left one for reading alone.
    fn conn_for_changes(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if !self.is_for_changes {
            self.open_for_changes()?;
        }
        self.conn()
    }

    /// Reads each byte of the file and of its log, without SQLite. An error if a read fails. Then opens the file
    /// afresh, for reading alone, if it can still be found: SQLite may have kept what it read before.
    pub(super) fn verify_readable(&mut self) -> Result<(), StoreError> {
        let read = || {
            self.main.read_through()?;
            match &self.log {
                Some(log) => log.read_through(),
                None => Place::read_through_any(&log_of(&self.path)),
            }
        };
        read()
            .map_err(|error: std::io::Error| StoreError::Transient(format!("it cannot be read: {error}")))?;
        if self.verify_place().is_ok() {
            // An error here is met again by the next operation.
            let _ = self.reopen();
        }
        Ok(())
    }

    /// Renames the damaged file, for an operator to look at. Returns its new path.
    pub(super) fn mark_damaged(&mut self) -> Result<PathBuf, StoreError> {
        self.conn = None;
        let renamed = self.free_name().map_err(|error| classify(&error))?;
        rename_to(&self.path, &renamed).map_err(|error| classify(&error))?;
        self.lock.remove();
        Ok(renamed)
    }

    /// A name for the damaged file that neither another one has nor another one's log.
    fn free_name(&self) -> std::io::Result<PathBuf> {
        let named = self.path.with_extension("damaged");
        for suffix in ["", "-wal", "-shm"] {
            if is_present(&named.with_extension(format!("damaged{suffix}")))? {
                return Ok(named.with_file_name(format!("{}.damaged", Uuid::now_v7())));
            }
        }
        Ok(named)
    }

    /// Renames a `.damaged` file back.
    pub(super) fn restore(mut self) -> std::io::Result<()> {
        self.conn = None;
        rename(&self.path, "spool").map(drop)
    }

    /// Removes the file of a process that was killed while it created it, unless it is damaged instead.
    pub(super) fn remove_unfinished(mut self) -> Result<Option<Self>, StoreError> {
        let is_unfinished = inspect::is_unfinished(&self.path).map_err(|error| classify(&error))?
            && inspect::log_damage(&self.path)?.is_none()
            && inspect::check(self.conn()?).is_ok();
        if !is_unfinished {
            return Ok(Some(self));
        }
        self.conn = None;
        remove_files(&self.path);
        self.lock.remove();
        Ok(None)
    }

    /// Removes the file if it holds no batch but these. It is looked at and removed under SQLite's write lock:
    /// what a process appends that lost its lock is either seen here, or finds the file gone.
    pub(super) fn remove_if_done(&mut self, done: &[i64]) -> Result<bool, StoreError> {
        self.verify_place()?;
        let path = self.path.clone();
        // Without frames the log is not taken for one that lost its file, if the process is killed between the
        // removals. It may fail, as on a full disk.
        let _ = self
            .conn_for_changes()?
            .batch_execute("PRAGMA wal_checkpoint(TRUNCATE)");
        let is_removed = transaction(self.conn()?, |conn| {
            let is_done = holds_only(conn, done)?;
            if is_done {
                std::fs::remove_file(&path)
                    .map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
            }
            Ok(is_done)
        })
        .map_err(|error| classify(&error))?;
        if let Some(log) = &mut self.log {
            log.accept_length();
        }
        if is_removed {
            self.conn = None;
            remove_files(&self.path);
            self.lock.remove();
        }
        Ok(is_removed)
    }

    /// An error unless others find this file, its log and its lock under their names, and none was cut off: what
    /// is written into a removed one is lost with this process.
    fn verify_place(&mut self) -> Result<(), StoreError> {
        let log = log_of(&self.path);
        let places = [
            ("it", &self.path, Some(&mut self.main)),
            ("its write-ahead log", &log, self.log.as_mut()),
        ];
        for (what, name, place) in places {
            let Some(place) = place else { continue };
            let found = match place.look(name).map_err(|error| classify(&error))? {
                Placed::AsItWas => continue,
                Placed::Removed => format!("{what} was removed from the directory"),
                Placed::Replaced => format!("another file took the name of {what}"),
                Placed::CutOff => format!("{what} was cut off"),
            };
            return Err(StoreError::Gone(found));
        }
        match self.lock.is_kept() {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Gone(
                "its lock was removed, and another process adopted it".to_owned(),
            )),
            Err(error) => Err(classify(&error)),
        }
    }

    fn conn(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if self.conn.is_none() {
            self.conn = Some(open_to_look(&self.path)?);
        }
        self.conn
            .as_mut()
            .ok_or_else(|| StoreError::Transient("it is closed".to_owned()))
    }

    /// Returns the space on the disk after an outage.
    fn shrink(&mut self) {
        let is_large = std::fs::metadata(&self.path).is_ok_and(|data| data.len() > SHRINK_BEYOND);
        if is_large
            && let Ok(conn) = self.conn()
            && batches::table.select(batches::id).first::<i64>(conn).optional() == Ok(None)
        {
            // A failure costs space only; it is repeated when the file is empty again.
            let _ = conn.batch_execute("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
            if let Some(log) = &mut self.log {
                log.accept_length();
            }
        }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // Before the lock: closing the last connection moves the log into the file.
        self.conn = None;
    }
}

fn usage(content: Content) -> Usage {
    Usage {
        batches: content.batches.unsigned_abs(),
        bytes: content.bytes.unsigned_abs(),
    }
}

/// Writes the file of a log that lost it: the first pages of all files are the same, so SQLite reads the batches
/// of the log with them. It has no target, and a row because of which it is not taken for an unfinished one.
fn restore(path: &Path) -> Result<(), StoreError> {
    let unfinished = path.with_extension(UNFINISHED);
    if inspect::is_unfinished(&unfinished).map_err(|error| classify(&error))? {
        remove_files(&unfinished);
    }
    write_new(
        &unfinished,
        "restored",
        "its write-ahead log was found without it",
    )
    .and_then(|()| Ok(std::fs::rename(&unfinished, path)?))
    .and_then(|()| Ok(path.parent().map_or(Ok(()), sync_dir)?))
    .map_err(|error| classify(&*error))
}

#[cfg(test)]
#[path = "io_error_tests.rs"]
mod io_error_tests;
#[cfg(test)]
#[path = "place_tests.rs"]
mod place_tests;
#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "file_settings_tests.rs"]
mod settings_tests;
