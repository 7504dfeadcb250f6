//! Which months are there, and how do rows get into them that came before their month was made?

use chrono::{DateTime, Datelike, Months, Utc};
use db_services::audit;
use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::OpsError;
use crate::pg::{Number, postgres, utc};

/// A partition of `audit_logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct Partition {
    /// The table's name.
    #[diesel(sql_type = Text)]
    pub partition: String,
    /// The month, as `2024-01`; none for the default partition and for partitions that are no month.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// The first `created_at` that belongs in it.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// The first that no longer does.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// Whether there is any row in it.
    #[diesel(sql_type = Bool)]
    pub has_rows: bool,
    /// How many rows, about: the planner's figure, exact where there is none yet.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its size on disk, with its indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// A month of which rows lie in the default partition.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[non_exhaustive]
pub struct StrayMonth {
    /// The month, as `2024-01`; none: times that no month can hold, such as `infinity`, whose rows stay
    /// where they are.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// How many rows.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its beginning in seconds since 1970.
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
        utc!("from_time"),
        " AS from_time, ",
        utc!("to_time"),
        " AS to_time, has_rows, row_count, bytes FROM audit_logs_months() AS months ORDER BY months.from_time, months.partition"
    ));
    Ok(query.load(postgres(conn)?).await?)
}

/// Makes the months from one time to another where there are none, tells how many of how many are
/// looked at, and gives back how many were made.
///
/// A month of which rows lie in the default partition is left out, with a warning of the server:
/// [`adopt`] makes it.
///
/// # Errors
/// When the database refuses, or other sessions hold the table for too long.
///
/// # Cancel safety
/// Each month is a transaction of its own: those made stay.
pub async fn ensure(
    conn: &mut Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    mut told: impl FnMut(u64, u64),
) -> Result<u64, OpsError> {
    postgres(conn)?;
    let months = months(from, to);
    let mut made = 0;
    for (done, month) in months.iter().enumerate() {
        told(done as u64, months.len() as u64);
        made += audit::ensure_partitions(conn, [*month]).await?.unsigned_abs() as u64;
    }
    Ok(made)
}

/// A moment in every month from one time to another, both included.
fn months(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let first = from.with_day(1).unwrap_or(from);
    let is_due = |month: &DateTime<Utc>| (month.year(), month.month()) <= (to.year(), to.month());
    (0..)
        .map_while(|nth| first.checked_add_months(Months::new(nth)))
        .take_while(is_due)
        .collect()
}

/// Lists the months of which rows lie in the default partition.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn strays(conn: &mut Connection) -> Result<Vec<StrayMonth>, OpsError> {
    let query = diesel::sql_query(
        "SELECT to_char(month_start, 'YYYY-MM') || CASE WHEN month_start < '0001-01-01' THEN ' BC' ELSE '' END AS month, row_count, \
         extract(epoch FROM month_start)::bigint AS from_epoch FROM audit_logs_default_months() ORDER BY month_start",
    );
    Ok(query.load(postgres(conn)?).await?)
}

/// Moves a month's rows out of the default partition into a partition of their own, and gives back how
/// many.
///
/// All or nothing, in one transaction. Readers of the table, and writers of rows that belong into the
/// default partition, wait for it, about 3 s for 100,000 rows; writers of other months do not.
///
/// # Errors
/// When the database refuses, or other sessions hold the table for too long.
///
/// # Cancel safety
/// Dropping the future leaves it open whether they were moved.
pub async fn adopt(conn: &mut Connection, month: &StrayMonth) -> Result<u64, OpsError> {
    let conn = postgres(conn)?;
    let Some(from) = month.from_epoch else {
        return Ok(0);
    };
    let query =
        diesel::sql_query("SELECT audit_logs_move_month(to_timestamp($1) AT TIME ZONE 'UTC') AS value")
            .bind::<BigInt, _>(from);
    let moved: Number = query.get_result(conn).await?;
    Ok(moved.value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_once() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let of = |from, to| {
            months(time(from), time(to))
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
    }
}
