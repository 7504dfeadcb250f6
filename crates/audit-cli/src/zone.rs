//! The time zone of the person at the terminal, by its name or the system's.

use std::fmt::{self, Display, Formatter};

use chrono::{
    DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone, Timelike, Utc,
};
use jiff::Timestamp;
use jiff::tz::AmbiguousOffset;

use crate::output::print_note;

/// A time zone of the IANA database, for chrono: the query language reads its times with it.
#[derive(Clone, Debug)]
pub(crate) struct Zone(jiff::tz::TimeZone);

/// What a zone differs from UTC by, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ZoneOffset {
    zone: jiff::tz::TimeZone,
    fixed: FixedOffset,
}

impl Zone {
    /// The zone of the environment (`TZ`) or of the system; UTC if there is none, with a warning if one is named.
    pub(crate) fn local() -> Self {
        Self(jiff::tz::TimeZone::try_system().unwrap_or_else(|_| {
            if let Some(name) = std::env::var_os("TZ").filter(|name| !name.is_empty()) {
                print_note!(
                    "warning: TZ is {}, which is no time zone: times are those of UTC (--time-zone names another one)",
                    name.to_string_lossy()
                );
            }
            jiff::tz::TimeZone::UTC
        }))
    }

    /// Parses the name of a zone.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "local" => Ok(Self::local()),
            name => jiff::tz::TimeZone::get(name).map(Self).map_err(|_| {
                "expected local, UTC, or a name of the IANA database such as Europe/Berlin".into()
            }),
        }
    }

    /// The last part of the zone's name, or what it always differs from UTC by.
    pub(crate) fn name(&self) -> String {
        let name = self.0.iana_name().and_then(|name| name.rsplit('/').next());
        match (name, self.0.to_fixed_offset()) {
            (Some(name), _) => name.replace('_', " "),
            (None, Ok(_)) => Utc::now().with_timezone(self).offset().to_string(),
            // The offset of now may not be that of a row.
            (None, Err(_)) => "local".to_owned(),
        }
    }

    /// A time as this zone's clocks show it, to the second. One that has no year of four digits is shown in UTC.
    pub(crate) fn shown(&self, time: DateTime<Utc>) -> String {
        self.formatted(time, "%Y-%m-%d %H:%M:%S")
    }

    /// The same in another format of chrono.
    pub(crate) fn formatted(&self, time: DateTime<Utc>, format: &str) -> String {
        match time.year() {
            1..=9998 => time.with_timezone(self).format(format).to_string(),
            _ => time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        }
    }

    /// When a day begins: at midnight, or where the clocks are set forward then, an hour later.
    pub(crate) fn start_of(&self, day: NaiveDate) -> DateTime<Utc> {
        let midnight = day.and_time(NaiveTime::MIN);
        let start = civil(&midnight).and_then(|midnight| self.0.to_timestamp(midnight).ok());
        let start = start.and_then(|start| DateTime::from_timestamp(start.as_second(), 0));
        start.unwrap_or(midnight.and_utc())
    }

    /// What the zone differs from UTC by.
    pub(crate) fn offset_at(&self, time: DateTime<Utc>) -> TimeDelta {
        let offset = self.offset_from_utc_datetime(&time.naive_utc());
        TimeDelta::seconds(offset.fixed.local_minus_utc().into())
    }

    /// When the zone's clocks are set forward or back between two times, at most for the first 200 years.
    pub(crate) fn changes_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let changes = self.0.following(timestamp(from));
        changes
            .take(400)
            .filter_map(|change| DateTime::from_timestamp(change.timestamp().as_second(), 0))
            .take_while(|change| *change <= to)
            .collect()
    }

    fn offset(&self, offset: jiff::tz::Offset) -> Option<ZoneOffset> {
        let fixed = FixedOffset::east_opt(offset.seconds())?;
        let zone = self.0.clone();
        Some(ZoneOffset { zone, fixed })
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        Self(offset.zone.clone())
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        let Some(local) = civil(local) else {
            return MappedLocalTime::None;
        };
        let found = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => self.offset(offset).map(MappedLocalTime::Single),
            AmbiguousOffset::Fold { before, after } => self
                .offset(before)
                .zip(self.offset(after))
                .map(|(before, after)| MappedLocalTime::Ambiguous(before, after)),
            AmbiguousOffset::Gap { .. } => None,
        };
        found.unwrap_or(MappedLocalTime::None)
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let seconds = utc.and_utc().timestamp();
        let edge = if seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let offset = self.0.to_offset(Timestamp::from_second(seconds).unwrap_or(edge));
        self.offset(offset).unwrap_or_else(|| ZoneOffset {
            zone: self.0.clone(),
            fixed: Utc.fix(),
        })
    }
}

/// The time for jiff, whose times end with the year 9999.
fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let edge = if time.timestamp() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_second(time.timestamp()).unwrap_or(edge)
}

fn civil(local: &NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    jiff::civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        small(local.month())?,
        small(local.day())?,
        small(local.hour())?,
        small(local.minute())?,
        small(local.second())?,
        0,
    )
    .ok()
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl Display for ZoneOffset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.fixed, f)
    }
}

#[cfg(test)]
mod tests {
    use db_services::audit::query::AuditFilter;

    use super::*;

    fn since(zone: &str, query: &str) -> String {
        let zone = Zone::parse(zone).unwrap();
        let now = "2026-11-29T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
        AuditFilter::parse(query, &now.with_timezone(&zone))
            .unwrap()
            .to_string()
    }

    #[test]
    fn local_times_follow_the_rules_of_the_zone() {
        for (query, expected) in [
            ("since:2026-07-01", "since:2026-06-30T22:00:00Z"),
            ("since:2026-11-01", "since:2026-10-31T23:00:00Z"),
            // Clocks are set forward from 2 to 3, and back from 3 to 2.
            ("since:2026-03-29T02:30", "since:2026-03-29T01:30:00Z"),
            ("since:2026-10-25T02:30", "since:2026-10-25T00:30:00Z"),
            ("since:today", "since:2026-11-28T23:00:00Z"),
            ("since:1d", "since:2026-11-28T12:00:00Z"),
        ] {
            assert_eq!(since("Europe/Berlin", query), expected, "{query}");
        }
        assert_eq!(since("UTC", "since:2026-07-01"), "since:2026-07-01T00:00:00Z");
    }

    #[test]
    fn every_time_is_shown() {
        let zone = Zone::parse("America/New_York").unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(zone.shown(time("2026-07-01T00:00:00Z")), "2026-06-30 20:00:00");
        assert_eq!(zone.shown(time("2026-12-01T00:00:00Z")), "2026-11-30 19:00:00");
        assert!(zone.shown(DateTime::<Utc>::MAX_UTC).starts_with("+262142-12-31"));
        assert!(zone.shown(DateTime::<Utc>::MIN_UTC).starts_with("-262143-01-01"));
        assert!(Zone::parse("Europe/Atlantis").is_err());
    }

    #[test]
    fn a_zone_is_named_by_what_holds_for_each_of_its_times() {
        let posix = |text| Zone(jiff::tz::TimeZone::posix(text).unwrap());
        for (zone, name) in [
            (Zone::parse("UTC").unwrap(), "UTC"),
            (Zone::parse("America/New_York").unwrap(), "New York"),
            (posix("EST5EDT,M3.2.0,M11.1.0"), "local"),
            (Zone(jiff::tz::TimeZone::fixed(jiff::tz::offset(-5))), "-05:00"),
        ] {
            assert_eq!(zone.name(), name);
        }
    }
}
