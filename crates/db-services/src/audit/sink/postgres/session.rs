//! A connection to PostgreSQL with its prepared statements: inserts a batch, and finds out which of its rows
//! are stored where a statement has not inserted all of them.

use std::collections::HashMap;
use std::time::Duration;

use audit_core::writer::{Attempt, SinkError, SinkErrorKind, Written};
use db_schema::NewAuditLog;
use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::super::{KnownGoodRow, on_conflict};
use super::classify::{
    connect_error, is_prepared_statement_lost, is_transient, lacks_partition, prepare_error, sink_error,
};
use super::within;
use crate::audit::insert::{
    OnConflict, PreparedInsert, SKIPPED, StoredAs, UniqueIndex, look_up, violated_index,
};
use crate::audit::row::LogRow;
use crate::client::{Route, connect_writer, sync_commits};

pub(super) struct Session {
    client: Client,
    insert: PreparedInsert,
}

/// Why a batch is not stored as a whole.
#[derive(Debug)]
pub(super) enum Failure {
    /// A statement failed.
    Database(Error),
    /// A statement succeeded and a row is not stored: a trigger or a rule skipped it.
    Skipped,
}

impl Failure {
    /// True if the session had ended: by the server's administrator, its idle time-out, or without a word.
    pub(super) fn is_closed(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::IDLE_SESSION_TIMEOUT];
        error.is_closed() || error.code().is_some_and(|code| ends.contains(code))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl Session {
    /// Connects, with at most `limit` for each address, and prepares the statements, with at most `limit`.
    pub(super) async fn open(route: &Route, limit: Duration) -> Result<Self, SinkError> {
        let client = connect_writer(route, limit)
            .await
            .map_err(|error| connect_error(&error))?;
        let prepare = async {
            sync_commits(&client).await?;
            PreparedInsert::new(&client).await
        };
        let insert = within(limit, prepare)
            .await?
            .map_err(|error| prepare_error(&error))?;
        Ok(Self { client, insert })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Writes a batch; `Ok` means that every row is stored.
    pub(super) async fn write(&mut self, rows: &[LogRow], attempt: Attempt) -> Result<Written, Failure> {
        let mut on_conflict = on_conflict(attempt);
        let mut has_partitions = false;
        let inserted = loop {
            match self.insert.run(&self.client, rows, on_conflict).await {
                Err(error)
                    if on_conflict == OnConflict::Error
                        && error.code() == Some(&SqlState::UNIQUE_VIOLATION) =>
                {
                    // Insert what can be inserted. Whether the others are stored is looked up.
                    on_conflict = OnConflict::DoNothing;
                }
                // No default partition, and none for its month: create it. Or its partition was created
                // while the statement waited for the default partition.
                Err(error) if !has_partitions && lacks_partition(&error) => {
                    self.create_partitions(rows).await;
                    has_partitions = true;
                }
                result => break result?,
            }
        };
        if inserted == rows.len() as u64 {
            return Ok(Written::default());
        }
        self.find_stored(rows).await
    }

    /// Creates the missing partitions of these rows, if this user may.
    async fn create_partitions(&self, rows: &[LogRow]) {
        let mut months: Vec<_> = rows.iter().map(|row| row.created_at).collect();
        months.sort_unstable();
        months.dedup_by_key(|time| time.format("%Y-%m").to_string());
        for month in months {
            // Whether it helped, the next attempt shows.
            let _ = self
                .client
                .query_one("SELECT audit_logs_ensure_partitions($1, $1)", &[&month])
                .await;
        }
    }

    /// Finds out which rows are stored, after a statement that has not inserted all of them, and stores
    /// those that are not.
    async fn find_stored(&self, rows: &[LogRow]) -> Result<Written, Failure> {
        let Some(stored) = look_up(&self.client, rows).await? else {
            self.insert_each(rows).await?;
            return Ok(Written {
                duplicates: repeated(rows),
            });
        };
        let absent = rows
            .iter()
            .zip(&stored)
            .filter(|(_, stored)| stored.is_none())
            .map(|(row, _)| row);
        self.insert_each(absent).await?;
        let is_duplicate = |index: &usize| stored[*index] == Some(StoredAs::AnotherNumber);
        Ok(Written {
            duplicates: (0..rows.len()).filter(is_duplicate).collect(),
        })
    }

    /// Inserts each row alone, which needs no right to look it up: the primary key rejects a row that is
    /// stored, and a row that is neither inserted nor rejected was skipped. The statements are sent
    /// together, so that the time does not grow with the distance to the server.
    async fn insert_each<'a>(&self, rows: impl IntoIterator<Item = &'a LogRow>) -> Result<(), Failure> {
        let inserts = rows.into_iter().map(|row| self.insert.run_one(&self.client, row));
        let mut indexes = HashMap::new();
        for result in join_all(inserts).await {
            match result {
                Ok(1) => {}
                Ok(_) => return Err(Failure::Skipped),
                Err(error) => {
                    let name = error
                        .as_db_error()
                        .and_then(|server| server.constraint())
                        .map(str::to_owned);
                    let index = match indexes.get(&name) {
                        Some(index) => *index,
                        None => violated_index(&self.client, &error).await?,
                    };
                    if index != Some(UniqueIndex::PrimaryKey) {
                        return Err(error.into());
                    }
                    indexes.insert(name, index);
                }
            }
        }
        Ok(())
    }

    /// Classifies by the SQLSTATE what is plainly transient; everything else by an experiment, whether the
    /// database accepts another row.
    pub(super) async fn classify(
        &mut self,
        failure: Failure,
        known_good: &KnownGoodRow,
        rows: &[LogRow],
    ) -> SinkError {
        let error = match failure {
            Failure::Database(error) => error,
            Failure::Skipped => {
                let kind = self.accepts_any(known_good.probe_rows(rows)).await;
                return SinkError {
                    kind,
                    reason: SKIPPED.to_owned(),
                    sqlstate: None,
                };
            }
        };
        let kind = match error.code() {
            None => SinkErrorKind::Transient,
            Some(code) if is_transient(code) => SinkErrorKind::Transient,
            // An experiment could meet the connection that does have the statement, and blame the row.
            Some(code) if is_prepared_statement_lost(code) => SinkErrorKind::Misconfigured,
            Some(_) => match violated_index(&self.client, &error).await {
                // The row has a value that another row has: the table accepts rows.
                Ok(Some(UniqueIndex::PrimaryKey | UniqueIndex::Other)) => SinkErrorKind::RowRejected,
                _ => self.accepts_any(known_good.probe_rows(rows)).await,
            },
        };
        sink_error(kind, &error)
    }

    /// Tries rows that ought to be accepted, each in a transaction that is rolled back.
    async fn accepts_any(&mut self, probe_rows: Vec<NewAuditLog>) -> SinkErrorKind {
        for row in probe_rows {
            match self.accepts(&row).await {
                Ok(true) => return SinkErrorKind::RowRejected,
                Err(error) if error.code().is_none_or(is_transient) => return SinkErrorKind::Transient,
                Ok(false) | Err(_) => {}
            }
        }
        SinkErrorKind::Misconfigured
    }

    async fn accepts(&self, row: &NewAuditLog) -> Result<bool, Error> {
        self.client.batch_execute("BEGIN").await?;
        let inserted = self.insert.run_one(&self.client, row).await;
        self.client.batch_execute("ROLLBACK").await?;
        match inserted {
            Ok(inserted) => Ok(inserted == 1),
            // As in `classify`: its copy in the table was accepted.
            Err(error) => match violated_index(&self.client, &error).await? {
                Some(UniqueIndex::PrimaryKey | UniqueIndex::Other) => Ok(true),
                Some(UniqueIndex::OtherTable) | None => Err(error),
            },
        }
    }
}

/// The rows whose id and time an earlier row of the batch has under another number, by their index: the
/// database inserts the first of them. All that can be known of numbers without a right to look them up.
fn repeated(rows: &[LogRow]) -> Vec<usize> {
    let mut first = HashMap::new();
    let is_repeated = |index: &usize| {
        let row = &rows[*index];
        let number = (row.writer_id, row.writer_seq);
        *first.entry((row.id, row.created_at)).or_insert(number) != number
    };
    (0..rows.len()).filter(is_repeated).collect()
}
