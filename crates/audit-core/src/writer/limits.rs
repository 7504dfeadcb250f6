//! The limits of the writer's core.

use std::time::Duration;

use crate::Size;

/// The most rows of one statement.
pub const MAX_BATCH_ROWS: usize = 1_000;

/// The most bytes of memory that the entries of one statement hold: 4 MiB.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// How long each thing may take and how many there may be. The defaults are the product's; the
/// simulation makes them small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A batch of this size is sent at once.
    pub batch: Size,
    /// How long an entry that nobody awaits may wait for others, and how often a busy writer looks for more.
    pub linger: Duration,
    /// How many looks at an empty queue come before the writer parks: an entry every few milliseconds is
    /// spared the cost of waking the thread.
    pub idle_polls: u32,
    /// How often a busy writer with a spool looks whether the queue fills.
    pub queue_poll: Duration,
    /// Appends that wait for the disk at a time: while two are synced together the next two are made.
    pub appends: usize,
    /// Batches with a copy in the spool that wait in memory for a lane; further ones wait in the spool alone.
    pub ready_batches: usize,
    /// Batches from the spool in memory at a time, at most one for each lane.
    pub replay_batches: usize,
    /// Batches that are tried in turn while the database accepts none for a permanent reason.
    pub misconfigured_batches: usize,
    /// How long a spool that failed is left alone.
    pub retry_spool_after: Duration,
    /// How often a writer that writes records that it is alive.
    pub alive_interval: Duration,
    /// How long declarations wait for entries to go with.
    pub declare_after: Duration,
    /// Ranges in one declaration: about 25 KiB.
    pub ranges_in_a_record: usize,
    /// How often something that goes on is reported again.
    pub notice_interval: Duration,
    /// How long callers that were just notified are expected back: somewhat more than it takes to wake a
    /// thread and write an entry.
    pub spin_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch: Size {
                entries: MAX_BATCH_ROWS,
                bytes: MAX_BATCH_BYTES,
            },
            linger: Duration::from_millis(1),
            idle_polls: 20,
            queue_poll: Duration::from_millis(10),
            appends: 4,
            ready_batches: 8,
            replay_batches: 2,
            misconfigured_batches: 4,
            retry_spool_after: Duration::from_secs(5),
            alive_interval: Duration::from_secs(300),
            declare_after: Duration::from_secs(1),
            ranges_in_a_record: 1_000,
            notice_interval: Duration::from_secs(60),
            spin_window: Duration::from_micros(50),
        }
    }
}
