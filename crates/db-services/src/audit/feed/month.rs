//! The month of a row, by the time that PostgreSQL has stored.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime};

/// 1970 and the first time of PostgreSQL, in microseconds since 2000.
const UNIX_EPOCH: i64 = -946_684_800_000_000;
const FIRST_TIME: i64 = -211_813_488_000_000_000;

/// The month of a time that the database has stored. None for infinity and the last years of PostgreSQL's times: any
/// client may insert those, so nothing may fail on them.
pub(super) fn month_of(created_at: i64) -> Option<(i64, i64)> {
    let time = DateTime::from_timestamp_micros(created_at.checked_sub(UNIX_EPOCH)?)?;
    let first = time.date_naive().with_day(1)?;
    let stored = |day: NaiveDate| {
        let micros = day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        micros.checked_add(UNIX_EPOCH)
    };
    let (from, to) = (stored(first)?, stored(first.checked_add_months(Months::new(1))?)?);
    (to > FIRST_TIME).then_some((from.max(FIRST_TIME), to))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    #[test]
    fn a_month_has_its_bounds_and_no_time_fails() {
        let stored = |text: &str| {
            let time: DateTime<Utc> = text.parse().unwrap();
            time.timestamp_micros() + UNIX_EPOCH
        };
        assert_eq!(
            month_of(stored("2024-12-31T23:59:59.999999Z")),
            Some((stored("2024-12-01T00:00:00Z"), stored("2025-01-01T00:00:00Z")))
        );
        // 4714-11-24 BC
        let month = (FIRST_TIME, stored("-4713-12-01T00:00:00Z"));
        assert_eq!(month_of(FIRST_TIME), Some(month));
        // 294276-12-31
        for time in [
            i64::MIN,
            i64::MAX,
            9_223_371_331_199_999_999,
            FIRST_TIME - 1_000_000_000_000_000,
        ] {
            assert_eq!(month_of(time), None, "{time}");
        }
    }
}
