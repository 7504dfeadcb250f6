//! The ids of entries that have none of their own.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::entry::now;

/// The bits of an id that are not its time: 12 and 62, beside version and variant.
const COUNTER_BITS: u32 = 74;

/// Creates UUIDs version 7 (RFC 9562), each greater than the one before.
///
/// It is a value, not a thread-local or a static: rows are made on the writer's thread and in the calls of
/// [`insert`](super::insert()), each with a generator of its own, so a forked process shares none with its
/// parent. Below the time is a counter (section 6.2, method 2) that begins at random in each millisecond.
#[derive(Debug, Default)]
pub(super) struct IdGenerator {
    /// The last id without version and variant: its milliseconds, then its counter.
    last: u128,
}

impl IdGenerator {
    /// The id of an entry of this time. A time in the future counts as now, so that one such entry does not
    /// take the ids after it along; one before that of the last id counts as that.
    pub(super) fn next(&mut self, time: DateTime<Utc>) -> Uuid {
        let time = if time > self.last_time() {
            time.min(now())
        } else {
            time
        };
        self.next_at(u64::try_from(time.timestamp_millis()).unwrap_or(0), random)
    }

    fn next_at(&mut self, millis: u64, random: impl FnOnce() -> u128) -> Uuid {
        self.last = if u128::from(millis) > self.last >> COUNTER_BITS || self.last == 0 {
            // The highest bit of the counter stays free: it does not overflow into the time.
            u128::from(millis) << COUNTER_BITS | random() >> (128 - COUNTER_BITS + 1)
        } else {
            self.last + 1
        };
        let (upper, lower) = (self.last >> 62, self.last & ((1 << 62) - 1));
        // The time, version 7, 12 bits; variant 2, 62 bits.
        let id = (upper >> 12) << 80 | 0x7 << 76 | (upper & 0xFFF) << 64 | 0b10 << 62 | lower;
        Uuid::from_u128(id)
    }

    fn last_time(&self) -> DateTime<Utc> {
        let millis = i64::try_from(self.last >> COUNTER_BITS).unwrap_or(i64::MAX);
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// Bits of which the highest 73, but for version and variant, are the operating system's random ones.
fn random() -> u128 {
    Uuid::new_v4().as_u128()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(id: Uuid) -> u64 {
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        seconds * 1_000 + u64::from(nanos) / 1_000_000
    }

    #[test]
    fn an_id_has_the_time_of_its_entry() {
        let time = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let id = IdGenerator::default().next(time);
        assert_eq!((id.get_version_num(), millis(id)), (7, 1_700_000_000_123));
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn times_that_no_id_holds_are_the_first_moment_or_now() {
        let mut ids = IdGenerator::default();
        assert_eq!(millis(ids.next(DateTime::<Utc>::MIN_UTC)), 0);
        let before = Utc::now().timestamp_millis() as u64;
        let future = millis(ids.next(DateTime::<Utc>::MAX_UTC));
        assert!(before <= future && future <= Utc::now().timestamp_millis() as u64);
        assert!(
            millis(ids.next(Utc::now())) < before + 600_000,
            "and it takes no later id along"
        );
    }

    #[test]
    fn two_generators_share_no_id() {
        let time = Utc::now();
        let [mut a, mut b] = [IdGenerator::default(), IdGenerator::default()];
        assert_ne!(a.next(time), b.next(time));
    }

    proptest! {
        #[test]
        fn ids_are_in_the_order_of_their_making(times in proptest::collection::vec(0..50_u64, 1..200), random in any::<u128>()) {
            let mut ids = IdGenerator::default();
            let made: Vec<_> = times.iter().map(|time| ids.next_at(*time, || random)).collect();
            prop_assert!(made.is_sorted_by(|a, b| a < b));
            let mut latest = 0;
            for (time, id) in times.iter().zip(made) {
                latest = latest.max(*time);
                prop_assert_eq!((id.get_version_num(), millis(id)), (7, latest));
            }
        }
    }
}
