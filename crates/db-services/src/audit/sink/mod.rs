//! Writes batches to one kind of database and classifies its errors.

mod partitions;
mod postgres;
mod probe;
mod sqlite;

pub(super) use audit_core::writer::{Attempt, SinkError, Written};

use super::insert::OnConflict;
use super::row::LogRow;
use partitions::PartitionCreator;
pub(super) use postgres::PostgresSink;
use probe::KnownGoodRow;
pub(super) use sqlite::SqliteSink;

/// The rows of a batch.
pub(super) type Rows = audit_core::Rows<LogRow>;

/// Where a writer's batches go. One batch at a time; a writer has several for more.
pub(super) trait Sink: Send + 'static {
    /// Writes a batch. `Ok` says that every row is stored and its transaction committed, whether by this
    /// attempt, by an earlier one, or under the number of another entry ([`Written::duplicates`]). After an
    /// error some rows, or all, may be stored. Bounded in time. The future is run to its end.
    fn write(
        &mut self,
        rows: Rows,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Written, SinkError>> + Send;
}

/// How the first statement of an attempt treats rows that are stored already.
fn on_conflict(attempt: Attempt) -> OnConflict {
    match attempt {
        // The cheaper statement: only a row that was sent before can be stored.
        Attempt::First => OnConflict::Error,
        Attempt::Retry => OnConflict::DoNothing,
    }
}

#[cfg(test)]
mod classify_tests;
#[cfg(test)]
mod column_tests;
#[cfg(test)]
mod stored_tests;
#[cfg(test)]
mod test_database;
