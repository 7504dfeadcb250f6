//! The statements of the feed on PostgreSQL.

use super::month::month_of;
use super::state::{Ahead, Inside, Key, Part, Way, Window};
use crate::audit::query::AuditFilter;
use crate::audit::query::conditions::push_conditions;
use crate::audit::query::sql::{Dialect, Run, Sql, Value};

/// For as long as the transaction or the savepoint lasts. A window has few rows: to start parallel workers for it takes
/// longer than to read it, for each reader, each second.
pub(super) const SETTINGS: &str = "SET LOCAL max_parallel_workers_per_gather = 0";

/// What the server says of itself, its open transactions, and the last row of a position. One statement, so that all is of
/// one snapshot. The log's insert position is read after the snapshot was taken, and before how far it is on the disk.
pub(super) fn facts(last: Option<Key>) -> Sql {
    let mut sql = prepared(
        "SELECT pg_is_in_recovery(), \
         (SELECT system_identifier FROM pg_control_system()), \
         CASE WHEN pg_is_in_recovery() THEN '0' ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END, \
         (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), \
         'audit_logs'::regclass::oid::bigint, \
         pg_current_xact_id_if_assigned() IS NOT NULL, \
         pg_current_snapshot()::text, \
         CASE WHEN NOT pg_is_in_recovery() AND pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn() \
              THEN pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
              ELSE (SELECT split_part(next_xid, ':', 1)::bigint * 4294967296 + split_part(next_xid, ':', 2)::bigint \
                    FROM pg_control_checkpoint()) END, \
         (SELECT min(t.began) FROM ( \
              SELECT a.xact_start FROM pg_stat_activity AS a \
              WHERE a.backend_xid = pg_snapshot_xmin(pg_current_snapshot())::xid \
              UNION ALL \
              SELECT p.prepared FROM pg_prepared_xacts AS p \
              WHERE p.transaction = pg_snapshot_xmin(pg_current_snapshot())::xid) AS t (began)), \
         CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_current_wal_insert_lsn()::text END, \
         ceil(extract(epoch FROM current_setting('statement_timeout')::interval) * 1000)::bigint, ",
    );
    match last {
        None => sql.push("TRUE"),
        Some(last) => {
            sql.push("EXISTS (SELECT FROM audit_logs WHERE id = ")
                .bind(Value::Id(last.id))
                .push(" AND created_at = ")
                .time(last.created_at)
                .push(")");
            match month_of(last.created_at) {
                // A dropped month takes all its rows along. Those that others have inserted into it since are newer.
                Some((from, to)) => {
                    sql.push(" OR NOT EXISTS (SELECT FROM audit_logs WHERE tx_id <= ")
                        .bind(Value::Number(last.tx));
                    sql.push(" AND created_at >= ").time(from);
                    sql.push(" AND created_at < ").time(to).push(")")
                }
                None => sql.push(" OR TRUE"),
            }
        }
    };
    sql
}

/// Whether the log is on the disk up to a place.
pub(super) fn is_flushed(place: &str) -> Sql {
    let mut sql = prepared("SELECT ");
    sql.bind(Value::Text(place.to_owned()))
        .push("::text::pg_lsn <= pg_current_wal_flush_lsn()");
    sql
}

/// The newest `tx_id` among rows of transactions that have not begun: another cluster has written them. No cluster can
/// give the last number, behind which there is no other.
pub(super) fn newest_ahead() -> Sql {
    prepared(
        "SELECT max(tx_id) FROM audit_logs \
         WHERE tx_id >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint AND tx_id < 9223372036854775807",
    )
}

/// The newest of the rows that are visible, by the order of the feed: its transaction, time and id.
pub(super) fn newest(from: i64, to: i64) -> Sql {
    let mut sql = sql("SELECT tx_id, created_at, id FROM audit_logs WHERE tx_id >= ");
    sql.bind(Value::Number(from)).push(" AND tx_id < ");
    sql.bind(Value::Number(to));
    sql.push(" ORDER BY tx_id DESC, created_at DESC, id DESC LIMIT 1");
    sql
}

/// How many rows a transaction has, and its last time.
pub(super) fn size(tx: i64) -> Sql {
    let mut sql = sql("SELECT count(*), max(created_at) FROM audit_logs WHERE tx_id = ");
    sql.bind(Value::Number(tx));
    sql
}

/// The rows of a window that pass the filter, in the order of transaction, time and id.
pub(super) fn rows(window: &Window, filter: &AuditFilter, limit: i64) -> Sql {
    let mut sql = sql("SELECT ");
    sql.push_columns().push(", created_at FROM audit_logs WHERE ");
    push_transactions(&mut sql, window);
    push_class(&mut sql, window);
    if let Some(Inside { after, .. }) = window.inside {
        sql.push(" AND created_at >= ").time(after.created_at);
        sql.push(" AND (created_at > ").time(after.created_at);
        sql.push(" OR id > ").bind(Value::Id(after.id)).push(")");
    }
    push_conditions(&mut sql, filter);
    sql.push(" ORDER BY tx_id, created_at, id LIMIT ")
        .bind(Value::Number(limit));
    sql
}

/// The settings under which [`at_time`] and [`behind_time`] use the indexes that have their order.
pub(super) const INDEXED: &str =
    "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off";

/// Further rows of a transaction with the time of the last one, in the order of their id: the primary key's. An import may
/// give one time to a million rows.
pub(super) fn at_time(window: &Window, after: Key, filter: &AuditFilter, limit: i64) -> Sql {
    let mut sql = sql("SELECT ");
    sql.push_columns().push(", created_at FROM audit_logs WHERE ");
    push_transactions(&mut sql, window);
    push_class(&mut sql, window);
    sql.push(" AND created_at = ").time(after.created_at);
    sql.push(" AND id > ").bind(Value::Id(after.id));
    push_conditions(&mut sql, filter);
    sql.push(" ORDER BY id LIMIT ").bind(Value::Number(limit));
    sql
}

/// The rows of a transaction behind a time.
pub(super) fn behind_time(window: &Window, after: Key, until: i64, filter: &AuditFilter, limit: i64) -> Sql {
    let mut sql = sql("SELECT ");
    sql.push_columns().push(", created_at FROM audit_logs WHERE ");
    push_transactions(&mut sql, window);
    push_class(&mut sql, window);
    sql.push(" AND created_at > ").time(after.created_at);
    sql.push(" AND created_at <= ").time(until);
    push_conditions(&mut sql, filter);
    sql.push(" ORDER BY created_at, id LIMIT ")
        .bind(Value::Number(limit));
    sql
}

fn sql(text: &'static str) -> Sql {
    Sql::new(Dialect::Postgres, Run::Once, text)
}

fn prepared(text: &'static str) -> Sql {
    Sql::new(Dialect::Postgres, Run::Prepared, text)
}

fn push_transactions(sql: &mut Sql, window: &Window) {
    if window.to == window.from.saturating_add(1) {
        sql.push("tx_id = ").bind(Value::Number(window.from));
    } else {
        sql.push("tx_id >= ").bind(Value::Number(window.from));
        sql.push(" AND tx_id < ").bind(Value::Number(window.to));
    }
    match window.part {
        Part::Late => sql
            .push(" AND tx_id = ANY (")
            .bind(Value::Numbers(window.listed.clone()))
            .push(")"),
        Part::New if !window.listed.is_empty() => sql
            .push(" AND tx_id <> ALL (")
            .bind(Value::Numbers(window.listed.clone()))
            .push(")"),
        Part::New | Part::Ahead(_) => sql,
    };
}

/// Whether the transaction that put the row where it is (`xmin`, the last 32 bits of its id) precedes `mark`.
fn push_class(sql: &mut Sql, window: &Window) {
    match (window.part, window.without) {
        (Part::Ahead(mark), _) => {
            push_since(sql.push(" AND NOT "), mark);
        }
        (_, Some(Ahead { mark, until, .. })) => {
            sql.push(" AND (tx_id < ").bind(Value::Number(mark));
            sql.push(" OR tx_id > ").bind(Value::Number(until));
            push_since(sql.push(" OR "), mark);
            // Half of all ids after the mark, that says no more of a row; but the cluster's own are not older than
            // their transaction. So none is lost, and another cluster's may come twice by then.
            sql.push(" OR ((xmin::text::bigint - tx_id) & 4294967295) < 2147483648)");
        }
        _ => {}
    }
}

fn push_since(sql: &mut Sql, mark: i64) {
    sql.push("((xmin::text::bigint - ").bind(Value::Number(mark));
    sql.push(") & 4294967295) < 2147483648");
}

/// Whether a statement may use the indexes in their order.
pub(super) fn way(rows: i64, last_time: i64, limit: usize) -> Way {
    let is_small = usize::try_from(rows).is_ok_and(|rows| rows <= limit.saturating_mul(16));
    if is_small {
        Way::Sorted
    } else {
        Way::Indexed(last_time)
    }
}
