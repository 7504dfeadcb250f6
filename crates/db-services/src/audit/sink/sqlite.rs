//! How does a batch reach SQLite?

use std::sync::mpsc;

use db_schema::NewAuditLog;
use diesel::SqliteConnection;
use diesel::result::Error;
use tokio::sync::oneshot;

use super::{Sink, SinkError};
use crate::audit::insert::{OnRepeat, sqlite_insert};
use crate::client::{SqliteLocation, describe, open_sqlite};

/// Rows to write, and where to say how that went.
type Job = (Vec<NewAuditLog>, oneshot::Sender<Result<(), SinkError>>);

/// Writes to SQLite on a thread of its own. diesel-async's wrapper is not used here: dropping one of
/// its futures blocks the runtime, or panics.
pub(crate) struct SqliteSink {
    jobs: mpsc::Sender<Job>,
}

impl SqliteSink {
    pub(crate) fn start(location: SqliteLocation) -> std::io::Result<Self> {
        let (jobs, incoming) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("audit-sqlite".to_owned()).spawn(move || {
            let mut open = None;
            for (rows, reply) in incoming {
                // Nobody waits for the answer of a writer that was shut down meanwhile.
                let _ = reply.send(write(&mut open, &location, &rows));
            }
        })?;
        Ok(Self { jobs })
    }
}

impl Sink for SqliteSink {
    async fn write(&mut self, rows: Vec<NewAuditLog>) -> Result<(), SinkError> {
        let gone = || SinkError("the SQLite thread ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.jobs.send((rows, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Writes a batch, on a new connection if there is none. SQLite's busy timeout bounds the wait for
/// other processes.
fn write(
    open: &mut Option<SqliteConnection>,
    location: &SqliteLocation,
    rows: &[NewAuditLog],
) -> Result<(), SinkError> {
    let mut conn = match open.take() {
        Some(conn) => conn,
        None => open_sqlite(location).map_err(|error| SinkError(describe(&error)))?,
    };
    let written = match sqlite_insert(&mut conn, rows, OnRepeat::Fail) {
        // The guard refuses a repeat as it refuses everything, so try again without the repeats.
        Err(Error::DatabaseError(..)) => sqlite_insert(&mut conn, rows, OnRepeat::Skip),
        other => other,
    };
    match written {
        Ok(_) => {
            *open = Some(conn);
            Ok(())
        }
        Err(error) => Err(SinkError(describe(&error))),
    }
}
