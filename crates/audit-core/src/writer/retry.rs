//! When a failed batch is tried again.

use std::time::Duration;

/// How a writer treats a database that does not accept its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The longest that each step of an attempt may take: connecting to one address, the statements of a batch,
    /// finding the cause of an error; 30 seconds unless set. The batch is sent again then, and what the first
    /// attempt may have stored is not stored twice.
    pub attempt_timeout: Duration,
    /// The pause after the first failure, which doubles with each further one; 100 milliseconds
    /// unless set. Each pause is shortened at random by up to half, so that many processes do not return
    /// at once.
    pub first_pause: Duration,
    /// The longest pause; 10 seconds unless set.
    pub longest_pause: Duration,
    /// How long a batch may fail before it and all that follow go to the spool, if there is one;
    /// 2 seconds unless set.
    pub spill_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            spill_after: Duration::from_secs(2),
        }
    }
}

impl RetryPolicy {
    /// The pause after this many failures in a row; `random` of `u32::MAX` shortens it by half.
    pub fn pause(&self, failures: u32, random: u32) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        let full = doubled.min(self.longest_pause);
        let share = (full / 2).as_nanos().saturating_mul(u128::from(random)) / u128::from(u32::MAX);
        full.saturating_sub(Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_durations_do_not_overflow() {
        let policy = RetryPolicy {
            attempt_timeout: Duration::MAX,
            first_pause: Duration::MAX,
            longest_pause: Duration::MAX,
            spill_after: Duration::MAX,
        };
        assert!(policy.pause(u32::MAX, u32::MAX) >= Duration::from_secs(1 << 40));
    }

    proptest! {
        #[test]
        fn pauses_grow_to_the_longest_and_keep_at_least_half(failures in 1..200_u32, random in any::<u32>()) {
            let policy = RetryPolicy::default();
            let (full, cut) = (policy.pause(failures, 0), policy.pause(failures, random));
            prop_assert!(cut <= full && cut >= full / 2 && full <= policy.longest_pause);
            prop_assert!(full <= policy.pause(failures + 1, 0));
            prop_assert_eq!(policy.pause(1, 0), policy.first_pause);
        }
    }
}
