//! Look-ups: months in segments, the indexes of partitions, and the plans of queries that use them.

mod cuts;
mod existing;
mod plans;
mod segments;

use crate::support::TestDb;

/// All partitions of the month that begins at this UTC time, with their bounds and rows, by time.
async fn segments(db: &TestDb, month: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(string_agg(partition_name || ' ' || to_char(from_time AT TIME ZONE 'UTC', 'DD HH24:MI') || '-' || \
             to_char(to_time AT TIME ZONE 'UTC', 'DD HH24:MI') || ' ' || (SELECT count(*) FROM audit_logs a WHERE a.tableoid = p.partition), \
             ',' ORDER BY from_time), '') AS value \
         FROM audit_logs_partitions() p WHERE date_trunc('month', from_time AT TIME ZONE 'UTC') = '{month}'"
    );
    db.text(&sql).await.split(',').map(str::to_owned).collect()
}
