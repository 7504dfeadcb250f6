//! How does a batch reach one kind of database?

mod postgres;
mod sqlite;

use db_schema::NewAuditLog;

pub(super) use postgres::PostgresSink;
pub(super) use sqlite::SqliteSink;

/// Where a writer's batches go. One batch at a time; a writer holds several for more.
pub(super) trait Sink: Send + 'static {
    /// Writes a batch as a whole: when this returns `Ok`, every row is committed. Bounded in time.
    /// The future is run to its end.
    fn write(&mut self, rows: Vec<NewAuditLog>) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SinkError(pub(super) String);
