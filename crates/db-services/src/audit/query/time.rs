//! Times as each database stores them.

use chrono::{DateTime, Utc};

use super::sql::Dialect;

/// 2000-01-01, where PostgreSQL's timestamps begin, in microseconds since 1970.
const PG_EPOCH: i64 = 946_684_800_000_000;

/// The first timestamp of PostgreSQL (4714 BC), in microseconds since 2000.
const PG_FIRST: i64 = -211_813_488_000_000_000;

/// The number by which a database stores a time. Before PostgreSQL's first timestamp is its `-infinity`.
pub(super) fn stored(dialect: Dialect, time: DateTime<Utc>) -> i64 {
    let micros = time.timestamp_micros();
    match dialect {
        Dialect::Sqlite => micros,
        Dialect::Postgres => match micros.saturating_sub(PG_EPOCH) {
            since_2000 if since_2000 < PG_FIRST => i64::MIN,
            since_2000 => since_2000,
        },
    }
}

/// A time without what databases do not store: cut to microseconds.
pub(super) fn cut(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_last_times_are_those_that_the_database_can_compare() {
        assert_eq!(stored(Dialect::Postgres, DateTime::<Utc>::MIN_UTC), i64::MIN);
        assert_eq!(stored(Dialect::Postgres, DateTime::<Utc>::UNIX_EPOCH), -PG_EPOCH);
        assert_eq!(stored(Dialect::Sqlite, DateTime::<Utc>::UNIX_EPOCH), 0);
        assert!(stored(Dialect::Postgres, DateTime::<Utc>::MAX_UTC) < i64::MAX);
    }
}
