//! How is the trail read back?

use db_schema::AuditLog;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::client::Connection;

/// What the writers put on record about themselves.
const WRITERS_OWN: &str = "audit.%";

/// Gives the newest entries by `created_at`, the newest first, at most `limit`; the writers' own rows
/// (actions that begin with `audit.`) only if `with_writers_own`.
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// Dropping the future loses nothing; on SQLite it waits for the query to end.
pub async fn latest(conn: &mut Connection, limit: u32, with_writers_own: bool) -> QueryResult<Vec<AuditLog>> {
    let limit = i64::from(limit);
    match conn {
        Connection::Postgres(conn) => {
            use db_schema::schema::audit_logs::dsl::*;
            let newest = || {
                let rows = audit_logs
                    .order((created_at.desc(), id.desc()))
                    .limit(limit)
                    .into_boxed();
                if with_writers_own {
                    rows
                } else {
                    rows.filter(action.not_like(WRITERS_OWN))
                }
            };
            // No b-tree serves the order by time across tenants. The last day or month, found by
            // partition and BRIN, usually holds a page: 20 ms instead of 1.4 s at ten million rows.
            for days in [1, 31] {
                let since = chrono::Utc::now() - chrono::TimeDelta::days(days);
                let page: Vec<AuditLog> = newest().filter(created_at.ge(since)).load(conn).await?;
                if page.len() as i64 == limit {
                    return Ok(page);
                }
            }
            newest().load(conn).await
        }
        Connection::Sqlite(conn) => {
            use db_schema::sqlite::schema::audit_logs::dsl::*;
            let rows = audit_logs
                .order((created_at.desc(), id.desc()))
                .limit(limit)
                .into_boxed();
            let rows = if with_writers_own {
                rows
            } else {
                rows.filter(action.not_like(WRITERS_OWN))
            };
            rows.load(conn).await
        }
    }
}

/// Gives the number of entries, the writers' own rows left out.
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// As [`latest`].
pub async fn count(conn: &mut Connection) -> QueryResult<i64> {
    match conn {
        Connection::Postgres(conn) => {
            use db_schema::schema::audit_logs::dsl::*;
            audit_logs
                .filter(action.not_like(WRITERS_OWN))
                .count()
                .get_result(conn)
                .await
        }
        Connection::Sqlite(conn) => {
            use db_schema::sqlite::schema::audit_logs::dsl::*;
            audit_logs
                .filter(action.not_like(WRITERS_OWN))
                .count()
                .get_result(conn)
                .await
        }
    }
}
