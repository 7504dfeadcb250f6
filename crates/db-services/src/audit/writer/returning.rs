//! Will those who were just answered write again at once? Counts and instants handed in, no clock.
//!
//! Who awaits one entry after the other is back within microseconds of the answer. To sleep and be woken
//! takes longer than that; and of ten callers that were answered together the first would be sent off
//! alone, and the other nine wait for it. So the thread stays awake a moment for as many as were
//! answered, and gives way to whoever else wants the processor. Only while they do come back: who
//! awaits an entry now and then costs nothing.

use std::time::{Duration, Instant};

/// How long they are expected back: somewhat more than it takes to wake a thread and write an entry.
const BACK_WITHIN: Duration = Duration::from_micros(50);

/// What counts as having come back at once where nobody was waited for: the thread had to be woken too.
const AT_ONCE: Duration = Duration::from_micros(100);

/// Callers who were answered and are expected back.
#[derive(Debug, Default)]
pub(super) struct Returning {
    callers: usize,
    answered: Option<Instant>,
    /// True if those answered before did come back.
    do_return: bool,
}

impl Returning {
    /// Notes that so many callers were answered.
    pub(super) fn answered(&mut self, callers: usize, now: Instant) {
        if callers > 0 {
            (self.callers, self.answered) = (callers, Some(now));
        }
    }

    /// Notes that an entry was taken that somebody awaits.
    pub(super) fn came_back(&mut self, now: Instant) {
        if let Some(answered) = self.answered.take() {
            let at_once = if self.do_return { BACK_WITHIN } else { AT_ONCE };
            self.do_return = now.saturating_duration_since(answered) < at_once;
        }
    }

    /// True while more callers are expected than entries wait.
    pub(super) fn more_than(&self, waiting: usize, now: Instant) -> bool {
        let in_time = || self.answered.is_some_and(|answered| now < answered + BACK_WITHIN);
        self.do_return && waiting < self.callers && in_time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_expected_as_were_answered_and_not_for_long() {
        let (mut returning, now) = (Returning { do_return: true, ..Returning::default() }, Instant::now());
        assert!(!returning.more_than(0, now));
        returning.answered(3, now);
        assert!(returning.more_than(0, now) && returning.more_than(2, now));
        assert!(!returning.more_than(3, now));
        assert!(!returning.more_than(0, now + BACK_WITHIN));
        returning.answered(3, now + BACK_WITHIN);
        // Batches that nobody awaited change nothing.
        returning.answered(0, now + BACK_WITHIN);
        assert!(returning.more_than(2, now + BACK_WITHIN));
    }

    #[test]
    fn nobody_is_expected_who_did_not_come_back_before() {
        let (mut returning, now) = (Returning::default(), Instant::now());
        returning.answered(2, now);
        assert!(!returning.more_than(0, now));
        returning.came_back(now + AT_ONCE - BACK_WITHIN / 2);
        returning.answered(2, now + AT_ONCE);
        assert!(returning.more_than(0, now + AT_ONCE));
        returning.came_back(now + AT_ONCE + BACK_WITHIN);
        returning.answered(2, now + AT_ONCE * 3);
        assert!(!returning.more_than(0, now + AT_ONCE * 3), "they were waited for in vain");
    }
}
