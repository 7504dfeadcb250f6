//! Times of the query language: relative to now, or absolute.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};

/// What is now, and how a time of the caller's zone is found.
pub(super) struct Clock<'a> {
    pub(super) now: DateTime<Utc>,
    /// The day that it is there.
    pub(super) today: NaiveDate,
    /// From local to UTC.
    pub(super) to_utc: &'a dyn Fn(NaiveDateTime) -> Option<DateTime<Utc>>,
}

pub(super) const EXPECTED: &str = "is not a time: 30m, 12h, 7d, 2w, today, yesterday, now, 2026-11-01, 2026-11-01T08:30, \
     2026-11-01T08:30:00Z or …+01:00";

/// Finds the moment of a local time. Of two, when clocks were set back, the first; in the gap when they were set
/// forward, the moment that the clocks would have shown it at.
pub(super) fn to_utc<Tz: TimeZone>(zone: &Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    let find = |local: NaiveDateTime| zone.from_local_datetime(&local).earliest();
    let hour = TimeDelta::hours(1);
    let found = find(local).or_else(|| find(local.checked_sub_signed(hour)?)?.checked_add_signed(hour));
    Some(found?.with_timezone(&Utc))
}

/// Reads a time. `None` if it is none.
pub(super) fn read(text: &str, clock: &Clock<'_>) -> Option<DateTime<Utc>> {
    let midnight = |day: NaiveDate| (clock.to_utc)(day.and_time(NaiveTime::MIN));
    match text {
        "now" => return Some(clock.now),
        "today" => return midnight(clock.today),
        "yesterday" => return midnight(clock.today.pred_opt()?),
        _ => {}
    }
    if let Some(ago) = relative(text) {
        return clock.now.checked_sub_signed(ago);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return midnight(day);
    }
    // With a space as well, as tables show times.
    let formats = [
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S%.f",
    ];
    let local = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    match local {
        Some(local) => (clock.to_utc)(local),
        // Years of more than four digits.
        None => text.parse().ok(),
    }
}

/// A count and a unit.
fn relative(text: &str) -> Option<TimeDelta> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let count: i64 = digits.parse().ok()?;
    match unit {
        "s" => TimeDelta::try_seconds(count),
        "m" => TimeDelta::try_minutes(count),
        "h" => TimeDelta::try_hours(count),
        "d" => TimeDelta::try_days(count),
        "w" => TimeDelta::try_weeks(count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, MappedLocalTime};

    use super::*;

    /// The clocks of Cairo in 2026: they were set forward at the beginning of 24 April, and back at the end of 29 October.
    #[derive(Clone, Copy)]
    struct Cairo;

    impl TimeZone for Cairo {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
            let summer = "2026-04-23T22:00:00".parse().unwrap().."2026-10-29T21:00:00".parse().unwrap();
            FixedOffset::east_opt(3600 * if summer.contains(utc) { 3 } else { 2 }).unwrap()
        }

        fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
            let offsets = [3, 2].map(|hours| FixedOffset::east_opt(hours * 3600).unwrap());
            let shown = offsets.map(|offset| self.offset_from_utc_datetime(&(*local - offset)) == offset);
            match shown {
                [true, true] => MappedLocalTime::Ambiguous(offsets[0], offsets[1]),
                [true, false] => MappedLocalTime::Single(offsets[0]),
                [false, true] => MappedLocalTime::Single(offsets[1]),
                [false, false] => MappedLocalTime::None,
            }
        }

        fn offset_from_utc_date(&self, day: &NaiveDate) -> FixedOffset {
            self.offset_from_utc_datetime(&day.and_time(NaiveTime::MIN))
        }

        fn offset_from_local_date(&self, day: &NaiveDate) -> MappedLocalTime<FixedOffset> {
            self.offset_from_local_datetime(&day.and_time(NaiveTime::MIN))
        }
    }

    fn read_at<Tz: TimeZone>(now: DateTime<Tz>, text: &str) -> Option<String> {
        let zone = now.timezone();
        let to_utc = move |local| to_utc(&zone, local);
        let clock = Clock {
            now: now.to_utc(),
            today: now.date_naive(),
            to_utc: &to_utc,
        };
        Some(read(text, &clock)?.to_rfc3339())
    }

    #[test]
    fn times_without_an_offset_are_those_of_the_callers_zone() {
        let now: DateTime<FixedOffset> = "2026-11-29T00:30:00+02:00".parse().unwrap();
        for (text, expected) in [
            ("now", "2026-11-28T22:30:00+00:00"),
            ("0s", "2026-11-28T22:30:00+00:00"),
            ("90m", "2026-11-28T21:00:00+00:00"),
            ("12h", "2026-11-28T10:30:00+00:00"),
            ("7d", "2026-11-21T22:30:00+00:00"),
            ("2w", "2026-11-14T22:30:00+00:00"),
            ("today", "2026-11-28T22:00:00+00:00"),
            ("yesterday", "2026-11-27T22:00:00+00:00"),
            ("2026-11-01", "2026-10-31T22:00:00+00:00"),
            ("2026-11-01T08:30", "2026-11-01T06:30:00+00:00"),
            ("2026-11-01T08:30:01.5", "2026-11-01T06:30:01.500+00:00"),
            ("2026-11-01 08:30", "2026-11-01T06:30:00+00:00"),
            ("2026-11-01 08:30:01.5", "2026-11-01T06:30:01.500+00:00"),
            ("2026-11-01 08:30:01.5 +02:00", "2026-11-01T06:30:01.500+00:00"),
            ("2026-11-01T08:30:00Z", "2026-11-01T08:30:00+00:00"),
            ("2026-11-01T08:30:00-05:30", "2026-11-01T14:00:00+00:00"),
        ] {
            assert_eq!(read_at(now, text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_skipped_or_showed_twice_is_one_moment() {
        let now = Cairo.with_ymd_and_hms(2026, 4, 24, 12, 0, 0).unwrap();
        let skipped = NaiveDate::from_ymd_opt(2026, 4, 24)
            .unwrap()
            .and_time(NaiveTime::MIN);
        assert_eq!(Cairo.from_local_datetime(&skipped), MappedLocalTime::None);
        for (text, expected) in [
            ("2026-04-23T23:59", "2026-04-23T21:59:00+00:00"),
            ("2026-04-24T00:00", "2026-04-23T22:00:00+00:00"),
            ("2026-04-24T00:30", "2026-04-23T22:30:00+00:00"),
            ("2026-04-24T01:00", "2026-04-23T22:00:00+00:00"),
            ("2026-04-24", "2026-04-23T22:00:00+00:00"),
            ("today", "2026-04-23T22:00:00+00:00"),
            ("yesterday", "2026-04-22T22:00:00+00:00"),
            ("2026-10-29T23:30", "2026-10-29T20:30:00+00:00"),
            ("2026-10-30", "2026-10-29T22:00:00+00:00"),
        ] {
            assert_eq!(read_at(now, text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let now: DateTime<FixedOffset> = "2026-11-29T00:30:00+02:00".parse().unwrap();
        for text in [
            "",
            "d",
            "7",
            "-7d",
            "7y",
            "7 d",
            "99999999999999999999d",
            "9223372036854775807w",
            "2026-02-30",
            "2026-11-01T25:00",
            "tomorrow",
            "é",
            "7é",
            "999999999d",
        ] {
            assert_eq!(read_at(now, text), None, "{text}");
        }
    }
}
