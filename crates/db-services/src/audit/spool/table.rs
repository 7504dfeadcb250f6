//! The tables of a spool file, and the statements on them.

use std::fs::File;
use std::path::Path;

use audit_core::spool::Usage;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::files::create_for_owner;
use crate::files::sqlite_uri;

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

diesel::define_sql_function! {
    fn length(body: diesel::sql_types::Binary) -> diesel::sql_types::BigInt;
}

/// The version of the format that this program reads and writes.
pub(super) const VERSION: i64 = 1;

/// "AULG", in the header of each file.
pub(super) const APPLICATION: i64 = 0x4155_4C47;

pub(super) const SCHEMA: &str = "PRAGMA application_id = 1096109127; PRAGMA user_version = 1; \
     CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; \
     CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, entries INTEGER NOT NULL, body BLOB NOT NULL);";

/// Others may look at the file while it is open.
pub(super) const SHARED: &str = "";

/// They may not. In return SQLite keeps the index of the log in memory: a full disk has no space for it.
pub(super) const ALONE: &str = "PRAGMA locking_mode = EXCLUSIVE;";

/// A batch is written once and read once, so a larger cache than 1 MiB (the default is 2) is memory without a use.
const SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA cache_size = -1024;";

/// The most values that are bound to one statement.
pub(super) const MAX_BINDS: usize = 500;

/// Runs a transaction that may write. SQLite has rolled it back by itself if the disk is full: diesel's own
/// transactions take the failed rollback after that for a broken connection.
pub(super) fn transaction<T>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    conn.batch_execute("BEGIN IMMEDIATE")?;
    let result = work(conn).and_then(|done| conn.batch_execute("COMMIT").map(|()| done));
    if result.is_err() {
        let _ = conn.batch_execute("ROLLBACK");
    }
    result
}

/// True if no batch is in the file but these, which are in ascending order.
pub(super) fn holds_only(conn: &mut SqliteConnection, done: &[i64]) -> QueryResult<bool> {
    let ids = batches::table.select(batches::id);
    if done.is_empty() {
        return Ok(ids.first::<i64>(conn).optional()?.is_none());
    }
    let found: Vec<i64> = ids.load(conn)?;
    Ok(found.iter().all(|id| done.binary_search(id).is_ok()))
}

/// Removes batches in statements of a bounded size.
pub(super) fn delete(conn: &mut SqliteConnection, ids: &[i64]) -> QueryResult<Usage> {
    let mut removed = Usage::default();
    for some in ids.chunks(MAX_BINDS) {
        let chosen = || batches::table.filter(batches::id.eq_any(some));
        let sizes: Vec<i64> = chosen().select(length(batches::body)).load(conn)?;
        removed.bytes += sizes.iter().map(|size| size.unsigned_abs()).sum::<u64>();
        removed.batches += diesel::delete(chosen()).execute(conn)? as u64;
    }
    Ok(removed)
}

/// Opens a file that is there for changes. Never creates one: it may have been removed a moment ago.
pub(super) fn open(path: &Path, locking: &str) -> ConnectionResult<SqliteConnection> {
    let mut conn = SqliteConnection::establish(&sqlite_uri(path, "mode=rw"))?;
    // The index of the log is created with the first look at a table.
    let all = format!("{locking}{SETTINGS} SELECT count(*) FROM sqlite_schema;");
    conn.batch_execute(&all)
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// Writes a file without batches, synced, that says one thing about itself.
pub(super) fn write_new(path: &Path, key: &str, value: &str) -> Result<(), Box<dyn std::error::Error>> {
    // SQLite gives its other files the same owner and mode.
    create_for_owner(path)?;
    let mut conn = open(path, SHARED)?;
    conn.immediate_transaction(|conn| {
        conn.batch_execute(SCHEMA)?;
        diesel::insert_into(about::table)
            .values((about::key.eq(key), about::value.eq(value)))
            .execute(conn)
    })?;
    // Moves everything from the log into the file. Closing would do so as well, and not report a full disk.
    conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(conn);
    Ok(File::open(path)?.sync_all()?)
}
