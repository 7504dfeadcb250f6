//! Access to the PostgreSQL connection, and SQL that several modules share.

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::OpsError;

/// The PostgreSQL connection, or [`OpsError::Sqlite`].
pub(crate) fn postgres(conn: &mut Connection) -> Result<&mut AsyncPgConnection, OpsError> {
    match conn {
        Connection::Postgres(conn) => Ok(conn),
        Connection::Sqlite(_) => Err(OpsError::Sqlite),
    }
}

/// Checks that the database has the functions that this crate calls.
///
/// # Errors
/// When it is SQLite, lacks the migration, or does not answer.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn ensure_migrated(conn: &mut Connection) -> Result<(), OpsError> {
    let query = diesel::sql_query("SELECT count(to_regproc('audit_retention_lock')) AS value");
    match query.get_result::<Number>(postgres(conn)?).await?.value {
        0 => Err(OpsError::NotMigrated),
        _ => Ok(()),
    }
}

/// The result of a query for a single number.
#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(crate) value: i64,
}

/// SQL for a time as text in UTC, independent of the session's settings: `2024-01-01T00:00:00Z`, with ` BC`
/// for years before Christ, or `infinity`. As text because PostgreSQL's range of times exceeds chrono's.
macro_rules! utc_text {
    ($time:literal) => {
        concat!(
            "regexp_replace(to_json(",
            $time,
            " AT TIME ZONE 'UTC') #>> '{}', '([0-9])( BC)?$', E'\\\\1Z\\\\2')"
        )
    };
}
pub(crate) use utc_text;
