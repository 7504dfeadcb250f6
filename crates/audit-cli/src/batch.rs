//! Inserts entries in batches, and counts what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use audit_ops::{InsertFailure, OpsError, SingleInserter, session};
use chrono::Datelike;
use db_services::audit::{self, AuditEntry};
use db_services::client::{Connection, Database};
use indicatif::ProgressBar;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::CliError;
use crate::output;

/// Entries are sent in batches of this many, or fewer once their input has this many bytes.
const MAX_ENTRIES: usize = 1_000;
const MAX_BYTES: usize = 4 << 20;

/// How long an entry waits for others: a stream may be silent.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What became of the entries.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) written: u64,
    pub(crate) already_stored: u64,
    pub(crate) rejected: u64,
}

/// Inserts the entries of an input into a database.
pub(crate) struct BatchInserter {
    database: Database,
    conn: Connection,
    bar: ProgressBar,
    /// Entries that were not sent yet, each with its place in the input.
    batch: Vec<(String, AuditEntry)>,
    bytes: usize,
    /// When the batch is sent, however few they are.
    send_at: Instant,
    /// The months whose partitions were created, found or refused.
    months: BTreeSet<(i32, u32)>,
    /// Whether a partition was refused, which is reported once.
    lacks_partitions: bool,
    pub(crate) totals: Totals,
}

impl BatchInserter {
    pub(crate) fn new(database: Database, conn: Connection, bar: ProgressBar) -> Self {
        Self {
            database,
            conn,
            bar,
            batch: Vec::with_capacity(MAX_ENTRIES),
            bytes: 0,
            send_at: Instant::now(),
            months: BTreeSet::new(),
            lacks_partitions: false,
            totals: Totals::default(),
        }
    }

    /// Adds an entry that was read from this many bytes.
    pub(crate) fn push(&mut self, place: String, mut entry: AuditEntry, bytes: usize) {
        if self.batch.is_empty() {
            self.send_at = Instant::now() + MAX_WAIT;
        }
        // It may be sent twice: in its batch, and then alone.
        entry.id.get_or_insert_with(Uuid::now_v7);
        self.batch.push((place, entry));
        self.bytes += bytes;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.batch.len() >= MAX_ENTRIES || self.bytes >= MAX_BYTES
    }

    /// When the batch is to be sent at the latest; none if it is empty.
    pub(crate) fn send_at(&self) -> Option<Instant> {
        (!self.batch.is_empty()).then_some(self.send_at)
    }

    /// Reports input that is not written.
    pub(crate) fn reject(&mut self, place: &str, reason: &str) {
        self.totals.rejected += 1;
        self.note(&format!("{place}: {reason}"));
    }

    /// Prints a line to standard error, above the progress.
    pub(crate) fn note(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }

    /// Creates the partitions for the months of the batch, each tried once. Where that is refused, the default
    /// partition takes the events.
    pub(crate) async fn ensure_partitions(&mut self) {
        let times = self.batch.iter().map(|(_, entry)| entry.created_at);
        let months: BTreeMap<_, _> = times.map(|time| ((time.year(), time.month()), time)).collect();
        for (month, time) in months {
            if !self.months.insert(month) {
                continue;
            }
            let ensured = session::bounded(&mut self.conn, async |conn| {
                audit::ensure_partitions(conn, [time]).await
            });
            if let Err(error) = ensured.await
                && !std::mem::replace(&mut self.lacks_partitions, true)
            {
                let reason = crate::error::chain(&error);
                self.note(&format!(
                    "partitions could not be created, so the events of their months go to the default partition: {reason}"
                ));
            }
        }
    }

    /// Sends the batch. If that fails, sends each entry alone, so that only those are skipped that the database
    /// rejects.
    ///
    /// # Errors
    /// When the database does not accept any entry. Those that were not sent are not counted.
    pub(crate) async fn send(&mut self) -> Result<(), CliError> {
        let (places, entries): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        self.bytes = 0;
        match insert_all(&mut self.conn, &entries).await {
            Ok(inserted) => {
                self.count(inserted, entries.len());
                return Ok(());
            }
            Err(error) if is_wait(&error) => return Err(error.into()),
            Err(_) => {}
        }
        // The connection may be what failed.
        self.conn = session::connect(&self.database).await?;
        let mut alone = SingleInserter::start(&self.database)?;
        for (place, entry) in places.iter().zip(entries) {
            match insert_all(&mut self.conn, std::slice::from_ref(&entry)).await {
                Ok(inserted) => {
                    self.count(inserted, 1);
                    continue;
                }
                Err(error) if is_wait(&error) => return Err(error.into()),
                Err(_) => {}
            }
            match alone.insert(entry).await {
                Ok(()) => self.count(1, 1),
                Err(InsertFailure::Rejected(reason)) => self.reject(place, &reason),
                Err(InsertFailure::Unavailable(reason)) => {
                    let database = &self.database;
                    return Err(CliError::new(format!(
                        "{database} does not accept entries: {reason}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, inserted: usize, sent: usize) {
        self.totals.written += inserted as u64;
        self.totals.already_stored += (sent - inserted) as u64;
    }
}

/// Whether a wait came to its limit. The next entry would wait for as long.
fn is_wait(error: &OpsError) -> bool {
    matches!(
        error,
        OpsError::Locked { .. } | OpsError::LockedFile(_) | OpsError::Silent(_)
    )
}

/// Inserts all entries of a batch or, on an error, none, so that they are counted correctly when they are sent
/// again one by one. On SQLite a batch is one transaction anyway.
async fn insert_all(conn: &mut Connection, entries: &[AuditEntry]) -> Result<usize, OpsError> {
    session::bounded(conn, async |conn| match conn {
        Connection::Postgres(conn) => audit::insert_many(conn, entries).await,
        Connection::Sqlite(conn) => audit::insert_many(conn, entries).await,
    })
    .await
}
