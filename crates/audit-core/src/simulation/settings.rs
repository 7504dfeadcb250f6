//! What a seed decides before its world begins: its limits, and how often each kind of fault happens.
//!
//! Each seed switches some kinds off altogether ("swarm testing"): a world with every fault at once never
//! gets far.

use std::time::Duration;

use super::random::Random;
use crate::spool::SpoolConfig;
use crate::writer::{Limits, RetryPolicy, SpoolMode};
use crate::{Size, Time};

/// How often something happens, in thousandths. Zero: never.
pub(super) type PerMille = u32;

/// What a seed decides before its world begins.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Places for a writer; one that ended is followed by another.
    pub(super) slots: usize,
    pub(super) lanes: usize,
    pub(super) spool: Option<SpoolMode>,
    pub(super) bound: Size,
    pub(super) limits: Limits,
    pub(super) retry: RetryPolicy,
    pub(super) spool_config: SpoolConfig,
    /// How long faults happen.
    pub(super) faulty: Duration,
    /// External events in that time.
    pub(super) planned: usize,
    pub(super) rates: Rates,
    /// The step taken when the faults stop.
    pub(super) ending: Ending,
}

/// The step taken when the faults stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The writers run until everything must be settled, then they are shut down.
    RunOn,
    /// They are shut down at once, with enough time.
    ShutDown,
}

/// How often each thing happens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// Entries that the database rejects.
    pub(super) rejected: PerMille,
    /// Entries that a trigger leaves out without an error.
    pub(super) filtered: PerMille,
    /// Records that the database rejects.
    pub(super) rejected_record: PerMille,
    /// Statements that commit and whose answer is lost.
    pub(super) lost_answer: PerMille,
    /// Statements that fail without effect.
    pub(super) failed_statement: PerMille,
    /// Statements that take long.
    pub(super) slow_statement: PerMille,
    /// Operations of the disk that fail.
    pub(super) disk_error: PerMille,
    /// Requests to the spool that take long.
    pub(super) slow_disk: PerMille,
    /// Removals of rows beyond those of the group that are handled in one go.
    pub(super) split_group: PerMille,
    /// Calls that write several entries.
    pub(super) group: PerMille,
    /// Entries near or above the bound of the queue.
    pub(super) large: PerMille,
    /// Entries that were written before.
    pub(super) repeated: PerMille,
    /// Receipts that are awaited.
    pub(super) awaited: PerMille,
    /// Callers that pause between number and queue.
    pub(super) slow_call: PerMille,
    /// Calls of other threads between two steps of the driver.
    pub(super) interleaved: PerMille,
    /// Weights of the external events.
    pub(super) outage: PerMille,
    pub(super) misconfiguration: PerMille,
    pub(super) hang: PerMille,
    pub(super) disk_full: PerMille,
    pub(super) disk_down: PerMille,
    pub(super) locked: PerMille,
    pub(super) damage: PerMille,
    pub(super) directory_removed: PerMille,
    pub(super) foreign_file: PerMille,
    pub(super) kill: PerMille,
    pub(super) power_loss: PerMille,
    pub(super) panic: PerMille,
    pub(super) spool_gone: PerMille,
    pub(super) shutdown: PerMille,
    /// Calls that come while a shutdown begins.
    pub(super) late_call: PerMille,
    pub(super) burst: PerMille,
}

/// A fault's rate: none in half of the seeds.
fn some(random: &mut Random, highest: u64) -> PerMille {
    if random.coin() {
        0
    } else {
        random.between(1, highest) as PerMille
    }
}

impl Settings {
    pub(super) fn of(seed: u64) -> Self {
        let random = &mut Random::new(seed, 1);
        let batch = Size {
            entries: random.size(1, 5),
            bytes: random.size(300, 2_000),
        };
        let spool = random.pick(&[
            None,
            Some(SpoolMode::Overflow),
            Some(SpoolMode::Overflow),
            Some(SpoolMode::WriteAhead),
            Some(SpoolMode::WriteAhead),
        ]);
        Self {
            slots: random.pick(&[1, 1, 1, 2, 2, 3]),
            lanes: random.size(1, 3),
            spool,
            bound: Size {
                entries: random.size(4, 40),
                bytes: random.size(1_000, 8_000),
            },
            limits: limits(random, batch),
            retry: retry(random),
            spool_config: spool_config(random, batch),
            faulty: random.millis(500, 12_000),
            planned: random.size(10, 160),
            rates: Rates::of(random),
            ending: random.pick(&[Ending::RunOn, Ending::ShutDown]),
        }
    }

    /// How long after the last fault everything must be settled and the spool be empty, with this
    /// backlog of rows. None where the configuration promises nothing: a pause without end.
    pub(super) fn promised(&self, backlog: usize) -> Option<Duration> {
        if self.retry.first_pause == Duration::MAX {
            return None;
        }
        let spool = &self.spool_config;
        let attempt = self.retry.attempt_timeout.min(MAX_HANG);
        let pauses = self.retry.longest_pause * 2 + self.limits.retry_spool_after * 3;
        let scans = spool.scan_interval * 3 + spool.retry_delay * 3 + spool.removal_delay * 3;
        let records = self.limits.declare_after * 4 + self.limits.linger * 40;
        // Each row on its own in the worst case, after halving, with a read and a removal.
        let rows = (Settings::HEALTHY_STATEMENT + Settings::HEALTHY_DISK * 3) * 6 * (backlog as u32 + 20);
        Some(attempt * 2 + pauses + scans + records + rows)
    }

    /// The longest that a statement takes once there are no faults.
    pub(super) const HEALTHY_STATEMENT: Duration = Duration::from_millis(4);
    /// The longest that a group of requests to the spool takes then.
    pub(super) const HEALTHY_DISK: Duration = Duration::from_millis(4);
}

/// The longest that a statement hangs once there are no faults.
pub(super) const MAX_HANG: Duration = Duration::from_secs(3);

/// The point after which a driver that obeys the core would be too late.
pub(super) fn late(deadline: Time) -> Time {
    deadline + Duration::from_millis(2)
}

fn limits(random: &mut Random, batch: Size) -> Limits {
    Limits {
        batch,
        linger: random.millis(1, 10),
        idle_polls: random.between(0, 3) as u32,
        queue_poll: random.millis(2, 20),
        appends: random.size(1, 4),
        ready_batches: random.size(0, 4),
        replay_batches: random.size(1, 3),
        misconfigured_batches: random.size(1, 4),
        retry_spool_after: random.millis(20, 600),
        alive_interval: random.millis(20, 3_000),
        declare_after: random.millis(5, 300),
        ranges_in_a_record: random.size(1, 5),
        notice_interval: random.millis(100, 2_000),
        spin_window: random.micros(10, 500),
    }
}

fn retry(random: &mut Random) -> RetryPolicy {
    let mut retry = RetryPolicy {
        attempt_timeout: random.millis(50, 2_500),
        first_pause: random.millis(2, 100),
        longest_pause: random.millis(100, 1_500),
        spill_after: random.millis(5, 800),
    };
    match random.below(30) {
        0 => retry.attempt_timeout = Duration::MAX,
        1 => retry.spill_after = Duration::MAX,
        2 => {
            retry.first_pause = Duration::MAX;
            retry.longest_pause = Duration::MAX;
        }
        3 => retry.first_pause = Duration::ZERO,
        _ => {}
    }
    retry
}

fn spool_config(random: &mut Random, batch: Size) -> SpoolConfig {
    let limit_bytes = if random.chance(300) {
        random.between(500, 6_000)
    } else {
        1 << 40
    };
    SpoolConfig {
        scan_interval: random.millis(200, 3_000),
        max_adopted: random.size(1, 4),
        removal_delay: random.millis(5, 200),
        retry_delay: random.millis(20, 400),
        max_pending_removals: random.size(1, 8),
        max_group_bytes: random.between(200, 4_000),
        max_read_rows: random.between(1, 2 * batch.entries as u64),
        max_read_bytes: random.between(100, 3_000),
        max_read_batches: random.size(1, 6),
        ..SpoolConfig::new(super::disk::TARGET, limit_bytes)
    }
}

impl Rates {
    fn of(random: &mut Random) -> Self {
        Self {
            rejected: some(random, 200),
            filtered: some(random, 60),
            rejected_record: if random.chance(200) { some(random, 300) } else { 0 },
            lost_answer: some(random, 200),
            failed_statement: some(random, 150),
            slow_statement: some(random, 200),
            disk_error: some(random, 120),
            slow_disk: some(random, 200),
            split_group: some(random, 500),
            group: some(random, 400),
            large: some(random, 60),
            repeated: some(random, 100),
            awaited: some(random, 1_000),
            slow_call: some(random, 300),
            interleaved: some(random, 400),
            outage: some(random, 120),
            misconfiguration: some(random, 80),
            hang: some(random, 80),
            disk_full: some(random, 60),
            disk_down: some(random, 60),
            locked: some(random, 60),
            damage: some(random, 40),
            directory_removed: if random.chance(200) { some(random, 30) } else { 0 },
            foreign_file: some(random, 30),
            kill: some(random, 60),
            power_loss: some(random, 60),
            panic: some(random, 20),
            spool_gone: if random.chance(400) { some(random, 80) } else { 0 },
            shutdown: some(random, 80),
            late_call: some(random, 700),
            burst: some(random, 100),
        }
    }
}
