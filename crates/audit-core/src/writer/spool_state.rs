//! What the core knows of its spool.

use std::time::Duration;

use super::Notice;
use crate::Time;

/// When entries go to the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolMode {
    /// While the database does not accept them, and while the queue is half full.
    Overflow,
    /// Always, before or while they are sent.
    WriteAhead,
}

/// What the core knows of its spool.
#[derive(Clone, Debug)]
pub(super) struct SpoolState {
    pub(super) mode: SpoolMode,
    availability: Availability,
    /// Of the quarantine, which is a file of its own.
    quarantine: Availability,
    pub(super) contents: Contents,
    /// Batches that were returned to be handed out after others, since the last rewind.
    deferred: usize,
    /// Whether its use was reported.
    usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Availability {
    Up,
    /// It failed; tried again after a while.
    Failing {
        since: Time,
    },
}

/// Contents of the spool that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing.
    Empty,
    /// Something: it is to be read.
    MayHoldMore,
    /// It was asked, and has not answered.
    Reading(SinceAsked),
}

/// What came to the spool since it was asked. The answer says nothing about that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SinceAsked {
    NothingCame,
    MoreCame,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Unused,
    Reported,
}

impl SpoolState {
    pub(super) fn new(mode: SpoolMode) -> Self {
        Self {
            mode,
            availability: Availability::Up,
            quarantine: Availability::Up,
            contents: Contents::Empty,
            deferred: 0,
            usage: Usage::Unused,
        }
    }

    /// False for a while after it failed.
    pub(super) fn is_usable(&self, pause: Duration, now: Time) -> bool {
        self.retry_at(pause).is_none_or(|at| at <= now)
    }

    /// When it is tried again after a failure.
    pub(super) fn retry_at(&self, pause: Duration) -> Option<Time> {
        match self.availability {
            Availability::Up => None,
            Availability::Failing { since } => Some(since + pause),
        }
    }

    /// True from a failure until it takes something again.
    pub(super) fn is_failing(&self) -> bool {
        self.availability != Availability::Up
    }

    /// When the quarantine is tried again after a failure.
    pub(super) fn quarantine_retry_at(&self, pause: Duration) -> Option<Time> {
        match self.quarantine {
            Availability::Up => None,
            Availability::Failing { since } => Some(since + pause),
        }
    }

    pub(super) fn on_quarantine_success(&mut self) {
        self.quarantine = Availability::Up;
    }

    /// Reports a failure of the quarantine, once until it succeeds.
    pub(super) fn on_quarantine_failure(&mut self, reason: String, now: Time) -> Option<Notice> {
        match std::mem::replace(&mut self.quarantine, Availability::Failing { since: now }) {
            Availability::Up => Some(Notice::QuarantineFailed { reason }),
            Availability::Failing { .. } => None,
        }
    }

    pub(super) fn on_success(&mut self) -> Option<Notice> {
        match std::mem::replace(&mut self.availability, Availability::Up) {
            Availability::Up => None,
            Availability::Failing { .. } => Some(Notice::SpoolRecovered),
        }
    }

    pub(super) fn on_failure(&mut self, reason: String, now: Time) -> Option<Notice> {
        match std::mem::replace(&mut self.availability, Availability::Failing { since: now }) {
            Availability::Up => Some(Notice::SpoolFailed { reason }),
            Availability::Failing { .. } => None,
        }
    }

    /// Notes that something is in the spool that is not in memory.
    pub(super) fn mark_non_empty(&mut self) -> Option<Notice> {
        self.contents = match self.contents {
            Contents::Reading(_) => Contents::Reading(SinceAsked::MoreCame),
            Contents::Empty | Contents::MayHoldMore => Contents::MayHoldMore,
        };
        match std::mem::replace(&mut self.usage, Usage::Reported) {
            Usage::Unused => Some(Notice::SpoolInUse),
            Usage::Reported => None,
        }
    }

    /// Notes a batch that is to be tried after others.
    pub(super) fn defer(&mut self) {
        self.deferred += 1;
    }

    /// Forgets the deferred batches, which are in the spool like others from now on. True if there were any.
    pub(super) fn take_deferred(&mut self) -> bool {
        let any = std::mem::take(&mut self.deferred) > 0;
        if any {
            self.mark_non_empty();
        }
        any
    }

    /// Notes the answer to a read.
    pub(super) fn on_read(&mut self, found: bool) {
        let more_came =
            self.contents == Contents::Reading(SinceAsked::MoreCame) && !planted!(LateAnswerHidesNewBatch);
        let more = found || more_came || self.deferred > 0;
        if !found {
            // The pass is over: the spool hands them out again.
            self.deferred = 0;
        }
        self.contents = if more {
            Contents::MayHoldMore
        } else {
            Contents::Empty
        };
    }

    /// Reports that the spool is drained, once.
    pub(super) fn mark_drained(&mut self) -> Option<Notice> {
        match std::mem::replace(&mut self.usage, Usage::Unused) {
            Usage::Unused => None,
            Usage::Reported => Some(Notice::SpoolDrained),
        }
    }

    /// True once its use was reported, until it is drained.
    pub(super) fn is_in_use(&self) -> bool {
        self.usage == Usage::Reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_came_since_the_spool_was_asked_is_not_forgotten() {
        let mut spool = SpoolState::new(SpoolMode::Overflow);
        spool.mark_non_empty();
        spool.contents = Contents::Reading(SinceAsked::NothingCame);
        spool.mark_non_empty();
        spool.on_read(false);
        assert_eq!(
            spool.contents,
            Contents::MayHoldMore,
            "the answer is older than that batch"
        );
        spool.contents = Contents::Reading(SinceAsked::NothingCame);
        spool.on_read(false);
        assert_eq!(spool.contents, Contents::Empty);
    }

    #[test]
    fn a_deferred_batch_is_read_again_after_the_pass() {
        let mut spool = SpoolState::new(SpoolMode::Overflow);
        spool.mark_non_empty();
        spool.contents = Contents::Reading(SinceAsked::NothingCame);
        spool.defer();
        spool.on_read(false);
        assert_eq!(spool.contents, Contents::MayHoldMore);
        assert!(!spool.take_deferred());
    }
}
