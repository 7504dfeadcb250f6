//! Writes batches to one kind of database and classifies its errors.
//!
//! # Writing a sink
//!
//! `MemorySink` in `testing/memory.rs` is the shortest one. A sink starts in `writer/builder.rs`, as a variant of
//! `Target`; a sink that can be read too is a `Kind` of the client instead. The contract is that of [`Sink`]:
//! - A batch may be sent again after an error or a lost answer ([`Attempt::Retry`]). A row is identified by
//!   `(id, created_at)`: what is stored already is a success.
//! - Each attempt is bounded in time by the sink itself. The lanes never cancel it.
//! - [`SinkErrorKind`](audit_core::writer::SinkErrorKind) decides what happens: a transient or misconfigured error
//!   keeps the batch, a rejected row halves it until the row is alone, and then quarantines it. Report a rejected
//!   row only if another row would be accepted now (docs/decisions/0006-error-classification.md).
//! - [`Written::duplicates`] are the rows that are stored under another number. Leave it empty if that cannot be
//!   known: `verify writers` then counts such a number as missing.
//! - The name of the target goes into the spool files: two targets must not share one.

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
