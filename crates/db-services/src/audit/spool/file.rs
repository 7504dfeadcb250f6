//! What is one spool file, and how is it read when it is damaged?
//!
//! An SQLite database `<writer>.spool` (application id 0x41554C47, user version 1) with two tables:
//! `about` (`target`: the database that the entries are for, without credentials) and `batches` (`id`
//! in the order of arrival, `entries` their number, `body` the lines of `codec.rs`). Beside it lies
//! `<writer>.lock`, locked (`flock`) for as long as a process uses the file: a file that can be locked
//! is an orphan. Journal mode WAL with `synchronous = FULL`: what is appended is synced.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::SpoolError;
use crate::audit::insert::{BATCH_BYTES, BATCH_ROWS};

diesel::table! {
    about (key) {
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    batches (id) {
        id -> BigInt,
        entries -> BigInt,
        body -> Binary,
    }
}

const SCHEMA: &str = "PRAGMA application_id = 1096109127; PRAGMA user_version = 1; \
     CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; \
     CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, entries INTEGER NOT NULL, body BLOB NOT NULL);";

const SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// A file larger than this is made small again once nothing is in it, in bytes.
const SHRINK_BEYOND: u64 = 16 << 20;

/// Batches that are read together at the most.
const TOGETHER: i64 = 250;

type Failure = Box<dyn std::error::Error>;

/// A spool file that this process has locked.
pub(super) struct SpoolFile {
    path: PathBuf,
    _lock: File,
    conn: SqliteConnection,
    /// What the bodies hold, in bytes.
    bytes: u64,
    batches: u64,
    /// False if SQLite finds the structure damaged.
    sound: bool,
}

/// A batch as it lies in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) body: Vec<u8>,
}

impl SpoolFile {
    /// Makes a new file.
    pub(super) fn create(dir: &Path, name: &str, target: &str) -> Result<Self, SpoolError> {
        let path = dir.join(format!("{name}.spool"));
        let make = || {
            let lock = lock_file(&path)?.ok_or("another process uses it")?;
            // Made here, so that only this user may read it; SQLite gives its other files the same mode.
            private().create_new(true).open(&path)?;
            let mut conn = connect(&path)?;
            conn.batch_execute(SCHEMA)?;
            diesel::insert_into(about::table)
                .values((about::key.eq("target"), about::value.eq(target)))
                .execute(&mut conn)?;
            // The name of the file must survive a power cut as well as what is in it.
            File::open(dir)?.sync_all()?;
            Ok((lock, conn))
        };
        let (lock, conn) = make().map_err(|error: Failure| SpoolError::at(&path, error))?;
        Ok(Self { path, _lock: lock, conn, bytes: 0, batches: 0, sound: true })
    }

    /// Takes over a file that no process uses; none if one does, or if it is gone meanwhile.
    pub(super) fn adopt(path: &Path) -> Result<Option<Self>, SpoolError> {
        // Not to be locked, for whatever reason: not ours to take.
        let Ok(Some(lock)) = lock_file(path) else { return Ok(None) };
        if !path.exists() {
            // Its last owner removed it between the listing and the lock.
            let _ = std::fs::remove_file(lock_path(path));
            return Ok(None);
        }
        let open = || {
            let mut conn = connect(path)?;
            let sound = is_sound(&mut conn);
            // A damaged tree can lead in circles: it is not walked from end to end.
            let (batches, bytes) = if sound { measure(&mut conn)? } else { (0, 0) };
            Ok((conn, batches, bytes, sound))
        };
        let (conn, batches, bytes, sound) = open().map_err(|error: Failure| SpoolError::at(path, error))?;
        Ok(Some(Self { path: path.to_owned(), _lock: lock, conn, bytes, batches, sound }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// The database that the entries are for.
    pub(super) fn target(&mut self) -> QueryResult<String> {
        target(&mut self.conn)
    }

    /// True if SQLite found the file's structure sound when it was taken over; else only
    /// [`salvage`](Self::salvage) is to be asked.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Adds bodies and removes batches, all synced with one commit; gives back the ids of those added.
    pub(super) fn change(&mut self, add: &[(i64, Vec<u8>)], remove: &[i64]) -> QueryResult<Vec<i64>> {
        let (ids, removed, freed) = self.conn.immediate_transaction(|conn| {
            let (mut removed, mut freed) = (0, 0);
            for some in remove.chunks(500) {
                let chosen = || batches::table.filter(batches::id.eq_any(some));
                let sizes: Vec<i64> = chosen().select(length(batches::body)).load(conn)?;
                freed += sizes.iter().map(|size| size.unsigned_abs()).sum::<u64>();
                removed += diesel::delete(chosen()).execute(conn)? as u64;
            }
            let mut ids = Vec::with_capacity(add.len());
            for (entries, body) in add {
                let row = (batches::entries.eq(entries), batches::body.eq(body));
                let insert = diesel::insert_into(batches::table).values(row).returning(batches::id);
                ids.push(insert.get_result::<i64>(conn)?);
            }
            QueryResult::Ok((ids, removed, freed))
        })?;
        let added: u64 = add.iter().map(|(_, body)| body.len() as u64).sum();
        self.bytes = self.bytes.saturating_sub(freed) + added;
        self.batches = self.batches.saturating_sub(removed) + add.len() as u64;
        if self.batches == 0 && removed > 0 {
            self.shrink();
        }
        Ok(ids)
    }

    /// The oldest batches that are not among those to skip: as many as fit one statement together, at
    /// least one if there is any.
    pub(super) fn oldest(&mut self, skip: &[i64]) -> QueryResult<Vec<Stored>> {
        let sizes: Vec<(i64, i64, i64)> = batches::table
            .filter(batches::id.ne_all(skip))
            .order(batches::id)
            .limit(TOGETHER)
            .select((batches::id, batches::entries, length(batches::body)))
            .load(&mut self.conn)?;
        let (mut entries, mut bytes) = (0, 0);
        let fits = |(_, more, size): &&(i64, i64, i64)| {
            (entries, bytes) = (entries + more, bytes + size);
            entries == *more || (entries <= BATCH_ROWS as i64 && bytes <= BATCH_BYTES as i64)
        };
        let ids: Vec<i64> = sizes.iter().take_while(fits).map(|(id, ..)| *id).collect();
        batches::table
            .filter(batches::id.eq_any(ids))
            .order(batches::id)
            .select((batches::id, batches::body))
            .load::<(i64, Vec<u8>)>(&mut self.conn)
            .map(|found| found.into_iter().map(|(id, body)| Stored { id, body }).collect())
    }

    /// Reads what can be read of a damaged file: from the beginning up to the damage, then from the
    /// end down to it. SQLite trusts the order of a damaged tree, so that what comes after a batch can
    /// be one before it: reading goes on only while the numbers do.
    pub(super) fn salvage(&mut self) -> Vec<Stored> {
        let mut found = Vec::new();
        let select = || batches::table.select((batches::id, batches::body)).into_boxed();
        let mut last = i64::MIN;
        while let Ok((id, body)) =
            select()
                .filter(batches::id.gt(last))
                .order(batches::id.asc())
                .first::<(i64, Vec<u8>)>(&mut self.conn)
            && id > last
        {
            found.push(Stored { id, body });
            last = id;
        }
        let mut first = i64::MAX;
        while let Ok((id, body)) = select()
            .filter(batches::id.gt(last).and(batches::id.lt(first)))
            .order(batches::id.desc())
            .first::<(i64, Vec<u8>)>(&mut self.conn)
            && last < id
            && id < first
        {
            found.push(Stored { id, body });
            first = id;
        }
        found
    }

    /// Removes the file and its lock.
    pub(super) fn remove(self) {
        let Self { path, conn, .. } = self;
        drop(conn);
        // Closing removes SQLite's own two files, unless somebody looks at them at this moment.
        for extension in ["spool", "spool-wal", "spool-shm", "lock"] {
            let _ = std::fs::remove_file(path.with_extension(extension));
        }
    }

    /// Renames the damaged file, for people to look at.
    pub(super) fn set_aside(self) -> PathBuf {
        let Self { path, conn, .. } = self;
        drop(conn);
        set_aside(&path)
    }

    /// Gives the disk its space back after an outage.
    fn shrink(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|data| data.len() > SHRINK_BEYOND) {
            let _ = self.conn.batch_execute("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

diesel::define_sql_function! {
    fn length(body: diesel::sql_types::Binary) -> diesel::sql_types::BigInt;
}

/// What is known of a file without taking it over.
pub(super) struct Glance {
    pub(super) in_use: bool,
    pub(super) target: String,
    pub(super) batches: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Looks at a file, also while another process uses it.
pub(super) fn glance(path: &Path) -> Result<Glance, SpoolError> {
    let look = || {
        let in_use = lock_path(path).exists() && lock_file(path)?.is_none();
        let mut conn = connect(path)?;
        if !is_sound(&mut conn) {
            return Err("it is damaged; the next writer or replay reads what can be read".into());
        }
        let target = target(&mut conn)?;
        let (batches, bytes) = measure(&mut conn)?;
        let counts: Vec<i64> = batches::table.select(batches::entries).load(&mut conn)?;
        let entries = counts.iter().map(|count| count.unsigned_abs()).sum();
        Ok(Glance { in_use, target, batches, entries, bytes })
    };
    look().map_err(|error: Failure| SpoolError::at(path, error))
}

/// Renames a file that cannot be used, for people to look at.
pub(super) fn set_aside(path: &Path) -> PathBuf {
    let aside = path.with_extension("damaged");
    for suffix in ["", "-wal", "-shm"] {
        // SQLite's own two files are not always there.
        let _ = std::fs::rename(
            path.with_extension(format!("spool{suffix}")),
            path.with_extension(format!("damaged{suffix}")),
        );
    }
    let _ = std::fs::remove_file(lock_path(path));
    aside
}

/// Opens a file that is there. Never makes one: it may have been removed a moment ago.
fn connect(path: &Path) -> ConnectionResult<SqliteConnection> {
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let mut conn = SqliteConnection::establish(&format!("file:{name}?mode=rw"))?;
    conn.batch_execute(SETTINGS).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

fn is_sound(conn: &mut SqliteConnection) -> bool {
    #[derive(diesel::QueryableByName)]
    struct Check {
        #[diesel(sql_type = diesel::sql_types::Text)]
        quick_check: String,
    }
    diesel::sql_query("PRAGMA quick_check(1)")
        .get_result::<Check>(conn)
        .is_ok_and(|check| check.quick_check == "ok")
}

fn target(conn: &mut SqliteConnection) -> QueryResult<String> {
    about::table.find("target").select(about::value).get_result(conn)
}

fn measure(conn: &mut SqliteConnection) -> QueryResult<(u64, u64)> {
    let sizes: Vec<i64> = batches::table.select(length(batches::body)).load(conn)?;
    Ok((sizes.len() as u64, sizes.iter().map(|size| size.unsigned_abs()).sum()))
}

/// Locks the file's lock; none if another holds it.
fn lock_file(path: &Path) -> std::io::Result<Option<File>> {
    let lock = private().create(true).truncate(false).open(lock_path(path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

/// Makes a file that only this user may read, if there is none.
pub(super) fn private_file(path: &Path) -> std::io::Result<()> {
    private().create(true).truncate(false).open(path).map(|_| ())
}

/// Opens files that only this user may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
