//! Inserts entries one by one, and tells an entry that the database rejects from a database that accepts none.

use std::sync::Arc;

use audit_core::writer::{SinkError, SinkErrorKind};
use db_schema::NewAuditLog;

use super::row::LogRow;
use super::sink::{Attempt, PostgresSink, Sink, SqliteSink};
use super::{AuditEntry, RetryPolicy, StartError};
use crate::client::{Database, Kind};

/// Why an entry was not inserted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertFailure {
    /// The database rejects this entry, and would accept another one.
    #[error("{0}")]
    Rejected(String),
    /// The database does not accept entries: it cannot be reached, its disk is full, it is read-only or locked, or the
    /// user lacks a right.
    #[error("{0}")]
    Unavailable(String),
}

/// Inserts single entries as a writer does, on a connection of its own.
///
/// Use it for what [`insert_many`](super::insert_many) did not accept. Whether an error is the entry's fault is decided
/// as a writer decides it before it quarantines a row (docs/decisions/0006-error-classification.md).
pub struct SingleInserter(Target);

enum Target {
    Postgres(Box<PostgresSink>),
    Sqlite(SqliteSink),
}

impl SingleInserter {
    /// Creates one. Connects at the first entry.
    ///
    /// # Errors
    /// When no thread can be started, which SQLite needs.
    pub fn start(database: &Database) -> Result<Self, StartError> {
        Ok(Self(match database.kind() {
            Kind::Postgres { route, .. } => {
                let limit = RetryPolicy::default().attempt_timeout;
                Target::Postgres(Box::new(PostgresSink::new((**route).clone(), limit)))
            }
            Kind::Sqlite { location, .. } => Target::Sqlite(SqliteSink::start(location.clone())?),
        }))
    }

    /// Inserts an entry. One that is stored already is a success. Takes at most
    /// [`attempt_timeout`](RetryPolicy::attempt_timeout) of the default policy.
    ///
    /// # Errors
    /// When it is not stored.
    ///
    /// # Cancel safety
    /// The entry may be stored.
    pub async fn insert(&mut self, entry: AuditEntry) -> Result<(), InsertFailure> {
        self.write(entry.into()).await.map_err(|error| match error.kind {
            SinkErrorKind::RowRejected => InsertFailure::Rejected(error.reason),
            _ => InsertFailure::Unavailable(error.reason),
        })
    }

    pub(super) async fn write(&mut self, row: NewAuditLog) -> Result<(), SinkError> {
        let rows = Arc::new(vec![LogRow(row)]);
        match &mut self.0 {
            Target::Postgres(sink) => sink.write(rows, Attempt::Retry).await.map(drop),
            Target::Sqlite(sink) => sink.write(rows, Attempt::Retry).await.map(drop),
        }
    }
}
