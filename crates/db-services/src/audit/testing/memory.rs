//! A database in memory that fails on demand.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use db_schema::NewAuditLog;
use uuid::Uuid;

use crate::audit::AuditWriterBuilder;
use audit_core::writer::SinkErrorKind;

use crate::audit::sink::{Attempt, Rows, Sink, SinkError, Written};

/// A database in memory, for tests of what an application does with its writer. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryDatabase {
    inner: Arc<Mutex<Inner>>,
}

/// The primary key of a row.
type Key = (Uuid, DateTime<Utc>);

#[derive(Default)]
struct Inner {
    rows: Vec<NewAuditLog>,
    /// The index of each row, by its key.
    stored: HashMap<Key, usize>,
    failure: Option<Failure>,
    attempts: u64,
}

/// How a [`MemoryDatabase`] fails.
#[derive(Clone)]
#[non_exhaustive]
pub enum Failure {
    /// It cannot be reached: batches are retried until [`MemoryDatabase::recover`].
    Unreachable,
    /// It stores each batch, and the answer is lost: a retry finds all rows stored.
    AnswerLost,
    /// Its table is missing.
    NotSetUp,
    /// It rejects the entries for which this is true, unless they are stored, and accepts the others.
    Refuses(Arc<dyn Fn(&NewAuditLog) -> bool + Send + Sync>),
}

impl MemoryDatabase {
    /// Creates an empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the builder of a writer to it.
    pub fn writer(&self) -> AuditWriterBuilder {
        AuditWriterBuilder::in_memory(self.clone())
    }

    /// Fails in this way from now on.
    pub fn fail(&self, failure: Failure) {
        self.lock().failure = Some(failure);
    }

    /// Works again.
    pub fn recover(&self) {
        self.lock().failure = None;
    }

    /// Returns the stored entries, in the order of their sequence numbers in their writers, without the
    /// writers' own records.
    pub fn entries(&self) -> Vec<NewAuditLog> {
        let mut entries: Vec<_> = self
            .lock()
            .rows
            .iter()
            .filter(|row| row.writer_seq.is_some())
            .cloned()
            .collect();
        entries.sort_by_key(|row| (row.writer_id, row.writer_seq));
        entries
    }

    /// Returns all rows in the order in which they were stored.
    pub fn rows(&self) -> Vec<NewAuditLog> {
        self.lock().rows.clone()
    }

    /// The number of batches that were sent, accepted or not.
    pub fn attempts(&self) -> u64 {
        self.lock().attempts
    }

    pub(in crate::audit) fn sink(&self) -> MemorySink {
        MemorySink(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDatabase")
            .field("rows", &self.lock().rows.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "Unreachable",
            Self::AnswerLost => "AnswerLost",
            Self::NotSetUp => "NotSetUp",
            Self::Refuses(_) => "Refuses",
        })
    }
}

/// Writes to memory.
pub(in crate::audit) struct MemorySink(MemoryDatabase);

impl Sink for MemorySink {
    async fn write(&mut self, rows: Rows, _: Attempt) -> Result<Written, SinkError> {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        inner.attempts += 1;
        let fail = |kind, reason: &str| {
            Err(SinkError {
                kind,
                reason: reason.to_owned(),
                sqlstate: None,
            })
        };
        match &inner.failure {
            Some(Failure::Unreachable) => {
                return fail(SinkErrorKind::Transient, "unreachable, as the test asked");
            }
            Some(Failure::NotSetUp) => {
                return fail(SinkErrorKind::Misconfigured, "no table, as the test asked");
            }
            Some(Failure::Refuses(refused))
                if rows
                    .iter()
                    .any(|row| !inner.stored.contains_key(&(row.id, row.created_at)) && refused(row)) =>
            {
                return fail(SinkErrorKind::RowRejected, "refused, as the test asked");
            }
            _ => {}
        }
        let mut written = Written::default();
        for (index, row) in rows.iter().enumerate() {
            match inner.stored.entry((row.id, row.created_at)) {
                Entry::Vacant(entry) => {
                    entry.insert(inner.rows.len());
                    inner.rows.push((**row).clone());
                }
                // A stored row is not changed.
                Entry::Occupied(entry) => {
                    let stored = &inner.rows[*entry.get()];
                    if (stored.writer_id, stored.writer_seq) != (row.writer_id, row.writer_seq) {
                        written.duplicates.push(index);
                    }
                }
            }
        }
        match &inner.failure {
            Some(Failure::AnswerLost) => fail(SinkErrorKind::Transient, "answer lost, as the test asked"),
            _ => Ok(written),
        }
    }
}
