//! When the writer's thread waits for entries, spins, or parks.
//!
//! A caller that awaits one entry after the other is back within microseconds of the answer. To park and be
//! woken takes longer than that; and of ten callers that were notified together the first would be sent
//! alone, and the other nine would wait for it. So the thread spins for a moment for as many as were notified.
//! Only while they do come back: a caller that awaits an entry once in a while costs nothing.

use std::time::Duration;

use crate::Time;

/// What counts as having come back at once where nobody was expected, in spin windows: the thread had to be
/// woken too.
const WAKE_WINDOWS: u32 = 2;

/// Callers that were notified and are expected back.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle {
    /// Since when entries that nobody awaits wait for others.
    pub(super) gathering_since: Option<Time>,
    /// How often the queue was found empty since it last was not.
    pub(super) empty_polls: u32,
    notified: Option<Notified>,
    /// Whether those notified before did come back.
    habit: Habit,
}

#[derive(Clone, Copy, Debug)]
struct Notified {
    callers: usize,
    at: Time,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Habit {
    #[default]
    StayAway,
    ComeBack,
}

impl Idle {
    /// Notes that this many callers were notified.
    pub(super) fn on_notified(&mut self, callers: usize, now: Time) {
        if callers > 0 {
            self.notified = Some(Notified { callers, at: now });
        }
    }

    /// Notes that an entry was taken that a caller awaits.
    pub(super) fn on_awaited_entry(&mut self, window: Duration, now: Time) {
        if let Some(notified) = self.notified.take() {
            let at_once = match self.habit {
                Habit::ComeBack => window,
                Habit::StayAway => window * WAKE_WINDOWS,
            };
            self.habit = if now - notified.at < at_once {
                Habit::ComeBack
            } else {
                Habit::StayAway
            };
        }
    }

    /// True while more callers are expected back than entries wait.
    pub(super) fn expects_more_than(&self, waiting: usize, window: Duration, now: Time) -> bool {
        self.habit == Habit::ComeBack
            && self
                .notified
                .is_some_and(|notified| waiting < notified.callers && now < notified.at + window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(50);

    #[test]
    fn notified_callers_are_expected_back_for_a_short_time() {
        let (mut idle, now) = (
            Idle {
                habit: Habit::ComeBack,
                ..Idle::default()
            },
            Time::START,
        );
        assert!(!idle.expects_more_than(0, WINDOW, now));
        idle.on_notified(3, now);
        assert!(idle.expects_more_than(0, WINDOW, now) && idle.expects_more_than(2, WINDOW, now));
        assert!(!idle.expects_more_than(3, WINDOW, now));
        assert!(!idle.expects_more_than(0, WINDOW, now + WINDOW));
        idle.on_notified(3, now + WINDOW);
        // A batch that nobody awaited changes nothing.
        idle.on_notified(0, now + WINDOW);
        assert!(idle.expects_more_than(2, WINDOW, now + WINDOW));
    }

    #[test]
    fn callers_that_did_not_come_back_before_are_not_expected() {
        let (mut idle, now) = (Idle::default(), Time::START);
        idle.on_notified(2, now);
        assert!(!idle.expects_more_than(0, WINDOW, now));
        idle.on_awaited_entry(WINDOW, now + WINDOW + WINDOW / 2);
        idle.on_notified(2, now + 2 * WINDOW);
        assert!(idle.expects_more_than(0, WINDOW, now + 2 * WINDOW));
        idle.on_awaited_entry(WINDOW, now + 4 * WINDOW);
        idle.on_notified(2, now + 6 * WINDOW);
        assert!(
            !idle.expects_more_than(0, WINDOW, now + 6 * WINDOW),
            "they were waited for without effect"
        );
    }
}
