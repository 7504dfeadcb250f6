//! A point in time, handed in by the driver.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, in nanoseconds after an origin that the driver chooses. Sums saturate: a
/// configured `Duration::MAX` means [`Time::NEVER`] and not a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const START: Self = Self(0);

    /// A point that is not reached: 584 years after the origin.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point that is this long after the origin.
    pub fn after(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time since an earlier point; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time since the origin, in nanoseconds.
    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::after(duration).0))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_saturate() {
        assert_eq!(Time::START + Duration::MAX, Time::NEVER);
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::START - Time::NEVER, Duration::ZERO);
        let (one, two) = (
            Time::after(Duration::from_secs(1)),
            Time::after(Duration::from_secs(2)),
        );
        assert_eq!((two - one, one - two), (Duration::from_secs(1), Duration::ZERO));
    }
}
