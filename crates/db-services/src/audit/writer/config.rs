//! How is a writer set up and started?

use std::sync::Arc;
use std::time::Duration;

use super::queue::Weight;
use super::{AuditWriter, Shared, WriterGuard, worker};
use crate::audit::StartError;
use crate::audit::sink::{PostgresSink, SqliteSink};
use crate::client::{Database, Kind, writer_pool};

/// How strongly an entry is kept before it is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// In memory: a killed process loses what is queued.
    #[default]
    Memory,
}

/// Connections a writer holds to PostgreSQL. Two write up to twice what one does; more give no more.
const CONNECTIONS: usize = 2;

/// What a builder's queue holds unless told otherwise: 65,536 entries, 64 MiB.
const QUEUE: Weight = Weight { entries: 65_536, bytes: 64 << 20 };

/// Bytes allowed for each entry of a queue whose capacity was set: an ordinary entry holds less.
const BYTES_PER_ENTRY: usize = 2 << 10;

/// Sets up an [`AuditWriter`].
#[derive(Clone, Debug)]
pub struct AuditWriterBuilder {
    database: Database,
    durability: Durability,
    queue_capacity: usize,
    queue_bytes: Option<usize>,
    receipt_timeout: Duration,
    shutdown_timeout: Duration,
}

impl AuditWriterBuilder {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            durability: Durability::default(),
            queue_capacity: QUEUE.entries,
            queue_bytes: None,
            receipt_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// Sets how strongly entries are kept; [`Durability::Memory`] unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how many entries may wait; 65,536 unless set. Beyond it the newest are dropped.
    pub fn queue_capacity(mut self, entries: usize) -> Self {
        self.queue_capacity = entries;
        self
    }

    /// Sets how much memory the waiting entries may hold, in bytes. Unless set it is 64 MiB, or
    /// 2 KiB for each entry of [`queue_capacity`](Self::queue_capacity) if that is more.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Sets how long awaiting a receipt may take; 5 seconds unless set.
    pub fn receipt_timeout(mut self, timeout: Duration) -> Self {
        self.receipt_timeout = timeout;
        self
    }

    /// Sets how long dropping the guard may take to drain; 5 seconds unless set.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Starts the writer on a thread of its own. The database is not contacted before the first
    /// entry, and need not be reachable.
    ///
    /// # Errors
    /// When a bound is zero, or the operating system gives no thread.
    pub fn start(self) -> Result<(AuditWriter, WriterGuard), StartError> {
        let Self { database, durability: Durability::Memory, .. } = &self;
        let bytes = self.queue_bytes.unwrap_or_else(|| {
            QUEUE.bytes.max(if self.queue_capacity == QUEUE.entries {
                0
            } else {
                self.queue_capacity.saturating_mul(BYTES_PER_ENTRY)
            })
        });
        for (bound, name) in [(self.queue_capacity, "queue_capacity"), (bytes, "queue_bytes")] {
            if bound == 0 {
                return Err(StartError::ZeroBound(name));
            }
        }
        let shared = Arc::new(Shared::new(
            database.clone(),
            // The highest bit of the count is the queue's own.
            Weight { entries: self.queue_capacity.min(usize::MAX >> 2), bytes: bytes.min(usize::MAX >> 2) },
            self.receipt_timeout,
        ));
        match database.kind() {
            Kind::Postgres { config, .. } => {
                let pool = writer_pool(config, database, CONNECTIONS)?;
                let lanes = (0..CONNECTIONS).map(|_| PostgresSink::new(pool.clone())).collect();
                worker::start(Arc::clone(&shared), lanes)?;
            }
            Kind::Sqlite { location, .. } => {
                worker::start(Arc::clone(&shared), vec![SqliteSink::start(location.clone())?])?;
            }
        }
        let writer = AuditWriter { shared };
        Ok((writer.clone(), WriterGuard { writer, timeout: self.shutdown_timeout }))
    }
}
