//! The newest entries, and how many there are: queries without a filter.

use diesel::QueryResult;
use diesel::sql_types::BigInt;

use super::conditions::push_where;
use super::run::dialect;
use super::{AuditFilter, AuditQuery, Position};
use crate::audit::AuditLog;
use crate::client::Connection;

/// Returns the newest entries by `created_at`, the newest first, at most `limit`, without the records that
/// writers make about themselves (actions that begin with `audit.`).
///
/// It has no limit of time. [`AuditQuery`] has one, and filters.
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// Dropping the future loses nothing; on SQLite the query still ends by itself.
pub async fn latest(conn: &mut Connection, limit: u32) -> QueryResult<Vec<AuditLog>> {
    newest(conn, limit, AuditFilter::new().without_records()).await
}

/// As [`latest`], with the records that writers make about themselves.
///
/// # Errors
/// As [`latest`].
///
/// # Cancel safety
/// As [`latest`].
pub async fn latest_with_records(conn: &mut Connection, limit: u32) -> QueryResult<Vec<AuditLog>> {
    newest(conn, limit, AuditFilter::new()).await
}

async fn newest(conn: &mut Connection, limit: u32, filter: AuditFilter) -> QueryResult<Vec<AuditLog>> {
    let page = AuditQuery::unlimited(filter)
        .page(conn, &Position::Newest, limit)
        .await?;
    Ok(page.rows)
}

/// Returns the number of entries, without the records that writers make about themselves.
///
/// It has no limit of time, and reads all entries; [`AuditQuery::count`] stops at a bound.
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// As [`latest`].
pub async fn count(conn: &mut Connection) -> QueryResult<i64> {
    let query = AuditQuery::unlimited(AuditFilter::new().without_records());
    let mut sql = query.sql(dialect(conn), "SELECT count(*) FROM audit_logs");
    push_where(&mut sql, query.filter(), &Position::Newest, None);
    Ok(query.load::<BigInt, i64>(conn, sql).await?.into_iter().sum())
}
