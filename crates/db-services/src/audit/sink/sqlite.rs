//! Writes batches to SQLite and classifies its errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;

use audit_core::writer::{Attempt, SinkError, SinkErrorKind, Written};
use diesel::SqliteConnection;
use diesel::result::{DatabaseErrorKind, Error};
use tokio::sync::oneshot;

use super::{KnownGoodRow, Rows, Sink, on_conflict};
use crate::audit::insert::{OnConflict, SKIPPED, sqlite_insert};
use crate::audit::panics::panicked;
use crate::audit::row::LogRow;
use crate::client::{SqliteLocation, describe, open_sqlite};
use crate::files::is_transient;

/// Rows to write, and where the result goes.
type Job = (Rows, Attempt, oneshot::Sender<Result<Written, SinkError>>);

/// Writes to SQLite on a thread of its own. diesel-async's wrapper is not used here: dropping one of
/// its futures blocks the runtime, or panics.
pub(crate) struct SqliteSink {
    jobs: mpsc::Sender<Job>,
}

impl SqliteSink {
    pub(crate) fn start(location: SqliteLocation) -> std::io::Result<Self> {
        let (jobs, incoming) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("audit-sqlite".to_owned())
            .spawn(move || {
                let mut file = File {
                    location,
                    open: None,
                    known_good: KnownGoodRow::default(),
                };
                for (rows, attempt, reply) in incoming {
                    // diesel calls code of the application: its instrumentation. After a panic in it the next
                    // batch gets a new connection.
                    let written = catch_unwind(AssertUnwindSafe(|| file.write(&rows, attempt)));
                    let written = written.unwrap_or_else(|payload| Err(panicked(payload)));
                    // A writer that was shut down meanwhile does not wait for the answer.
                    let _ = reply.send(written);
                }
            })?;
        Ok(Self { jobs })
    }
}

impl Sink for SqliteSink {
    async fn write(&mut self, rows: Rows, attempt: Attempt) -> Result<Written, SinkError> {
        let gone = || sink_error(SinkErrorKind::Transient, "the SQLite thread ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.jobs.send((rows, attempt, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct File {
    location: SqliteLocation,
    open: Option<SqliteConnection>,
    known_good: KnownGoodRow,
}

impl File {
    /// Writes a batch, on a new connection if there is none. SQLite's busy timeout bounds the wait
    /// for other processes.
    fn write(&mut self, rows: &[LogRow], attempt: Attempt) -> Result<Written, SinkError> {
        let mut conn = match self.open.take() {
            Some(conn) => conn,
            None => open_sqlite(&self.location).map_err(|error| {
                // No row was sent yet: what does not pass by itself is a mistake in the configuration.
                let message = describe(&error);
                let is_transient = passes_by_itself(&message);
                let kind = if is_transient {
                    SinkErrorKind::Transient
                } else {
                    SinkErrorKind::Misconfigured
                };
                self.sink_error(kind, message)
            })?,
        };
        let on_conflict = on_conflict(attempt);
        let inserted = match sqlite_insert(&mut conn, rows, on_conflict) {
            // The guard rejects a stored row as it rejects everything, so look stored rows up first.
            Err(Error::DatabaseError(kind, _))
                if is_constraint(&kind) && on_conflict == OnConflict::Error =>
            {
                sqlite_insert(&mut conn, rows, OnConflict::DoNothing)
            }
            other => other,
        };
        match inserted {
            Ok(inserted) => {
                if inserted.duplicates.is_empty() {
                    self.known_good.remember(rows);
                }
                self.open = Some(conn);
                Ok(Written {
                    duplicates: inserted.duplicates,
                })
            }
            Err(error) => {
                let kind = classify(&mut conn, &error, &self.known_good, rows);
                Err(self.sink_error(kind, describe(&error)))
            }
        }
    }

    fn sink_error(&self, kind: SinkErrorKind, message: String) -> SinkError {
        match lack_of_resources(&self.location) {
            Some(error) if kind == SinkErrorKind::Misconfigured => sink_error(
                SinkErrorKind::Transient,
                format!("this process cannot open a file now: {error}"),
            ),
            _ => sink_error(kind, message),
        }
    }
}

/// A unique key, or a trigger's RAISE, which diesel does not name.
fn is_constraint(kind: &DatabaseErrorKind) -> bool {
    matches!(
        kind,
        DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::Unknown
    )
}

/// True if a row has a value that another row of `audit_logs` has: the table accepts rows.
fn violates_own_index(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, information)
        if information.message().starts_with("UNIQUE constraint failed: audit_logs."))
}

/// Classifies by SQLite's own message what is transient (compiled in, in one language; diesel does not pass
/// its codes on); everything else by an experiment, whether the database accepts another row. A full disk
/// cannot be found by experiment: a transaction that is rolled back writes nothing.
fn classify(
    conn: &mut SqliteConnection,
    error: &Error,
    known_good: &KnownGoodRow,
    rows: &[LogRow],
) -> SinkErrorKind {
    let Error::DatabaseError(_, information) = error else {
        return SinkErrorKind::Transient;
    };
    if passes_by_itself(information.message()) {
        return SinkErrorKind::Transient;
    }
    if violates_own_index(error) {
        return SinkErrorKind::RowRejected;
    }
    for row in known_good.probe_rows(rows) {
        let mut inserted = Err(Error::NotFound);
        let rolled_back = conn.immediate_transaction(|conn| {
            inserted = sqlite_insert(conn, std::slice::from_ref(&row), OnConflict::Error);
            Err::<(), _>(Error::RollbackTransaction)
        });
        match (rolled_back, inserted) {
            (Err(Error::RollbackTransaction), Ok(_)) => return SinkErrorKind::RowRejected,
            (Err(Error::RollbackTransaction), Err(error)) if violates_own_index(&error) => {
                return SinkErrorKind::RowRejected;
            }
            (Err(Error::RollbackTransaction), Err(_)) => {}
            _ => return SinkErrorKind::Transient,
        }
    }
    SinkErrorKind::Misconfigured
}

/// SQLite's messages for SQLITE_BUSY, LOCKED, FULL, IOERR, NOMEM, PROTOCOL and INTERRUPT.
fn passes_by_itself(message: &str) -> bool {
    [
        "database is locked",
        "database table is locked",
        "database schema is locked",
        "database or disk is full",
        "disk I/O error",
        "out of memory",
        "locking protocol",
        "interrupted",
    ]
    .iter()
    .any(|known| message.starts_with(known))
}

/// Returns the error if this process cannot open any file now. SQLite's message is that of a missing
/// directory. Tried with the directory: to close the file itself would drop this process's locks on it.
fn lack_of_resources(location: &SqliteLocation) -> Option<std::io::Error> {
    let SqliteLocation::File(path) = location else {
        return None;
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let error = std::fs::File::open(directory.unwrap_or(Path::new("."))).err()?;
    is_transient(&error).then_some(error)
}

/// SQLite's messages for SQLITE_READONLY, CANTOPEN, CORRUPT and NOTADB.
fn is_of_the_file(message: &str) -> bool {
    [
        "attempt to write a readonly database",
        "unable to open database file",
    ]
    .iter()
    .any(|known| message.starts_with(known))
        || is_damaged(message)
}

fn is_damaged(message: &str) -> bool {
    message.starts_with("database disk image is malformed") || message.starts_with("file is not a database")
}

fn sink_error(kind: SinkErrorKind, message: String) -> SinkError {
    let reason = match hint(kind, &message) {
        Some(hint) => format!("{message} ({hint})"),
        None => message,
    };
    SinkError {
        kind,
        reason,
        sqlstate: None,
    }
}

/// What to do about an error, where that is known.
fn hint(kind: SinkErrorKind, message: &str) -> Option<&'static str> {
    if message.starts_with("database or disk is full") {
        return Some("free space on the disk");
    }
    if message.starts_with("disk I/O error") {
        return Some("see whether the disk is full, or damaged");
    }
    if message.starts_with("database is locked") {
        return Some("another process held the file for more than 5 seconds");
    }
    if is_damaged(message) {
        return Some("keep a copy of the file, then restore a backup, or recover it with sqlite3's .recover");
    }
    match kind {
        // Opening it says so itself where it can.
        _ if message.contains("may it be written to?") => None,
        _ if is_of_the_file(message) => Some("make the file and its directory writable for this user"),
        _ if message.starts_with(SKIPPED) => None,
        SinkErrorKind::Misconfigured => Some("run the migrations: `auditlog migrate`"),
        SinkErrorKind::Transient | SinkErrorKind::RowRejected => None,
    }
}
