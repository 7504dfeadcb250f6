//! Column values as Rust values, from either database.
//!
//! Reading is lenient: a row is never hidden because another client wrote a value that the Rust
//! type cannot hold.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::deserialize::FromSqlRow;
use ipnet::IpNet;
use uuid::Uuid;

/// A point in time. What chrono cannot hold (`infinity`, years beyond 262,142) becomes its first or
/// last moment.
#[derive(Clone, Copy, Debug, FromSqlRow)]
pub struct StoredTime(pub(crate) DateTime<Utc>);

/// A UUID.
#[derive(Clone, Copy, Debug, FromSqlRow)]
pub struct StoredUuid(pub(crate) Uuid);

/// Text. SQLite keeps any bytes in a column of text: what is no UTF-8 becomes U+FFFD.
#[derive(Clone, Debug, FromSqlRow)]
pub struct StoredText(pub String);

/// A network address; none where SQLite holds a text that is no address.
#[derive(Clone, Copy, Debug, FromSqlRow)]
pub struct StoredIp(pub(crate) Option<IpNet>);

impl StoredTime {
    fn from_unix_micros(micros: i64) -> Self {
        let edge = if micros < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        Self(DateTime::from_timestamp_micros(micros).unwrap_or(edge))
    }
}

/// Reads an address or a network.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// An address without a prefix when it names one host, as PostgreSQL prints `inet`.
pub fn network_text(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

#[cfg(feature = "postgres")]
mod pg {
    use diesel::data_types::PgTimestamp;
    use diesel::deserialize::{FromSql, Result};
    use diesel::pg::{Pg, PgValue};
    use diesel::sql_types::{Inet, Text, Timestamptz, Uuid as PgUuid};

    use super::{StoredIp, StoredText, StoredTime, StoredUuid};

    /// 2000-01-01, where PostgreSQL's timestamps begin, in microseconds since 1970.
    const PG_EPOCH: i64 = 946_684_800_000_000;

    impl FromSql<Timestamptz, Pg> for StoredTime {
        fn from_sql(value: PgValue<'_>) -> Result<Self> {
            let PgTimestamp(since_2000) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
            Ok(Self::from_unix_micros(since_2000.saturating_add(PG_EPOCH)))
        }
    }

    impl FromSql<PgUuid, Pg> for StoredUuid {
        fn from_sql(value: PgValue<'_>) -> Result<Self> {
            FromSql::<PgUuid, Pg>::from_sql(value).map(Self)
        }
    }

    impl FromSql<Text, Pg> for StoredText {
        fn from_sql(value: PgValue<'_>) -> Result<Self> {
            Ok(Self(String::from_utf8_lossy(value.as_bytes()).into_owned()))
        }
    }

    impl FromSql<Inet, Pg> for StoredIp {
        fn from_sql(value: PgValue<'_>) -> Result<Self> {
            FromSql::<Inet, Pg>::from_sql(value).map(|net| Self(Some(net)))
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::deserialize::{FromSql, Result};
    use diesel::sql_types::{BigInt, Binary, Text};
    use diesel::sqlite::{Sqlite, SqliteValue};
    use uuid::Uuid;

    use super::{StoredIp, StoredText, StoredTime, StoredUuid, parse_network};

    impl FromSql<BigInt, Sqlite> for StoredTime {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> Result<Self> {
            <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self::from_unix_micros)
        }
    }

    impl FromSql<Binary, Sqlite> for StoredUuid {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> Result<Self> {
            let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
            Ok(Self(Uuid::from_slice(&bytes)?))
        }
    }

    impl FromSql<Text, Sqlite> for StoredText {
        fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> Result<Self> {
            Ok(Self(value.read_text().to_owned()))
        }
    }

    impl FromSql<Text, Sqlite> for StoredIp {
        fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> Result<Self> {
            Ok(Self(parse_network(value.read_text())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_chrono_become_its_edges() {
        assert_eq!(StoredTime::from_unix_micros(i64::MAX).0, DateTime::<Utc>::MAX_UTC);
        assert_eq!(StoredTime::from_unix_micros(i64::MIN).0, DateTime::<Utc>::MIN_UTC);
        assert_eq!(StoredTime::from_unix_micros(-1).0.timestamp_micros(), -1);
    }

    #[test]
    fn addresses_print_as_postgresql_prints_them() {
        let text = |s: &str| parse_network(s).map(network_text);
        assert_eq!(text("192.168.0.1").as_deref(), Some("192.168.0.1"));
        assert_eq!(text("192.168.0.1/24").as_deref(), Some("192.168.0.1/24"));
        assert_eq!(text("2001:db8::1/128").as_deref(), Some("2001:db8::1"));
        assert_eq!(text("unknown"), None);
    }
}
