//! Opens SQLite databases: for writing, or without changing the file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, ConnectionResult, QueryResult, SqliteConnection};

use crate::files::sqlite_uri;

/// Where an SQLite database is.
#[derive(Clone, Debug)]
pub(crate) enum SqliteLocation {
    File(PathBuf),
    /// A file that is not changed.
    ReadOnly(PathBuf),
    /// A private shared in-memory database, under this URI.
    Memory(String),
}

/// The longest wait for a lock of another process.
const BUSY: &str = "PRAGMA busy_timeout = 5000";

/// The longest wait for other processes that use the file for the first time.
const FIRST_USE: Duration = Duration::from_secs(5);

/// The write-ahead log lets readers and the writer work side by side. FULL syncs it at each commit, so that
/// the commit survives a power cut. `recursive_triggers` makes REPLACE ask the DELETE trigger too.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA recursive_triggers = ON;";

const REMEDY: &str = "does its directory exist, and may it be written to?";

/// Opens an SQLite database. A [`SqliteLocation::File`] that does not exist is created, for its owner alone
/// and not through a link.
pub(crate) fn open_sqlite(location: &SqliteLocation) -> ConnectionResult<SqliteConnection> {
    let name = match location {
        SqliteLocation::ReadOnly(path) => return open_read_only(path),
        SqliteLocation::Memory(uri) => uri.clone(),
        SqliteLocation::File(path) if is_dangling(path) => {
            return Err(ConnectionError::BadConnection(format!(
                "{} is a symbolic link to a file that does not exist: create the database at its own path, or remove \
                 the link",
                path.display()
            )));
        }
        SqliteLocation::File(path) => {
            // With mode 0600, which SQLite gives to its `-wal` and `-shm` too. SQLite would create it for all to read.
            crate::files::create_empty(path).map_err(|error| {
                ConnectionError::BadConnection(format!("unable to open database file: {error} ({REMEDY})"))
            })?;
            sqlite_uri(path, "mode=rwc")
        }
    };
    let mut connection = SqliteConnection::establish(&name).map_err(|error| match error {
        ConnectionError::BadConnection(detail) => {
            ConnectionError::BadConnection(format!("{detail} ({REMEDY})"))
        }
        other => other,
    })?;
    set_up(&mut connection).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// True of a link whose target does not exist. SQLite would create the target, wherever it is, and others could read it.
fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn set_up(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(BUSY)?;
    use_wal(connection)?;
    connection.batch_execute(SETTINGS)
}

/// Switches to the write-ahead log. SQLite does not wait for other processes that do so at the same time.
fn use_wal(connection: &mut SqliteConnection) -> QueryResult<()> {
    let deadline = Instant::now() + FIRST_USE;
    loop {
        match connection.batch_execute("PRAGMA journal_mode = WAL") {
            Err(error) if error.to_string().contains("locked") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Opens a file without changing it. Where the directory cannot be written to and no process has the file
/// open, SQLite reads a database with a write-ahead log only as immutable, that is without locks.
pub(super) fn open_read_only(path: &Path) -> ConnectionResult<SqliteConnection> {
    let error = match open_uri(path, "mode=ro") {
        Err(error) if needs_to_write(&error) && is_unwritable(path.parent()) => error,
        done => return done,
    };
    match unmerged(path) {
        None => open_uri(path, "mode=ro&immutable=1"),
        Some(log) => Err(ConnectionError::BadConnection(format!(
            "{error} ({} has changes that are not in the file yet, and they cannot be read where this user may \
             not write: copy both files to another directory, and open the copy)",
            log.display()
        ))),
    }
}

fn open_uri(path: &Path, options: &str) -> ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(&sqlite_uri(path, options))?;
    // SQLite opens the file and its log at the first statement that reads.
    connection
        .batch_execute(&format!("{BUSY}; SELECT 1 FROM sqlite_schema LIMIT 1"))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// True for SQLite's texts about a file that it could create or write only: compiled in, in one language;
/// diesel does not pass the codes on.
fn needs_to_write(error: &ConnectionError) -> bool {
    let text = error.to_string();
    text.contains("unable to open database file") || text.contains("readonly database")
}

/// True if no file can be created in a directory. A process without free descriptors gets the same text from SQLite,
/// and an immutable connection would then show old rows for as long as it is in the pool.
fn is_unwritable(dir: Option<&Path>) -> bool {
    let probe = dir
        .unwrap_or(Path::new(""))
        .join(format!(".{}", uuid::Uuid::new_v4().simple()));
    match crate::files::create_private(&probe) {
        Ok(_) => {
            let _ = std::fs::remove_file(&probe);
            false
        }
        Err(error) => matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
        ),
    }
}

/// The file's log, if it may have changes that are not in the file.
fn unmerged(path: &Path) -> Option<PathBuf> {
    ["-wal", "-journal"].into_iter().find_map(|suffix| {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        match std::fs::metadata(&log) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Ok(metadata) if metadata.len() == 0 => None,
            _ => Some(log.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_database_is_opened_and_not_created_through_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link.db"), dir.path().join("target.db"));
        symlink(&target, &link).unwrap();
        let Err(error) = open_sqlite(&SqliteLocation::File(link.clone())) else {
            panic!("created through a link")
        };
        assert!(
            error
                .to_string()
                .contains("a symbolic link to a file that does not exist"),
            "{error}"
        );
        assert!(!target.exists());
        open_sqlite(&SqliteLocation::File(target.clone())).unwrap();
        open_sqlite(&SqliteLocation::File(link)).unwrap();
        let mode = target.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Two directories whose names look the same where the replacement character is shown for other bytes.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_database_in_a_directory_whose_name_is_not_utf_8_is_no_other_one() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &[u8]| {
            dir.path()
                .join(std::ffi::OsStr::from_bytes(name))
                .join("a?%23 b.db")
        };
        let (given, other) = (path(b"d\xffdir"), path("d\u{FFFD}dir".as_bytes()));
        for path in [&given, &other] {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
        }
        let mut conn = open_sqlite(&SqliteLocation::File(given.clone())).unwrap();
        conn.batch_execute("CREATE TABLE only_here (a)").unwrap();
        let table = "SELECT a FROM only_here";
        open_read_only(&given).unwrap().batch_execute(table).unwrap();
        assert!(open_read_only(&other).is_err(), "the file does not exist");
        let mut conn = open_sqlite(&SqliteLocation::File(other.clone())).unwrap();
        assert!(conn.batch_execute(table).is_err(), "it is another database");
        let (given, other) = (
            crate::client::spool_name(&given),
            crate::client::spool_name(&other),
        );
        assert_ne!(given, other);
    }

    /// 255 bytes is the longest name of a file, and SQLite appends `-journal` to that of a database.
    #[cfg(unix)]
    #[test]
    fn a_new_database_with_the_longest_name_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for length in [200, 228, 247] {
            let path = dir.path().join("d".repeat(length));
            open_sqlite(&SqliteLocation::File(path.clone())).unwrap();
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{length}");
        }
        let Err(error) = open_sqlite(&SqliteLocation::File(dir.path().join("d".repeat(256)))) else {
            panic!("opened under another name")
        };
        assert!(error.to_string().contains("too long"), "{error}");
        let Err(error) = open_sqlite(&SqliteLocation::File(dir.path().join("absent").join("audit.db")))
        else {
            panic!("created in a directory that does not exist")
        };
        assert!(error.to_string().contains(REMEDY), "{error}");
    }

    /// Without the repetition about one of thirty fails.
    #[test]
    fn a_new_file_may_be_opened_many_times_at_the_same_moment() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..60 {
            let (path, start) = (dir.path().join(round.to_string()), Arc::new(Barrier::new(8)));
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let (path, start) = (path.clone(), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        open_sqlite(&SqliteLocation::File(path)).map(drop)
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        }
    }
}
