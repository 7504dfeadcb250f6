//! Partitions by month: lists them, creates missing ones, cuts large months into segments, has those that have ended
//! indexed, and empties the default partition.

use chrono::{DateTime, Datelike, Months, Utc};
use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::OpsError;
use crate::postgres::{Number, postgres, utc_text};
use crate::session::{bounded, bounded_long};

/// A partition of `audit_logs`, or the segments of a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct Partition {
    /// The table's name; of a month in segments, that of the first.
    #[serde(rename = "partition")]
    #[diesel(sql_type = Text, column_name = partition)]
    pub name: String,
    /// The month, as `2024-01`; none for the default partition and others that are not a whole month.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// The first `created_at` of its range.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// The first `created_at` after its range.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// Whether it holds any row.
    #[diesel(sql_type = Bool)]
    pub has_rows: bool,
    /// The approximate number of rows: the planner's figure, or the exact count where it has none yet.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its size on disk, with its indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// Of how many partitions it consists: more than one for a month that outgrew about a million rows.
    #[diesel(sql_type = BigInt)]
    pub segments: i64,
}

/// A month that has rows in the default partition.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[non_exhaustive]
pub struct DefaultPartitionMonth {
    /// The month, as `2024-01`; none for times that no monthly partition can hold, such as `infinity`. Rows
    /// with such times stay in the default partition.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// How many rows.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its start in seconds since 1970.
    #[diesel(sql_type = Nullable<BigInt>)]
    from_epoch: Option<i64>,
}

/// Lists the partitions by time, the default partition last.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn list(conn: &mut Connection) -> Result<Vec<Partition>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT partition::text AS partition, month, ",
        utc_text!("from_time"),
        " AS from_time, ",
        utc_text!("to_time"),
        " AS to_time, has_rows, row_count, bytes, segments FROM audit_logs_months() AS months ORDER BY months.from_time, months.partition"
    ));
    Ok(query.load(postgres(conn)?).await?)
}

/// How many partitions a trail may have unless another limit is given: 40 years. Each one costs every query over all
/// months time and locks, until no such query runs any longer. The rows of other months stay in the default partition.
pub const MAX_PARTITIONS: u16 = 480;

/// Creates the missing partitions for the months from one time to another, and returns how many it created.
/// Calls `progress` with the number of months done and their total.
///
/// A month that has rows in the default partition is skipped, with a warning of the server:
/// [`move_month`] creates its partition.
///
/// # Errors
/// When there would be more than `max_partitions` (see [`MAX_PARTITIONS`]), when the database refuses, or other sessions
/// hold the table for too long.
///
/// # Cancel safety
/// Each month is a transaction of its own: partitions already created stay.
pub async fn ensure(
    conn: &mut Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    max_partitions: u16,
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, OpsError> {
    postgres(conn)?;
    let months = months(from, to, max_partitions);
    if months.len() > usize::from(max_partitions) {
        return Err(OpsError::TooManyMonths(max_partitions));
    }
    let mut created = 0;
    for (done, month) in months.iter().enumerate() {
        progress(done as u64, months.len() as u64);
        let ensured = bounded(conn, async |conn| {
            ensure_month(conn, *month, max_partitions).await
        });
        created += ensured.await?;
    }
    Ok(created)
}

/// Creates the partition of a month, and returns how many it created: 0 or 1.
async fn ensure_month(
    conn: &mut Connection,
    month: DateTime<Utc>,
    max_partitions: u16,
) -> Result<u64, OpsError> {
    let query = diesel::sql_query("SELECT audit_logs_ensure_partitions($1, $1, $2)::bigint AS value")
        .bind::<Timestamptz, _>(month)
        .bind::<Integer, _>(i32::from(max_partitions));
    let created: Number = query.get_result(postgres(conn)?).await?;
    Ok(created.value.unsigned_abs())
}

/// What [`maintain`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// Segments that were added to months.
    pub segments: u64,
    /// Look-up indexes that were created on partitions that have ended.
    pub indexes: u64,
}

/// Cuts this month and the next one into segments if they outgrow about a million rows, and creates the look-up indexes
/// of the partitions that ended more than an hour ago. Does nothing if this user may not. For a daily job. `kept_months` is how many months the trail keeps:
/// each gets an equal share of at most 150 partitions.
///
/// Writers wait while a partition is cut: milliseconds for one without rows, 0.3 s for one of 320 MiB, and as long for a
/// default partition of half the size. A larger one is not cut. While an index is built, late rows for that partition wait.
///
/// # Errors
/// When the database refuses, or other sessions hold the table for too long.
///
/// # Cancel safety
/// Each cut and each index is a transaction of its own: those that are done stay.
pub async fn maintain(
    conn: &mut Connection,
    kept_months: u16,
    mut progress: impl FnMut(Maintenance),
) -> Result<Maintenance, OpsError> {
    let mut done = Maintenance::default();
    if bounded(conn, async |conn| number(conn, MAY_MAINTAIN).await).await? == 0 {
        return Ok(done);
    }
    let cut = loop {
        match bounded(conn, async |conn| cut_one(conn, kept_months).await).await {
            Ok(1..) => done.segments += 1,
            other => break other,
        }
        progress(done);
    };
    // A reader who prevents a cut, such as a backup, does not prevent an index.
    while bounded_long(conn, async |conn| number(conn, INDEX_ONE).await).await? > 0 {
        done.indexes += 1;
        progress(done);
    }
    cut.map(|_| done)
}

const MAY_MAINTAIN: &str = "SELECT (has_function_privilege('audit_logs_segment_months(bigint, integer, integer, integer)', 'EXECUTE') \
     AND has_function_privilege('audit_logs_index_closed_months(integer)', 'EXECUTE'))::integer::bigint AS value";
const INDEX_ONE: &str = "SELECT audit_logs_index_closed_months(max_indexes => 1)::bigint AS value";

async fn cut_one(conn: &mut Connection, kept_months: u16) -> Result<i64, OpsError> {
    let query = diesel::sql_query(
        "SELECT audit_logs_segment_months(max_cuts => 1, kept_months => $1)::bigint AS value",
    )
    .bind::<Integer, _>(i32::from(kept_months));
    let cut: Number = query.get_result(postgres(conn)?).await?;
    Ok(cut.value)
}

async fn number(conn: &mut Connection, sql: &str) -> Result<i64, OpsError> {
    let number: Number = diesel::sql_query(sql).get_result(postgres(conn)?).await?;
    Ok(number.value)
}

/// A moment in every month from one time to another, both included. One more than the limit stands for all further
/// ones.
fn months(from: DateTime<Utc>, to: DateTime<Utc>, limit: u16) -> Vec<DateTime<Utc>> {
    let first = from.with_day(1).unwrap_or(from);
    let is_due = |month: &DateTime<Utc>| (month.year(), month.month()) <= (to.year(), to.month());
    (0..)
        .map_while(|nth| first.checked_add_months(Months::new(nth)))
        .take_while(is_due)
        .take(usize::from(limit) + 1)
        .collect()
}

/// Lists the months that have rows in the default partition.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn default_partition_months(conn: &mut Connection) -> Result<Vec<DefaultPartitionMonth>, OpsError> {
    let query = diesel::sql_query(
        "SELECT to_char(month_start, 'YYYY-MM') || CASE WHEN month_start < '0001-01-01' THEN ' BC' ELSE '' END AS month, row_count, \
         extract(epoch FROM month_start)::bigint AS from_epoch FROM audit_logs_default_months() ORDER BY month_start",
    );
    Ok(query.load(postgres(conn)?).await?)
}

/// Moves a month's rows from the default partition to a partition of their own, which it creates, and
/// returns how many it moved.
///
/// Runs in one transaction. Readers of the table and writers to the default partition wait for it, about 3 s
/// for 100,000 rows; writers to other partitions do not.
///
/// # Errors
/// When there would be more than `max_partitions` (see [`MAX_PARTITIONS`]), when the database refuses, or other sessions
/// hold the table for too long.
///
/// # Cancel safety
/// Dropping the future leaves it open whether they were moved.
pub async fn move_month(
    conn: &mut Connection,
    month: &DefaultPartitionMonth,
    max_partitions: u16,
) -> Result<u64, OpsError> {
    let conn = postgres(conn)?;
    let Some(from) = month.from_epoch else {
        return Ok(0);
    };
    let query =
        diesel::sql_query("SELECT audit_logs_move_month(to_timestamp($1) AT TIME ZONE 'UTC', $2) AS value")
            .bind::<BigInt, _>(from)
            .bind::<Integer, _>(i32::from(max_partitions));
    let moved: Number = query.get_result(conn).await?;
    Ok(moved.value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_month_of_a_range_is_listed_once() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let of = |from, to| {
            months(time(from), time(to), 3)
                .iter()
                .map(|m| m.format("%Y-%m").to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("2023-11-30T10:00:00Z", "2024-02-01T00:00:00Z"),
            ["2023-11", "2023-12", "2024-01", "2024-02"]
        );
        assert_eq!(of("2024-01-31T23:59:59Z", "2024-01-01T00:00:00Z"), ["2024-01"]);
        assert_eq!(of("2024-02-01T00:00:00Z", "2024-01-01T00:00:00Z"), [""; 0]);
        assert_eq!(
            of("0001-01-01T00:00:00Z", "2024-01-01T00:00:00Z").len(),
            4,
            "one more than the limit"
        );
    }
}
