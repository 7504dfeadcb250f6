//! Sets up and starts a writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit_core::{Loss, Size};

use super::shared::Shared;
use super::start::{self, Setup};
use super::{AuditWriter, OnLoss, RetryPolicy, WriterGuard};
use crate::audit::StartError;
use crate::audit::sink::{Sink, SqliteSink};
use crate::client::{Database, Kind};

/// How strongly an entry is kept before it is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// In memory: a killed process loses what is queued, an outage what does not fit the queue.
    #[default]
    Memory,
    /// In memory, and in a spool in this directory while the database does not take it: a killed
    /// process loses what is queued, an outage nothing that was accepted, while the disk has room and
    /// keeps up.
    Spill(PathBuf),
    /// In a spool in this directory first, synced: a killed process loses nothing whose receipt
    /// resolved, and neither does an outage. Receipts resolve at the sync or at the commit, whichever
    /// comes first.
    WriteAhead(PathBuf),
}

/// Connections a writer holds to PostgreSQL. Two write up to twice what one does; more give no more.
pub(super) const CONNECTIONS: usize = 2;

/// What a queue holds unless set: 65,536 entries, 64 MiB.
pub(super) const QUEUE_BOUND: Size = Size {
    entries: 65_536,
    bytes: 64 << 20,
};

/// Bytes allowed for each entry of a queue whose capacity was set: an ordinary entry holds less.
const BYTES_PER_ENTRY: usize = 2 << 10;

/// The limit of a spool file unless set: 1 GiB.
pub(super) const SPOOL_BYTES: u64 = 1 << 30;

/// How long awaiting a receipt may take unless set.
pub(super) const RECEIPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long dropping the guard may take unless set.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up an [`AuditWriter`].
#[derive(Clone)]
pub struct AuditWriterBuilder {
    target: Target,
    durability: Durability,
    queue_capacity: usize,
    queue_bytes: Option<usize>,
    spool_bytes: u64,
    retry: RetryPolicy,
    service: Option<String>,
    on_loss: Option<OnLoss>,
    receipt_timeout: Duration,
    shutdown_timeout: Duration,
}

/// Where the entries go.
#[derive(Clone, Debug)]
enum Target {
    Database(Database),
    #[cfg(feature = "testing")]
    Memory(crate::audit::testing::MemoryDatabase),
}

impl AuditWriterBuilder {
    pub(super) fn new(database: Database) -> Self {
        Self::to(Target::Database(database))
    }

    #[cfg(feature = "testing")]
    pub(in crate::audit) fn in_memory(database: crate::audit::testing::MemoryDatabase) -> Self {
        Self::to(Target::Memory(database))
    }

    fn to(target: Target) -> Self {
        Self {
            target,
            durability: Durability::default(),
            queue_capacity: QUEUE_BOUND.entries,
            queue_bytes: None,
            spool_bytes: SPOOL_BYTES,
            retry: RetryPolicy::default(),
            service: None,
            on_loss: None,
            receipt_timeout: RECEIPT_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
        }
    }

    /// Sets how strongly entries are kept; [`Durability::Memory`] unless set.
    ///
    /// A spool directory may be shared by several processes and kept from one start to the next: what
    /// a process left there is written by the next writer to the same database.
    ///
    /// A relative directory is that of the working directory at this call.
    pub fn durability(mut self, durability: Durability) -> Self {
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        self.durability = match durability {
            Durability::Memory => Durability::Memory,
            Durability::Spill(dir) => Durability::Spill(absolute(dir)),
            Durability::WriteAhead(dir) => Durability::WriteAhead(absolute(dir)),
        };
        self
    }

    /// Sets how many entries may be in memory, queued or on their way; 65,536 unless set, 67,108,863 at
    /// most. Beyond it the newest are dropped. With a spool, entries go there from half of it on.
    pub fn queue_capacity(mut self, entries: usize) -> Self {
        self.queue_capacity = entries;
        self
    }

    /// Sets how much memory those entries may hold, in bytes; 32 GiB at most. Unless set it is 64 MiB, or
    /// 2 KiB for each entry of [`queue_capacity`](Self::queue_capacity) if that is more.
    ///
    /// No entry is dropped for its size alone. One that takes more than a 64th of it is cut to its
    /// [`limits`](crate::audit::limits) before it is queued, on the caller's thread, to about 100 KiB at
    /// most; one that is beyond all of it even so is taken while no other is in memory.
    ///
    /// Batches in flight, connections and threads come on top: at most 16 MiB. So does what the
    /// allocator keeps of memory that was given back, which is the allocator's affair: the GNU C
    /// library keeps an arena for each of several threads (`MALLOC_ARENA_MAX`).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes of entries the spool file may hold; 1 GiB unless set. Once full, entries
    /// wait in memory.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Sets how a database is treated that does not take a batch.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the name under which the writer goes on record; that of the program's file unless set.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Sets what is called with every loss: entries that a full queue refused, or that were given up.
    /// Losses of one kind that follow each other come as one. Entries that come after the shutdown are
    /// told by their receipts alone: there is no thread to call from.
    ///
    /// It runs on the writer's thread, soon after the loss and at most ten times a second, and should return
    /// soon. It may write entries itself, and a panic of it is contained.
    pub fn on_loss(mut self, callback: impl Fn(&Loss) + Send + Sync + 'static) -> Self {
        self.on_loss = Some(Arc::new(callback));
        self
    }

    /// Sets how long awaiting a receipt may take; 5 seconds unless set. The writer's thread watches the time:
    /// a logger or a callback that blocks that thread delays it.
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
    /// entry, and does not have to be reachable. A spool is opened at once. Once something is written to
    /// PostgreSQL, upcoming partitions are created on a connection of its own, if the user may.
    ///
    /// # Errors
    /// When a bound is zero, the spool cannot be used, or the operating system gives no thread.
    pub fn start(self) -> Result<(AuditWriter, WriterGuard), StartError> {
        match self.target.clone() {
            Target::Database(database) => match database.kind() {
                Kind::Postgres { route, .. } => {
                    let lanes = start::postgres_sinks(route, self.retry.attempt_timeout);
                    self.start_on(Some(&database), lanes)
                }
                Kind::Sqlite { location, .. } => {
                    let lane = SqliteSink::start(location.clone())?;
                    self.start_on(Some(&database), vec![lane])
                }
            },
            #[cfg(feature = "testing")]
            Target::Memory(database) => self.start_on(None, vec![database.sink()]),
        }
    }

    fn start_on<S: Sink>(
        self,
        database: Option<&Database>,
        sinks: Vec<S>,
    ) -> Result<(AuditWriter, WriterGuard), StartError> {
        let bound = self.bound()?;
        let shared = Arc::new(Shared::new(bound, self.receipt_timeout));
        let (name, target) = match database {
            Some(database) => (database.to_string(), database.spool_target()),
            None => ("memory".to_owned(), "memory".to_owned()),
        };
        shared.set_database(name, database.cloned());
        let mut parts = start::parts(bound, target, &self.durability, self.spool_bytes, self.service)?;
        parts.retry = self.retry;
        parts.on_loss = self.on_loss;
        start::start(&shared, Setup { sinks, parts })?;
        let writer = AuditWriter::new(shared);
        Ok((writer.clone(), WriterGuard::new(writer, self.shutdown_timeout)))
    }

    fn bound(&self) -> Result<Size, StartError> {
        let bytes = self.queue_bytes.unwrap_or_else(|| {
            QUEUE_BOUND
                .bytes
                .max(if self.queue_capacity == QUEUE_BOUND.entries {
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
        Ok(Size {
            entries: self.queue_capacity,
            bytes,
        })
    }
}

impl std::fmt::Debug for AuditWriterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditWriterBuilder")
            .field("target", &self.target)
            .field("durability", &self.durability)
            .field("queue_capacity", &self.queue_capacity)
            .field("queue_bytes", &self.queue_bytes)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// The name of the program's file.
pub(super) fn program_name() -> String {
    let path = std::env::current_exe().ok();
    let stem = path.as_deref().and_then(Path::file_stem);
    stem.map_or_else(
        || "unknown".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}
