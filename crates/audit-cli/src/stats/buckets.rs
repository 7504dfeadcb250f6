//! Entries by time, in hours or in days of a time zone, which have 23 to 25 hours.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use clap::ValueEnum;
use db_services::audit::query::{AuditFilter, AuditQuery, Condition, Position, QueryError};
use db_services::client::Connection;
use serde::Serialize;

use crate::zone::Zone;

/// The time of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub(super) enum Every {
    /// Such that there are about 10 to 70 bars
    #[serde(rename = "auto")]
    Auto,
    #[value(name = "1m")]
    #[serde(rename = "1m")]
    Minute,
    #[value(name = "1h")]
    #[serde(rename = "1h")]
    Hour,
    #[value(name = "1d")]
    #[serde(rename = "1d")]
    Day,
    /// From Monday to Sunday
    #[value(name = "1w")]
    #[serde(rename = "1w")]
    Week,
    #[value(name = "1mo")]
    #[serde(rename = "1mo")]
    Month,
}

/// A bar that has entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Bucket {
    pub(super) start: DateTime<Utc>,
    pub(super) rows: u64,
}

impl Every {
    /// The time that suits a trail of this length.
    fn chosen(span: TimeDelta) -> Self {
        match span {
            span if span <= TimeDelta::hours(1) => Self::Minute,
            span if span <= TimeDelta::days(3) => Self::Hour,
            span if span <= TimeDelta::days(70) => Self::Day,
            span if span <= TimeDelta::days(490) => Self::Week,
            _ => Self::Month,
        }
    }

    /// The first day of the week or the month that a day is in.
    fn first_day(self, day: NaiveDate) -> NaiveDate {
        let days_before = match self {
            Self::Week => day.weekday().num_days_from_monday(),
            Self::Month => day.day0(),
            _ => 0,
        };
        day.checked_sub_days(Days::new(days_before.into())).unwrap_or(day)
    }

    /// When the bar behind this one begins.
    pub(super) fn following(self, start: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        let day = start.with_timezone(zone).date_naive();
        let day = match self {
            Self::Auto | Self::Minute => return start.checked_add_signed(TimeDelta::minutes(1)),
            Self::Hour => return start.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => day.succ_opt()?,
            Self::Week => day.checked_add_days(Days::new(7))?,
            Self::Month => day.checked_add_months(chrono::Months::new(1))?,
        };
        Some(zone.start_of(day))
    }
}

/// The entries of a query by time, the earliest first, and the time of a bar.
pub(super) async fn by_time(
    conn: &mut Connection,
    query: &AuditQuery,
    every: Every,
    zone: &Zone,
) -> Result<(Every, Vec<Bucket>), QueryError> {
    let oldest = end(conn, query, &Position::Oldest).await?;
    let newest = end(conn, query, &Position::Newest).await?;
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return Ok((every, Vec::new()));
    };
    let every = match every {
        Every::Auto => Every::chosen(newest.signed_duration_since(oldest)),
        chosen => chosen,
    };
    let width = match every {
        Every::Auto | Every::Minute => TimeDelta::minutes(1),
        Every::Hour => TimeDelta::hours(1),
        Every::Day | Every::Week | Every::Month => {
            return Ok((every, by_days(conn, query, every, zone, (oldest, newest)).await?));
        }
    };
    let origin = zone.start_of(newest.with_timezone(zone).date_naive());
    let buckets = query.histogram(conn, width, origin).await?;
    let buckets = buckets.iter().map(|bucket| Bucket {
        start: bucket.start,
        rows: bucket.rows,
    });
    Ok((every, buckets.collect()))
}

/// The time of the first or the last entry.
async fn end(
    conn: &mut Connection,
    query: &AuditQuery,
    position: &Position,
) -> Result<Option<DateTime<Utc>>, QueryError> {
    let page = query.page(conn, position, 1).await?;
    Ok(page.rows.first().map(|row| row.created_at))
}

/// Between two changes of the zone's clocks each day has 24 hours. So each of these times is asked for on its own.
async fn by_days(
    conn: &mut Connection,
    query: &AuditQuery,
    every: Every,
    zone: &Zone,
    (oldest, newest): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<Bucket>, QueryError> {
    let mut days: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    let changes = zone.changes_between(oldest, newest);
    let begins = std::iter::once(None).chain(changes.iter().copied().map(Some));
    let ends = changes.iter().copied().map(Some).chain([None]);
    for (begin, end) in begins.zip(ends) {
        let offset = zone.offset_at(begin.unwrap_or(oldest));
        let mut part: AuditFilter = query.filter().clone();
        part = begin
            .map(Condition::since)
            .into_iter()
            .fold(part, AuditFilter::and);
        part = end.map(Condition::until).into_iter().fold(part, AuditFilter::and);
        let midnight = DateTime::UNIX_EPOCH - offset;
        for bucket in query
            .with_filter(part)
            .histogram(conn, TimeDelta::days(1), midnight)
            .await?
        {
            let day = bucket
                .start
                .checked_add_signed(offset)
                .unwrap_or(bucket.start)
                .date_naive();
            *days.entry(every.first_day(day)).or_default() += bucket.rows;
        }
    }
    Ok(days
        .into_iter()
        .map(|(day, rows)| Bucket {
            start: zone.start_of(day),
            rows,
        })
        .collect())
}
