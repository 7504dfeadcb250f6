//! Creates monthly partitions for given times.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Utc};
use diesel::QueryResult;
use diesel_async::RunQueryDsl;

use crate::client::Connection;

diesel::define_sql_function! {
    /// The migration's function; needs the right to execute it.
    fn audit_logs_ensure_partitions(from_time: diesel::sql_types::Timestamptz, to_time: diesel::sql_types::Timestamptz) -> diesel::sql_types::Integer;
}

/// Creates the monthly partitions of these times where there are none, and returns how many were created.
/// For imports, whose events are in the past; SQLite has no partitions and needs none.
///
/// A month of which rows are in the default partition already is left as it is, with a warning of
/// the server; its rows go there too.
///
/// A writer may create the months from the previous one to the one in 24 months, a maintainer any. There are never more
/// than 480 partitions. Rows of other months go to the default partition, and are read there like any other.
///
/// # Errors
/// When this user may not create the partition of a month, there would be too many, or other sessions hold the table for
/// too long. Rows can be inserted nevertheless.
///
/// # Cancel safety
/// Each month is a transaction of its own: those made stay.
pub async fn ensure_partitions(
    conn: &mut Connection,
    times: impl IntoIterator<Item = DateTime<Utc>>,
) -> QueryResult<i32> {
    let Connection::Postgres(conn) = conn else {
        return Ok(0);
    };
    let mut seen = BTreeSet::new();
    let mut made = 0;
    for time in times {
        // A month a statement: the lock on the default partition is held for one month only.
        if seen.insert((time.year(), time.month())) {
            let ensure = diesel::select(audit_logs_ensure_partitions(time, time));
            made += ensure.get_result::<i32>(conn).await?;
        }
    }
    Ok(made)
}
