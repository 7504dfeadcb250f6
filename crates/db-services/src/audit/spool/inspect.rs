//! Spool files are looked at without changing them.

use std::path::Path;

use audit_core::spool::StoreError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};

use super::file::{APPLICATION, VERSION, about, classify};
use super::lock::Lock;
use super::wal;

/// What is known of a file from its first pages.
pub(super) enum Header {
    /// A process was killed while it created the file: it never held a batch.
    Unfinished,
    /// A newer version of this program wrote it.
    Newer(i64),
    /// The database that its entries are for.
    Target(String),
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Content {
    #[diesel(sql_type = BigInt)]
    pub(super) batches: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) bytes: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) entries: i64,
}

/// A whole file, and whether a process uses it.
pub(super) struct Glance {
    pub(super) in_use: bool,
    pub(super) target: String,
    pub(super) content: Content,
}

/// What a look at a file finds.
pub(super) enum Look {
    Whole(Glance),
    Newer(i64),
    Unreadable(String),
}

/// Opens a file for reading alone. Without a log nobody else may have it open, and then no file is created
/// beside it; with one, SQLite needs its index.
pub(super) fn open_to_look(path: &Path) -> Result<SqliteConnection, StoreError> {
    let has_log = path.with_extension(extension_of(path, "-wal")).exists();
    let mode = if has_log { "mode=ro" } else { "mode=ro&immutable=1" };
    let open = || {
        let mut conn = SqliteConnection::establish(&uri(path, mode))?;
        conn.batch_execute("PRAGMA busy_timeout = 1000")
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    };
    open().map_err(|error: ConnectionError| classify(&error))
}

/// An SQLite URI.
pub(super) fn uri(path: &Path, mode: &str) -> String {
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{name}?{mode}")
}

/// The extension of a file with SQLite's suffix for a file beside it.
pub(super) fn extension_of(path: &Path, suffix: &str) -> String {
    format!("{}{suffix}", path.extension().unwrap_or_default().to_string_lossy())
}

/// Reads what a file is.
pub(super) fn header(conn: &mut SqliteConnection) -> Result<Header, StoreError> {
    let application = number(conn, "SELECT application_id AS number FROM pragma_application_id")?;
    let version = number(conn, "SELECT user_version AS number FROM pragma_user_version")?;
    let tables =
        number(conn, "SELECT count(*) AS number FROM sqlite_schema WHERE name IN ('about', 'batches')")?;
    if application == APPLICATION && version > VERSION {
        return Ok(Header::Newer(version));
    }
    if tables < 2 && matches!(application, 0 | APPLICATION) {
        return Ok(Header::Unfinished);
    }
    if application != APPLICATION || version != VERSION {
        return Err(StoreError::Corrupt("it is not a spool file".to_owned()));
    }
    let target: Option<String> =
        about::table.find("target").select(about::value).get_result(conn).optional().map_err(failed)?;
    // Older versions created the tables first, then the target.
    match (target, content(conn)?.batches) {
        (Some(target), _) => Ok(Header::Target(target)),
        (None, 0) => Ok(Header::Unfinished),
        (None, _) => Err(StoreError::Corrupt("it does not say which database it is for".to_owned())),
    }
}

/// Reads the whole file: proven damage is an error.
pub(super) fn check(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Check {
        #[diesel(sql_type = Text)]
        quick_check: String,
    }
    let check: Check = diesel::sql_query("PRAGMA quick_check(1)").get_result(conn).map_err(failed)?;
    match &*check.quick_check {
        "ok" => Ok(()),
        damage => Err(StoreError::Corrupt(format!("SQLite finds damage: {damage}"))),
    }
}

pub(super) fn content(conn: &mut SqliteConnection) -> Result<Content, StoreError> {
    diesel::sql_query(
        "SELECT count(*) AS batches, coalesce(sum(length(body)), 0) AS bytes, coalesce(sum(entries), 0) AS entries \
         FROM batches",
    )
    .get_result(conn)
    .map_err(failed)
}

/// Looks at a file, also while another process uses it.
pub(super) fn look(path: &Path) -> Look {
    let look = || {
        let in_use = Lock::is_held(path).map_err(|error| classify(&error))?;
        // Only a log that nobody writes at this moment can be judged.
        if !in_use && let Some(damage) = log_damage(path)? {
            return Err(StoreError::Corrupt(damage));
        }
        let mut conn = open_to_look(path)?;
        check(&mut conn)?;
        let (target, content) = match header(&mut conn)? {
            Header::Newer(version) => return Ok(Look::Newer(version)),
            Header::Unfinished => (String::new(), Content { batches: 0, bytes: 0, entries: 0 }),
            Header::Target(target) => (target, content(&mut conn)?),
        };
        Ok(Look::Whole(Glance { in_use, target, content }))
    };
    look().unwrap_or_else(|error: StoreError| match error {
        StoreError::Corrupt(damage) => Look::Unreadable(format!(
            "it is damaged; the next writer or replay reads what can be read: {damage}"
        )),
        other => Look::Unreadable(other.to_string()),
    })
}

/// Why the log of a file that nobody uses is damaged, if it is.
pub(super) fn log_damage(path: &Path) -> Result<Option<String>, StoreError> {
    wal::find_damage(&path.with_extension(extension_of(path, "-wal"))).map_err(|error| classify(&error))
}

fn number(conn: &mut SqliteConnection, query: &str) -> Result<i64, StoreError> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let found: Number = diesel::sql_query(query).get_result(conn).map_err(failed)?;
    Ok(found.number)
}

fn failed(error: Error) -> StoreError {
    classify(&error)
}
