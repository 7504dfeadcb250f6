//! How does a batch reach SQLite, and whose fault is it if it does not?

use std::sync::mpsc;

use db_schema::NewAuditLog;
use diesel::SqliteConnection;
use diesel::result::{DatabaseErrorKind, Error};
use tokio::sync::oneshot;

use super::{Fault, Known, OnRepeat, Rows, Sink, SinkError};
use crate::audit::insert::sqlite_insert;
use crate::client::{SqliteLocation, describe, open_sqlite};

/// Rows to write, and where to say how that went.
type Job = (Rows, OnRepeat, oneshot::Sender<Result<(), SinkError>>);

/// Writes to SQLite on a thread of its own. diesel-async's wrapper is not used here: dropping one of
/// its futures blocks the runtime, or panics.
pub(crate) struct SqliteSink {
    jobs: mpsc::Sender<Job>,
}

impl SqliteSink {
    pub(crate) fn start(location: SqliteLocation) -> std::io::Result<Self> {
        let (jobs, incoming) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("audit-sqlite".to_owned()).spawn(move || {
            let mut file = File { location, open: None, known: Known::default() };
            for (rows, on_repeat, reply) in incoming {
                // Nobody waits for the answer of a writer that was shut down meanwhile.
                let _ = reply.send(file.write(&rows, on_repeat));
            }
        })?;
        Ok(Self { jobs })
    }
}

impl Sink for SqliteSink {
    async fn write(&mut self, rows: Rows, on_repeat: OnRepeat) -> Result<(), SinkError> {
        let gone = || sink_error(Fault::Moment, "the SQLite thread ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.jobs.send((rows, on_repeat, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct File {
    location: SqliteLocation,
    open: Option<SqliteConnection>,
    known: Known,
}

impl File {
    /// Writes a batch, on a new connection if there is none. SQLite's busy timeout bounds the wait
    /// for other processes.
    fn write(&mut self, rows: &[NewAuditLog], on_repeat: OnRepeat) -> Result<(), SinkError> {
        let mut conn = match self.open.take() {
            Some(conn) => conn,
            None => open_sqlite(&self.location).map_err(|error| {
                let said = describe(&error);
                // No row was sent yet: what does not pass by itself is the set-up's fault.
                let fault = if passes_by_itself(&said) { Fault::Moment } else { Fault::SetUp };
                sink_error(fault, said)
            })?,
        };
        let written = match sqlite_insert(&mut conn, rows, on_repeat) {
            // The guard refuses a repeat as it refuses everything, so try again without the repeats.
            Err(Error::DatabaseError(kind, _)) if is_constraint(&kind) && on_repeat == OnRepeat::Fail => {
                sqlite_insert(&mut conn, rows, OnRepeat::Skip)
            }
            other => other,
        };
        match written {
            Ok(_) => {
                self.known.committed(rows);
                self.open = Some(conn);
                Ok(())
            }
            Err(error) => {
                let fault = find_fault(&mut conn, &error, &self.known, rows);
                Err(sink_error(fault, describe(&error)))
            }
        }
    }
}

/// A unique key, or a trigger's RAISE, which diesel does not name.
fn is_constraint(kind: &DatabaseErrorKind) -> bool {
    matches!(kind, DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::Unknown)
}

/// Tells by SQLite's own message what cannot be the row's fault (compiled in, in one language; its
/// codes do not pass diesel); of everything else by experiment whether the database takes another
/// row. A full disk cannot be found by experiment: a transaction that is rolled back writes nothing.
fn find_fault(conn: &mut SqliteConnection, error: &Error, known: &Known, rows: &[NewAuditLog]) -> Fault {
    let Error::DatabaseError(_, information) = error else { return Fault::Moment };
    if passes_by_itself(information.message()) {
        return Fault::Moment;
    }
    for row in known.candidates(rows) {
        let mut inserted = Ok(0);
        let rolled_back = conn.immediate_transaction(|conn| {
            inserted = sqlite_insert(conn, std::slice::from_ref(&row), OnRepeat::Fail);
            Err::<(), _>(Error::RollbackTransaction)
        });
        match (rolled_back, inserted) {
            (Err(Error::RollbackTransaction), Ok(_)) => return Fault::Row,
            (Err(Error::RollbackTransaction), Err(_)) => {}
            _ => return Fault::Moment,
        }
    }
    Fault::SetUp
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

/// SQLite's messages for SQLITE_READONLY, CANTOPEN, CORRUPT and NOTADB.
fn is_of_the_file(message: &str) -> bool {
    ["attempt to write a readonly database", "unable to open database file"]
        .iter()
        .any(|known| message.starts_with(known))
        || is_damaged(message)
}

fn is_damaged(message: &str) -> bool {
    message.starts_with("database disk image is malformed") || message.starts_with("file is not a database")
}

fn sink_error(fault: Fault, said: String) -> SinkError {
    let reason = match way_out(fault, &said) {
        Some(way_out) => format!("{said} ({way_out})"),
        None => said,
    };
    SinkError { fault, reason, sqlstate: None }
}

/// What to do about an error, where that is known.
fn way_out(fault: Fault, said: &str) -> Option<&'static str> {
    if said.starts_with("database or disk is full") {
        return Some("free space on the disk");
    }
    if said.starts_with("disk I/O error") {
        return Some("see whether the disk is full, or damaged");
    }
    if said.starts_with("database is locked") {
        return Some("another process held the file for more than 5 seconds");
    }
    if is_damaged(said) {
        return Some("keep a copy of the file, then restore a backup, or recover it with sqlite3's .recover");
    }
    match fault {
        // Opening it says so itself where it can.
        _ if said.contains("may it be written to?") => None,
        _ if is_of_the_file(said) => Some("make the file and its directory writable for this user"),
        Fault::SetUp => Some("run the migrations: `auditlog migrate`"),
        Fault::Moment | Fault::Row => None,
    }
}
