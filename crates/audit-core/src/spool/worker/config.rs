//! What a spool's worker is configured with.

use std::time::Duration;

use uuid::Uuid;

/// Adopted files that are open at the same time, by default. Each takes a few descriptors, and the
/// connections to the database need some as well.
const MAX_ADOPTED: usize = 4;

/// Files that are looked at in one go, by default: a directory may hold thousands of another database, and a
/// look takes half a millisecond.
const MAX_LOOKS: usize = 32;

/// What a spool's worker is configured with. The limits have defaults that fit a disk and a database; a
/// simulation makes them small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The database that the rows are for.
    pub target: String,
    /// The writer that uses the spool; none for a replay by command.
    pub writer: Option<Uuid>,
    /// True if files for other databases are adopted as well.
    pub any_target: bool,
    /// The most bytes that the writer's file may hold.
    pub limit_bytes: u64,
    /// How often the directory is searched for files to adopt.
    pub scan_interval: Duration,
    /// Adopted files that are open at the same time; the next one is adopted when one was removed. Those that
    /// are copied count apart.
    pub max_adopted: usize,
    /// Files that are looked at, whether they are to be adopted, before the next requests are answered.
    pub max_looks: usize,
    /// How long the worker waits for requests before it looks at more.
    pub look_pause: Duration,
    /// How long removals wait for an append to share its sync. Removals that a crash undoes are replayed,
    /// and found stored.
    pub removal_delay: Duration,
    /// How long the worker waits after an operation that failed for a passing reason.
    pub retry_delay: Duration,
    /// Removals that wait at most.
    pub max_pending_removals: usize,
    /// Bytes that share one sync, and are in memory for it, unless one batch is larger.
    pub max_group_bytes: u64,
    /// Rows that are read together.
    pub max_read_rows: u64,
    /// Bytes that are read together, unless one batch is larger.
    pub max_read_bytes: u64,
    /// Batches that are read together.
    pub max_read_batches: usize,
}

impl SpoolConfig {
    /// The defaults, for this database and limit.
    pub fn new(target: impl Into<String>, limit_bytes: u64) -> Self {
        Self {
            target: target.into(),
            writer: None,
            any_target: false,
            limit_bytes,
            scan_interval: Duration::from_secs(30),
            max_adopted: MAX_ADOPTED,
            max_looks: MAX_LOOKS,
            look_pause: Duration::from_millis(10),
            removal_delay: Duration::from_millis(100),
            retry_delay: Duration::from_secs(1),
            max_pending_removals: 500,
            max_group_bytes: 4 << 20,
            max_read_rows: 1_000,
            max_read_bytes: 4 << 20,
            max_read_batches: 250,
        }
    }
}
