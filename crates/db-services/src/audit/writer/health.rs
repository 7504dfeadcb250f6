//! Does the database take batches, when is it tried again, and what is logged about it?
//!
//! A line for each change of state, never for an entry.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::RetryPolicy;
use crate::audit::sink::{SinkError, SinkErrorKind};

/// How often something that goes on is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Health {
    /// The database's name in log lines.
    name: String,
    down: Option<Down>,
    /// When refusals of the full queue were last logged, and how many there were by then.
    refusals_logged: (Option<Instant>, u64),
    /// The same of refused rows.
    quarantine_logged: (Option<Instant>, u64),
    quarantined: u64,
}

/// The database takes nothing at the moment.
struct Down {
    since: Instant,
    failures: u32,
    fault: SinkErrorKind,
    try_again: Instant,
    /// The batch that tries whether it does again.
    trial: Option<u64>,
    /// What is wrong with the set-up, as far as it was logged.
    said: Vec<String>,
}

/// Different reasons of one outage that are logged at the most.
const REASONS: usize = 16;

impl Down {
    /// True for another kind of fault, and for a further one in the set-up: who has made the missing
    /// directory must hear that the table is missing too.
    fn is_news(&self, error: &SinkError) -> bool {
        let further = || !self.said.contains(&error.reason) && self.said.len() < REASONS;
        self.fault != error.kind || (error.kind == SinkErrorKind::Misconfigured && further())
    }
}

impl Health {
    pub(super) fn new(name: String) -> Self {
        Self { name, down: None, refusals_logged: (None, 0), quarantine_logged: (None, 0), quarantined: 0 }
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// How long it has been taking nothing.
    pub(super) fn down_for(&self, now: Instant) -> Option<Duration> {
        self.down.as_ref().map(|down| now.saturating_duration_since(down.since))
    }

    /// True if it was a lasting fault that was met last.
    pub(super) fn is_set_up_wrong(&self) -> bool {
        self.down.as_ref().is_some_and(|down| down.fault == SinkErrorKind::Misconfigured)
    }

    /// When the next batch may be sent; none if any may now.
    pub(super) fn try_again(&self) -> Option<Instant> {
        self.down.as_ref().map(|down| down.try_again)
    }

    /// True if a batch may be sent: while the database is down one at a time, after a pause.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.down.as_ref().is_none_or(|down| down.trial.is_none() && down.try_again <= now)
    }

    pub(super) fn sent(&mut self, token: u64) {
        if let Some(down) = &mut self.down {
            down.trial = Some(token);
        }
    }

    /// The database answered: it took a batch, or refused a row while taking another.
    pub(super) fn answered(&mut self, backlog: bool) {
        if let Some(down) = self.down.take() {
            let what = if backlog { ", the spool is being replayed" } else { "" };
            log::warn!("audit: {} takes entries again, after {:.1?}{what}", self.name, down.since.elapsed());
        }
    }

    pub(super) fn failed(
        &mut self,
        token: u64,
        error: &SinkError,
        policy: &RetryPolicy,
        spool: bool,
        now: Instant,
    ) {
        let failures = match &self.down {
            // What was under way as it went down tells nothing new.
            Some(down) if down.trial != Some(token) => return,
            Some(down) => down.failures + 1,
            None => 1,
        };
        let news = self.down.as_ref().is_none_or(|down| down.is_news(error));
        let mut said = self.down.as_mut().map(|down| std::mem::take(&mut down.said)).unwrap_or_default();
        if news {
            let waits = if spool { "they wait in memory, then in the spool" } else { "they wait in memory" };
            match error.kind {
                SinkErrorKind::Misconfigured => log::error!(
                    "audit: {} is not set up to take entries; {waits} until it is mended: {}",
                    self.name,
                    error.reason
                ),
                _ => log::error!("audit: {} does not take entries, {waits}: {}", self.name, error.reason),
            }
            said.push(error.reason.clone());
        }
        // 53 random bits are what a float between 0 and 1 holds.
        let random = (Uuid::new_v4().as_u128() >> 75) as f64 / (1_u64 << 53) as f64;
        self.down = Some(Down {
            since: self.down.as_ref().map_or(now, |down| down.since),
            failures,
            fault: error.kind,
            try_again: now + policy.pause(failures, random),
            trial: None,
            said,
        });
    }

    /// Says that a row is refused: the first at once, then their number once a minute.
    pub(super) fn refused(&mut self, error: &SinkError, now: Instant) {
        self.quarantined += 1;
        let (last, known) = self.quarantine_logged;
        if last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL) {
            log::error!(
                "audit: {} refuses an entry, it is put into quarantine, {} since the last such line: {}",
                self.name,
                self.quarantined - known,
                error.reason
            );
            self.quarantine_logged = (Some(now), self.quarantined);
        }
    }

    /// Says that the queue was full: at once, then once a minute while it goes on.
    pub(super) fn log_refusals(&mut self, refused: u64, now: Instant) {
        let (last, known) = self.refusals_logged;
        if refused > known && last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL) {
            log::error!(
                "audit: the queue to {} was full: {} entries were lost (raise queue_capacity and queue_bytes, set a \
                 spool, or see why the database is slow)",
                self.name,
                refused - known
            );
            self.refusals_logged = (Some(now), refused);
        }
    }
}
