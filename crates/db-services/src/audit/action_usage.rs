//! Counts how often each action occurs.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Timestamptz};
use diesel::{QueryResult, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::client::Connection;

/// Times within what 64 bits of microseconds hold: a row may claim infinity. As bytes, because SQLite keeps any bytes in
/// a column of text.
const POSTGRES: &str = "\
    SELECT convert_to(action, 'UTF8') AS action, count(*) AS entries, \
    (extract(epoch FROM least(greatest(min(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS first, \
    (extract(epoch FROM least(greatest(max(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS last \
    FROM audit_logs WHERE created_at >= $1 AND action NOT LIKE 'audit.%' GROUP BY audit_logs.action LIMIT $2";

/// GLOB, because LIKE ignores case on SQLite.
const SQLITE: &str = "\
    SELECT CAST(action AS BLOB) AS action, count(*) AS entries, min(created_at) AS first, max(created_at) AS last \
    FROM audit_logs WHERE created_at >= ?1 AND action NOT GLOB 'audit.*' GROUP BY audit_logs.action LIMIT ?2";

/// How often an action occurs in a trail, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ActionUsage {
    /// The action.
    pub action: String,
    /// How many entries have it.
    pub entries: u64,
    /// The earliest `created_at` of them. `infinity` comes as a time in the far future.
    pub first: DateTime<Utc>,
    /// The latest.
    pub last: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Binary)]
    action: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    entries: i64,
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

impl From<Stored> for ActionUsage {
    fn from(stored: Stored) -> Self {
        Self {
            action: String::from_utf8_lossy(&stored.action).into_owned(),
            entries: stored.entries.unsigned_abs(),
            first: time(stored.first),
            last: time(stored.last),
        }
    }
}

fn time(micros: i64) -> DateTime<Utc> {
    let beyond = match micros {
        ..0 => DateTime::<Utc>::MIN_UTC,
        _ => DateTime::<Utc>::MAX_UTC,
    };
    DateTime::from_timestamp_micros(micros).unwrap_or(beyond)
}

/// Returns the actions of the entries with a `created_at` from `since` on, by name, without the records that writers
/// make about themselves (actions that begin with `audit.`). At most `limit`: which ones is not defined if there are
/// more.
///
/// No index serves it. It reads every entry since that time: on PostgreSQL the partitions of those months, with
/// parallel workers.
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// Dropping the future loses nothing; on SQLite it waits for the query to end.
pub async fn action_usage(
    conn: &mut Connection,
    since: DateTime<Utc>,
    limit: u32,
) -> QueryResult<Vec<ActionUsage>> {
    let limit = i64::from(limit);
    let stored: Vec<Stored> = match conn {
        Connection::Postgres(conn) => {
            let query = diesel::sql_query(POSTGRES).bind::<Timestamptz, _>(since);
            query.bind::<BigInt, _>(limit).load(conn).await?
        }
        Connection::Sqlite(conn) => {
            let query = diesel::sql_query(SQLITE).bind::<BigInt, _>(since.timestamp_micros());
            query.bind::<BigInt, _>(limit).load(conn).await?
        }
    };
    let mut usage: Vec<ActionUsage> = stored.into_iter().map(ActionUsage::from).collect();
    usage.sort_by(|left, right| left.action.cmp(&right.action));
    Ok(usage)
}
