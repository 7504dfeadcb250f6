//! Entries that the database rejects, and lines that cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use db_schema::NewAuditLog;
use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use uuid::Uuid;

use super::classify::classify;
use super::inspect::{self, beside, log_of, verify_regular_files};
use super::lock::{Identity, sync_dir};
use super::place::Place;
use super::{ReplayScope, SpoolError, SpoolErrorKind, StoreError, codec, file_name, wal};
use crate::LOG_TARGET;
use crate::audit::StartError;
use crate::audit::panics::contained;
use crate::audit::single::SingleInserter;
use crate::client::Database;
use crate::files::{create_empty, sqlite_uri};
use audit_core::writer::SinkErrorKind;

diesel::table! {
    quarantine (id) {
        id -> BigInt,
        #[sql_name = "set_aside_at"]
        quarantined_at -> BigInt,
        reason -> Text,
        sqlstate -> Nullable<Text>,
        line -> Binary,
        target -> Nullable<Text>,
    }
}

/// A commit is in the file itself, and synced with the directory: no log beside it can be lost or damaged, and a
/// full disk needs no index to read it.
const SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = EXTRA;";

const CREATE: &str = "CREATE TABLE quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, set_aside_at INTEGER NOT NULL, \
     reason TEXT NOT NULL, sqlstate TEXT, line BLOB NOT NULL, target TEXT, UNIQUE (line, target));";

/// From the table of older versions, which has no targets.
const RENAME_FORMER: &str = "ALTER TABLE quarantine RENAME TO former;";
const COPY_FORMER: &str = "INSERT INTO quarantine SELECT id, set_aside_at, reason, sqlstate, line, NULL FROM former; \
     DROP TABLE former;";

/// The most files of one directory: each user of a shared directory has one.
const MAX_FILES: u32 = 100;

/// How often a damaged file is renamed before its name is given up: another process may do the same.
const MAX_RENAMES: u32 = 3;

/// The entries of a spool directory that the database refused, and lines that cannot be read.
///
/// One file, `quarantine.sqlite`, for all writers of the directory. A user who may not open it has another,
/// `quarantine-2.sqlite` and so on. Its calls block on the disk.
pub struct Quarantine {
    path: PathBuf,
    conn: SqliteConnection,
    /// The file that is open.
    identity: Option<Identity>,
    /// The database that the entries are for which are kept from now on.
    target: Option<String>,
}

/// An entry in the quarantine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Its number in the quarantine.
    pub id: i64,
    /// When it was quarantined.
    pub quarantined_at: DateTime<Utc>,
    /// What the database said, or what was wrong with the line.
    pub reason: String,
    /// The database's five-character code, where there was one.
    pub sqlstate: Option<String>,
    /// The database that it is for, without credentials; none if an older version kept it.
    pub target: Option<String>,
    /// The entry; none if its line cannot be read.
    pub entry: Option<NewAuditLog>,
    /// The line as it lay in the spool.
    pub line: Vec<u8>,
}

/// What a [`Quarantine::retry`] did. What it did not store stays in the quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retried {
    /// Entries that are in the database now; some may have been there before.
    pub stored: u64,
    /// How many entries the database still rejects, by its message.
    pub rejected: BTreeMap<String, u64>,
    /// Entries for another database.
    pub other_target: u64,
    /// Entries that do not say which database they are for: an older version kept them.
    pub unknown_target: u64,
    /// Lines that cannot be read.
    pub unreadable: u64,
    /// Why it ended early: the database accepts no more.
    pub failure: Option<String>,
}

impl Quarantine {
    /// Opens the quarantine of a spool directory; creates it if there is none. A file that is proven to be
    /// damaged is renamed to `.damaged`, which is logged, and a new one is created.
    ///
    /// # Errors
    /// When no file can be used.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        Self::open_for(dir, None)
    }

    /// The same, for entries that are for this database.
    pub(super) fn open_for(dir: &Path, target: Option<&str>) -> Result<Self, SpoolError> {
        let mut number = 1;
        loop {
            let path = dir.join(match number {
                1 => "quarantine.sqlite".to_owned(),
                _ => format!("quarantine-{number}.sqlite"),
            });
            match Self::open_or_create(&path) {
                // It belongs to another user, or is no regular file.
                Err(SpoolErrorKind::Open(_)) if number < MAX_FILES => number += 1,
                Err(_) if number < MAX_FILES && verify_regular_files(&path).is_err() => number += 1,
                Ok(open) => {
                    let target = target.map(str::to_owned);
                    return Ok(Self { target, ..open });
                }
                Err(error) => return Err(SpoolError::at(&path, error)),
            }
        }
    }

    /// Opens all quarantines of a spool directory, to list or [`retry`](Self::retry) them; creates none. A damaged
    /// one is an error, and stays as it is.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open_all(dir: &Path) -> Result<Vec<Result<Self, SpoolError>>, SpoolError> {
        let paths = paths(dir).map_err(|error| SpoolError::at(dir, error))?;
        let open = |path: &PathBuf| {
            verify_regular_files(path)?;
            // Not once it is open: closing it would remove the damaged log.
            if let Some(damage) = inspect::log_damage(path)? {
                return Err(StoreError::Corrupt(damage).into());
            }
            let mut open = Self::connect(path)?;
            open.set_up()?;
            Ok(open)
        };
        Ok(paths
            .iter()
            .map(|path| open(path).map_err(|error: SpoolErrorKind| SpoolError::at(path, error)))
            .collect())
    }

    fn open_or_create(path: &Path) -> Result<Self, SpoolErrorKind> {
        verify_regular_files(path)?;
        for _ in 0..MAX_RENAMES {
            let identity = Identity::at(path)?;
            if let Some(damage) = log_without_file(path)? {
                mark_damaged(path, identity, damage)?;
            }
            create_if_missing(path)?;
            let mut open = Self::connect(path)?;
            match open.set_up() {
                Err(StoreError::Corrupt(_)) => {}
                set_up => return Ok(set_up.map(|()| open)?),
            }
            // SQLite reports a failed read as damage too: it is damaged if each byte can be read and it is found
            // again. While it is open: closing it under its name would remove the log of an older version.
            Place::read_through_any(path)?;
            let mut again = Self::connect(path)?;
            match again.set_up() {
                Err(StoreError::Corrupt(damage)) => mark_damaged(path, again.identity, &damage)?,
                set_up => return Ok(set_up.map(|()| again)?),
            }
        }
        Err(StoreError::Transient("it is damaged, and so are those that take its place".to_owned()).into())
    }

    /// Connects to a file; no statement is run.
    fn connect(path: &Path) -> Result<Self, SpoolErrorKind> {
        if let Some(damage) = log_without_file(path)? {
            return Err(StoreError::Corrupt(damage.to_owned()).into());
        }
        // Before it is opened: if another file takes the name in between, this one is not that.
        let identity = Identity::at(path)?;
        Ok(Self {
            path: path.to_owned(),
            conn: SqliteConnection::establish(&sqlite_uri(path, "mode=rw"))?,
            identity,
            target: None,
        })
    }

    /// Reads the file from end to end, and brings an older one up to date.
    fn set_up(&mut self) -> Result<(), StoreError> {
        self.execute(SETTINGS)?;
        let log = log_of(&self.path);
        if wal::has_frames(&log).map_err(|error| classify(&error))? {
            // Of an older version, which must not write to its log meanwhile.
            self.execute("BEGIN IMMEDIATE")?;
            let damage = inspect::log_damage(&self.path);
            self.execute("ROLLBACK")?;
            if let Some(damage) = damage? {
                return Err(StoreError::Corrupt(damage));
            }
        }
        // Fails while a process of an older version has it open. It keeps its log then, as that process does.
        let _ = self.execute("PRAGMA journal_mode = DELETE");
        inspect::check(&mut self.conn)?;
        let has_column = |conn: &mut SqliteConnection, name: &str| {
            let count = format!("SELECT count(*) FROM pragma_table_info('quarantine') WHERE name = '{name}'");
            sql::<BigInt>(&count).get_result(conn).map(|count: i64| count > 0)
        };
        if has_column(&mut self.conn, "target").map_err(|error| classify(&error))? {
            return Ok(());
        }
        self.conn
            .immediate_transaction(
                |conn| match (has_column(conn, "line")?, has_column(conn, "target")?) {
                    // Another process was faster.
                    (_, true) => Ok(()),
                    (true, false) => conn.batch_execute(&[RENAME_FORMER, CREATE, COPY_FORMER].concat()),
                    (false, false) => conn.batch_execute(CREATE),
                },
            )
            .map_err(|error: diesel::result::Error| classify(&error))
    }

    pub(super) fn execute(&mut self, statements: &str) -> Result<(), StoreError> {
        self.conn
            .batch_execute(statements)
            .map_err(|error| classify(&error))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error unless others find this file under its name: what is kept in a removed one is lost with this
    /// process.
    pub(super) fn verify_place(&self) -> Result<(), SpoolError> {
        match Identity::at(&self.path) {
            Ok(found) if found.is_some() && found == self.identity => Ok(()),
            Ok(_) => Err(SpoolError::at(&self.path, SpoolErrorKind::Removed)),
            Err(error) => Err(SpoolError::at(&self.path, error)),
        }
    }

    /// True if a spool directory has one.
    pub fn exists(dir: &Path) -> bool {
        paths(dir).is_ok_and(|paths| !paths.is_empty())
    }

    /// Returns the damaged files of a spool directory, which were renamed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn damaged(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
        let all = names(dir).map_err(|error| SpoolError::at(dir, error))?;
        let is_damaged = |name: &str| name.starts_with("quarantine") && name.contains(".damaged");
        // A log that was renamed without its file counts as one.
        let file = |name: &String| {
            name.split_once(".damaged")
                .map(|(stem, _)| format!("{stem}.damaged"))
        };
        let files: BTreeSet<String> = all
            .iter()
            .filter(|name| is_damaged(name.as_str()))
            .filter_map(file)
            .collect();
        Ok(files.iter().map(|name| dir.join(name)).collect())
    }

    /// Returns the quarantined entries, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&mut self) -> Result<Vec<Quarantined>, SpoolError> {
        type Row = (i64, i64, String, Option<String>, Vec<u8>, Option<String>);
        let rows: Vec<Row> = quarantine::table
            .order(quarantine::id)
            .load(&mut self.conn)
            .map_err(|error| self.failed(&error))?;
        Ok(rows
            .into_iter()
            .map(|(id, at, reason, sqlstate, line, target)| Quarantined {
                id,
                quarantined_at: DateTime::from_timestamp_micros(at).unwrap_or_default(),
                reason,
                sqlstate,
                target,
                entry: codec::decode(&line).rows.pop().map(|row| row.0),
                line,
            })
            .collect())
    }

    /// Writes the entries again, once the database was fixed. Those that it still rejects stay, as do lines that
    /// cannot be read. So do entries for another database and those that do not say for which, unless `scope`
    /// says otherwise.
    ///
    /// # Errors
    /// When the quarantine cannot be used. That the database accepts no entries is in [`Retried::failure`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; an entry may be stored and still be listed, until the next
    /// try.
    pub async fn retry(&mut self, database: &Database, scope: ReplayScope) -> Result<Retried, StartError> {
        let wanted = (scope == ReplayScope::SameDatabase).then(|| database.spool_target());
        let mut inserter = SingleInserter::start(database)?;
        let mut done = Retried::default();
        for Quarantined {
            id, entry, target, ..
        } in self.list()?
        {
            let Some(row) = entry else {
                done.unreadable += 1;
                continue;
            };
            match (&wanted, target) {
                (Some(_), None) => done.unknown_target += 1,
                (Some(wanted), Some(target)) if *wanted != target => done.other_target += 1,
                _ if done.failure.is_some() => {}
                _ => match inserter.write(row).await {
                    Ok(()) => {
                        self.remove(id)?;
                        done.stored += 1;
                    }
                    Err(error) if error.kind == SinkErrorKind::RowRejected => {
                        *done.rejected.entry(error.reason).or_default() += 1;
                    }
                    Err(error) => done.failure = Some(error.reason),
                },
            }
        }
        Ok(done)
    }

    fn remove(&mut self, id: i64) -> Result<(), SpoolError> {
        diesel::delete(quarantine::table.find(id))
            .execute(&mut self.conn)
            .map(|_| ())
            .map_err(|error| self.failed(&error))
    }

    /// Keeps a refused row, synced.
    pub(super) fn keep(
        &mut self,
        row: &NewAuditLog,
        reason: &str,
        sqlstate: Option<&str>,
    ) -> Result<(), SpoolError> {
        let body = codec::encode(std::iter::once(row));
        self.keep_line(body.strip_suffix(b"\n").unwrap_or(&body), reason, sqlstate)
    }

    /// Keeps a line, synced; one that is kept already is left as it is.
    pub(super) fn keep_line(
        &mut self,
        line: &[u8],
        reason: &str,
        sqlstate: Option<&str>,
    ) -> Result<(), SpoolError> {
        diesel::insert_or_ignore_into(quarantine::table)
            .values((
                quarantine::quarantined_at.eq(Utc::now().timestamp_micros()),
                quarantine::reason.eq(reason),
                quarantine::sqlstate.eq(sqlstate),
                quarantine::line.eq(line),
                quarantine::target.eq(&self.target),
            ))
            .execute(&mut self.conn)
            .map(|_| ())
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &diesel::result::Error) -> SpoolError {
        SpoolError::at(&self.path, classify(error))
    }
}

/// Creates a file. One that exists is not opened: to close it again would end the locks that SQLite holds on it
/// elsewhere in this process.
fn create_if_missing(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if create_empty(path)? => sync_dir(dir),
        _ => Ok(()),
    }
}

/// Why the log of an older version has no file: SQLite would remove it when it opens the file.
fn log_without_file(path: &Path) -> Result<Option<&'static str>, StoreError> {
    let has_frames = wal::has_frames(&log_of(path));
    let is_cut_off = || match inspect::is_cut_off_beside_log(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => found,
    };
    let is_without_file = has_frames.and_then(|has_frames| Ok(has_frames && is_cut_off()?));
    let damage = "its write-ahead log has frames, and the file is missing or has no first page";
    Ok(is_without_file
        .map_err(|error| classify(&error))?
        .then_some(damage))
}

/// Renames a damaged file, unless another process did.
fn mark_damaged(path: &Path, identity: Option<Identity>, damage: &str) -> Result<(), SpoolErrorKind> {
    if Identity::at(path)? != identity {
        return Ok(());
    }
    let renamed = path.with_extension(format!("{}.damaged", Uuid::now_v7()));
    // The file goes first: a log that is left behind is found without it.
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let from = beside(path, suffix);
        match std::fs::rename(from, beside(&renamed, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    path.parent().map_or(Ok(()), sync_dir)?;
    let (file, renamed) = (file_name(path), file_name(&renamed));
    contained(|| {
        log::error!(
            target: LOG_TARGET, file = &*file;
            "the quarantine {file} is damaged, it was renamed to {renamed} and a new one is created: {damage}"
        );
    });
    Ok(())
}

/// The quarantines of a directory, and those of which only the log is left.
fn paths(dir: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let is_one = |name: &str| {
        name.strip_prefix("quarantine")
            .and_then(|rest| rest.strip_suffix(".sqlite"))
            .is_some_and(|number| number.is_empty() || number.starts_with('-'))
    };
    let all = names(dir)?;
    let files = all
        .iter()
        .map(|name| name.strip_suffix("-wal").unwrap_or(name))
        .filter(|name| is_one(name));
    Ok(files.map(|name| dir.join(name)).collect())
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    std::fs::read_dir(dir)?.map(name).collect()
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").field("path", &self.path).finish()
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "quarantine_file_tests.rs"]
mod file_tests;
