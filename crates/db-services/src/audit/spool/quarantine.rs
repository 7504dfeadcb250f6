//! Entries that the database rejects, and lines that cannot be read.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use db_schema::NewAuditLog;
use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::inspect::uri;
use super::lock::{Identity, create_private, sync_dir};
use super::{SpoolError, SpoolErrorKind, codec};
use crate::audit::insert::{AuditConnection, OnConflict};
use crate::client::Connection;

diesel::table! {
    quarantine (id) {
        id -> BigInt,
        set_aside_at -> BigInt,
        reason -> Text,
        sqlstate -> Nullable<Text>,
        line -> Binary,
    }
}

const SCHEMA: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     CREATE TABLE IF NOT EXISTS quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, set_aside_at INTEGER NOT NULL, \
     reason TEXT NOT NULL, sqlstate TEXT, line BLOB NOT NULL, UNIQUE (line));";

/// The entries of a spool directory that the database refused, and lines that cannot be read.
///
/// One file, `quarantine.sqlite`, for all writers of the directory. Its calls block on the disk.
pub struct Quarantine {
    path: PathBuf,
    conn: SqliteConnection,
    /// The file that is open.
    identity: Option<Identity>,
}

/// An entry in the quarantine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Its number in the quarantine.
    pub id: i64,
    /// When it was quarantined.
    pub set_aside_at: DateTime<Utc>,
    /// What the database said, or what was wrong with the line.
    pub reason: String,
    /// The database's five-character code, where there was one.
    pub sqlstate: Option<String>,
    /// The entry; none if its line cannot be read.
    pub entry: Option<NewAuditLog>,
    /// The line as it lay in the spool.
    pub line: Vec<u8>,
}

impl Quarantine {
    /// Opens the quarantine of a spool directory; makes it if there is none.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        let path = dir.join("quarantine.sqlite");
        let open = || {
            create_if_missing(dir, &path)?;
            // Before it is opened: if another file takes the name in between, this one is not that.
            let identity = Identity::at(&path)?;
            let mut conn = SqliteConnection::establish(&uri(&path, "mode=rw"))?;
            conn.batch_execute(SCHEMA)?;
            Ok::<_, SpoolErrorKind>((conn, identity))
        };
        let (conn, identity) = open().map_err(|error| SpoolError::at(&path, error))?;
        Ok(Self { path, conn, identity })
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
        dir.join("quarantine.sqlite").exists()
    }

    /// Returns the quarantined entries, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&mut self) -> Result<Vec<Quarantined>, SpoolError> {
        type Row = (i64, i64, String, Option<String>, Vec<u8>);
        let rows: Vec<Row> = quarantine::table
            .order(quarantine::id)
            .load(&mut self.conn)
            .map_err(|error| SpoolError::at(&self.path, error))?;
        Ok(rows
            .into_iter()
            .map(|(id, at, reason, sqlstate, line)| Quarantined {
                id,
                set_aside_at: DateTime::from_timestamp_micros(at).unwrap_or_default(),
                reason,
                sqlstate,
                entry: codec::decode(&line).0.pop().map(|row| row.0),
                line,
            })
            .collect())
    }

    /// Writes the entries again, once the database was fixed, and returns how many it accepted.
    /// Those it still refuses stay, as do lines that cannot be read.
    ///
    /// # Errors
    /// When the quarantine cannot be used. A database that does not answer refuses as well.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; an entry may be stored and still be listed, until the next
    /// try.
    pub async fn retry(&mut self, conn: &mut Connection) -> Result<u64, SpoolError> {
        let mut stored = 0;
        for Quarantined { id, entry, .. } in self.list()? {
            let Some(row) = entry else { continue };
            if conn.insert_rows(vec![row], OnConflict::DoNothing).await.is_ok() {
                self.remove(&[id])?;
                stored += 1;
            }
        }
        Ok(stored)
    }

    fn remove(&mut self, ids: &[i64]) -> Result<(), SpoolError> {
        diesel::delete(quarantine::table.filter(quarantine::id.eq_any(ids)))
            .execute(&mut self.conn)
            .map(|_| ())
            .map_err(|error| SpoolError::at(&self.path, error))
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
                quarantine::set_aside_at.eq(Utc::now().timestamp_micros()),
                quarantine::reason.eq(reason),
                quarantine::sqlstate.eq(sqlstate),
                quarantine::line.eq(line),
            ))
            .execute(&mut self.conn)
            .map(|_| ())
            .map_err(|error| SpoolError::at(&self.path, error))
    }
}

/// Creates a file that only this user may read. One that exists is not opened: to close it again would end
/// the locks that SQLite holds on it elsewhere in this process.
fn create_if_missing(dir: &Path, path: &Path) -> std::io::Result<()> {
    match create_private(path) {
        Ok(_) => sync_dir(dir),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").field("path", &self.path).finish()
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
