//! Will those who were just answered write again at once? Counts and instants handed in, no clock.
//!
//! Who awaits one entry after the other is back within microseconds of the answer. Of ten callers that
//! were answered together the first would be sent off alone, and the other nine wait for it. So a
//! batch waits a moment for as many as were answered. A single caller is not waited for: on a machine
//! of few processors that would take him the one that he needs.

use std::time::{Duration, Instant};

/// How long they are expected back: somewhat more than it takes to wake a thread and write an entry.
const BACK_WITHIN: Duration = Duration::from_micros(50);

/// Callers who were answered and are expected back.
#[derive(Debug, Default)]
pub(super) struct Returning {
    callers: usize,
    until: Option<Instant>,
}

impl Returning {
    /// Notes that so many callers were answered.
    pub(super) fn answered(&mut self, callers: usize, now: Instant) {
        if callers > 0 {
            (self.callers, self.until) = (callers, Some(now + BACK_WITHIN));
        }
    }

    /// True while more callers are expected than entries wait.
    pub(super) fn more_than(&self, waiting: usize, now: Instant) -> bool {
        self.callers > 1 && waiting < self.callers && self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_expected_as_were_answered_and_not_for_long() {
        let (mut returning, now) = (Returning::default(), Instant::now());
        assert!(!returning.more_than(0, now));
        returning.answered(3, now);
        assert!(returning.more_than(0, now) && returning.more_than(2, now));
        assert!(!returning.more_than(3, now));
        assert!(!returning.more_than(0, now + BACK_WITHIN));
        // Nobody waits for a single one, and batches that nobody awaited change nothing.
        returning.answered(1, now);
        assert!(!returning.more_than(0, now));
        returning.answered(3, now + BACK_WITHIN);
        returning.answered(0, now + BACK_WITHIN);
        assert!(returning.more_than(2, now));
    }
}
