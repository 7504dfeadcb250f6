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

    /// The callers that are expected back, while they are more than the entries that wait.
    pub(super) fn expected(&self, waiting: usize, window: Duration, now: Time) -> Option<Expected> {
        let notified = self.notified.filter(|_| self.habit == Habit::ComeBack)?;
        let until = notified.at + window;
        (waiting < notified.callers && now < until).then_some(Expected {
            callers: notified.callers,
            until,
        })
    }
}

/// Callers that are expected back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) callers: usize,
    /// Until when; later ones are not waited for.
    pub(super) until: Time,
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
        assert!(idle.expected(0, WINDOW, now).is_none());
        idle.on_notified(3, now);
        assert!(idle.expected(0, WINDOW, now).is_some() && idle.expected(2, WINDOW, now).is_some());
        assert!(idle.expected(3, WINDOW, now).is_none());
        assert!(idle.expected(0, WINDOW, now + WINDOW).is_none());
        idle.on_notified(3, now + WINDOW);
        // A batch that nobody awaited changes nothing.
        idle.on_notified(0, now + WINDOW);
        assert!(idle.expected(2, WINDOW, now + WINDOW).is_some());
    }

    #[test]
    fn callers_that_did_not_come_back_before_are_not_expected() {
        let (mut idle, now) = (Idle::default(), Time::START);
        idle.on_notified(2, now);
        assert!(idle.expected(0, WINDOW, now).is_none());
        idle.on_awaited_entry(WINDOW, now + WINDOW + WINDOW / 2);
        idle.on_notified(2, now + 2 * WINDOW);
        assert!(idle.expected(0, WINDOW, now + 2 * WINDOW).is_some());
        idle.on_awaited_entry(WINDOW, now + 4 * WINDOW);
        idle.on_notified(2, now + 6 * WINDOW);
        assert!(
            idle.expected(0, WINDOW, now + 6 * WINDOW).is_none(),
            "they were waited for without effect"
        );
    }
}
