//! Spool files are looked at without changing them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use audit_core::spool::StoreError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use uuid::Uuid;

use super::classify::classify;
use super::lock::{Lock, is_present, verify_regular};
use super::place::Place;
use super::table::{APPLICATION, VERSION, about};
use super::wal;
use crate::files::sqlite_uri;

/// The size of a page, in bytes: SQLite's default.
pub(super) const PAGE: u64 = 4096;

/// The pages of a file without rows: one for the schema, one for each table, and one for the numbers given.
pub(super) const EMPTY_PAGES: u64 = 4;

/// SQLite's result code for damage; extended codes have it in their last eight bits.
const SQLITE_CORRUPT: u64 = 11;

/// What is known of a file from its first pages.
pub(super) enum Header {
    /// A process was killed while it created the file: it has no table, or tables without a row ever.
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
    let log = log_of(path);
    let has_log = is_present(&log).map_err(|error| classify(&error))?;
    if is_cut_off_beside_log(path).map_err(|error| classify(&error))? {
        return Err(StoreError::Corrupt(
            "it has no first page, and its write-ahead log has frames".to_owned(),
        ));
    }
    let mode = if has_log { "mode=ro" } else { "mode=ro&immutable=1" };
    let open = || {
        let mut conn = SqliteConnection::establish(&sqlite_uri(path, mode))?;
        conn.batch_execute("PRAGMA busy_timeout = 1000")
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    };
    open().map_err(|error: ConnectionError| classify(&error))
}

/// The file that SQLite keeps beside one, by its suffix; the file itself without one.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{extension}{suffix}"))
}

/// The write-ahead log of a file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// True if a file has not even its first page, or is missing, although its log has frames. If it is empty, SQLite
/// removes the log when it opens the file, for reading as well; it takes a file of one byte for an empty one.
pub(super) fn is_cut_off_beside_log(path: &Path) -> io::Result<bool> {
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(length < PAGE && wal::has_frames(&log_of(path))?)
}

/// An error if a file or one of SQLite's own files beside it is something else than a regular file.
pub(super) fn verify_regular_files(path: &Path) -> io::Result<()> {
    let suffixes = ["", "-wal", "-shm", "-journal"];
    suffixes
        .iter()
        .try_for_each(|suffix| verify_regular(&beside(path, suffix)))
}

/// True if the name of a file is a UUID, or its header has the `application_id` of spool files: a directory may
/// hold files of other programs with the same extensions.
pub(super) fn is_ours(path: &Path) -> bool {
    let is_named = path
        .file_stem()
        .is_some_and(|stem| Uuid::parse_str(&stem.to_string_lossy()).is_ok());
    let has_header = |bytes: [u8; 100]| bytes[68..72] == APPLICATION.to_be_bytes()[4..];
    // One that cannot be read now is looked at again with the next scan.
    is_named || matches!(first_bytes(path), Ok(Some(bytes)) if has_header(bytes))
}

/// True if a file is what a process leaves that is killed while it creates a spool file.
pub(super) fn is_unfinished(path: &Path) -> io::Result<bool> {
    let length = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Before its first page, before its tables, or with them.
    if length == 0 {
        return Ok(true);
    }
    let known = [0_i64, APPLICATION].map(|application| application.to_be_bytes());
    Ok(first_bytes(path)?.is_some_and(|bytes| {
        let pages = length / u64::from(u16::from_be_bytes([bytes[16], bytes[17]])).max(512);
        let is_known = known.iter().any(|known| bytes[68..72] == known[4..]);
        let has_tables = bytes[68..72] != [0; 4];
        bytes.starts_with(b"SQLite format 3\0")
            && is_known
            && pages <= if has_tables { EMPTY_PAGES } else { 1 }
    }))
}

/// The header of an SQLite file; none if it is shorter, or something else than a file.
fn first_bytes(path: &Path) -> io::Result<Option<[u8; 100]>> {
    let mut bytes = [0; 100];
    // To open a pipe waits for its other end.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    match File::open(path)?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what a file is.
pub(super) fn header(conn: &mut SqliteConnection) -> Result<Header, StoreError> {
    let application = number(conn, "SELECT application_id AS number FROM pragma_application_id")?;
    let version = number(conn, "SELECT user_version AS number FROM pragma_user_version")?;
    if application == APPLICATION && version > VERSION {
        return Ok(Header::Newer(version));
    }
    let is_without_tables = number(conn, "SELECT count(*) AS number FROM sqlite_schema")? == 0;
    let pages = number(conn, "SELECT page_count AS number FROM pragma_page_count")?;
    if is_without_tables && pages == 1 && matches!(application, 0 | APPLICATION) {
        return Ok(Header::Unfinished);
    }
    if application != APPLICATION || version != VERSION {
        return Err(StoreError::Corrupt("it is not a spool file".to_owned()));
    }
    if let Some(target) = about(conn, "target")? {
        return Ok(Header::Target(target));
    }
    // Older versions created the tables first, then the target.
    if is_never_used(conn)? {
        return Ok(Header::Unfinished);
    }
    let damage = about(conn, "restored")?;
    Err(StoreError::Corrupt(damage.unwrap_or_else(|| {
        "it does not say which database it is for".to_owned()
    })))
}

/// What a file says about itself.
fn about(conn: &mut SqliteConnection, key: &str) -> Result<Option<String>, StoreError> {
    about::table
        .find(key)
        .select(about::value)
        .get_result(conn)
        .optional()
        .map_err(failed)
}

/// True if the tables never had a row: SQLite keeps the highest number that a batch ever had.
fn is_never_used(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    let rows = number(
        conn,
        "SELECT (SELECT count(*) FROM about) + (SELECT count(*) FROM batches) \
         + (SELECT count(*) FROM sqlite_sequence) AS number",
    )?;
    let pages = number(conn, "SELECT page_count AS number FROM pragma_page_count")?;
    Ok(rows == 0 && pages.unsigned_abs() <= EMPTY_PAGES)
}

/// Reads the whole file: proven damage is an error.
pub(super) fn check(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Check {
        #[diesel(sql_type = Text)]
        quick_check: String,
    }
    let check: Check = diesel::sql_query("PRAGMA quick_check(1)")
        .get_result(conn)
        .map_err(failed)?;
    judge(&check.quick_check)
}

/// What the first finding of `quick_check` means.
pub(super) fn judge(finding: &str) -> Result<(), StoreError> {
    match finding {
        "ok" => Ok(()),
        failure if names_other_error(failure) => {
            Err(StoreError::Transient(format!("SQLite cannot read it: {failure}")))
        }
        damage => Err(StoreError::Corrupt(format!("SQLite finds damage: {damage}"))),
    }
}

/// True if a text has a result code of SQLite that is not `SQLITE_CORRUPT`: `quick_check` reports an I/O error so
/// within its findings.
fn names_other_error(text: &str) -> bool {
    let codes = text.split("error code=").skip(1);
    let number = |code: &str| {
        let end = code
            .find(|char: char| !char.is_ascii_digit())
            .unwrap_or(code.len());
        code[..end].parse::<u64>().ok()
    };
    codes.filter_map(number).any(|code| code & 0xff != SQLITE_CORRUPT)
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
        verify_regular_files(path).map_err(|error| classify(&error))?;
        let in_use = Lock::is_held(path).map_err(|error| classify(&error))?;
        // Only a log that nobody writes at this moment can be judged.
        if !in_use && let Some(damage) = log_damage(path)? {
            return Err(StoreError::Corrupt(damage));
        }
        let mut conn = open_to_look(path)?;
        check(&mut conn)?;
        let (target, content) = match header(&mut conn)? {
            Header::Newer(version) => return Ok(Look::Newer(version)),
            Header::Unfinished => (
                String::new(),
                Content {
                    batches: 0,
                    bytes: 0,
                    entries: 0,
                },
            ),
            Header::Target(target) => (target, content(&mut conn)?),
        };
        Ok(Look::Whole(Glance {
            in_use,
            target,
            content,
        }))
    };
    look().unwrap_or_else(|error: StoreError| match error {
        StoreError::Corrupt(damage) => Look::Unreadable(match read_through(path) {
            Ok(()) => format!("it is damaged; the next writer or replay reads what can be read: {damage}"),
            Err(error) => format!("it cannot be read now: {error}"),
        }),
        other => Look::Unreadable(other.to_string()),
    })
}

/// Reads each byte of a file and of its log, unless this process uses it: to close it would end SQLite's locks.
fn read_through(path: &Path) -> io::Result<()> {
    if Lock::is_held(path)? {
        return Ok(());
    }
    Place::read_through_any(path)?;
    Place::read_through_any(&log_of(path))
}

/// Why the log of a file that nobody uses is damaged, if it is.
pub(super) fn log_damage(path: &Path) -> Result<Option<String>, StoreError> {
    wal::find_damage(&log_of(path)).map_err(|error| classify(&error))
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
