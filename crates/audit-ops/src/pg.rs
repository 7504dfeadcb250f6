//! How is PostgreSQL asked?

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::OpsError;

/// The connection, if it is one to PostgreSQL.
pub(crate) fn postgres(conn: &mut Connection) -> Result<&mut AsyncPgConnection, OpsError> {
    match conn {
        Connection::Postgres(conn) => Ok(conn),
        Connection::Sqlite(_) => Err(OpsError::Sqlite),
    }
}

/// Makes sure that the database has what this crate calls.
///
/// # Errors
/// When it is SQLite, lacks the migration, or does not answer.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn ready(conn: &mut Connection) -> Result<(), OpsError> {
    let query = diesel::sql_query("SELECT count(to_regproc('audit_retention_lock')) AS value");
    match query.get_result::<Number>(postgres(conn)?).await?.value {
        0 => Err(OpsError::NotMigrated),
        _ => Ok(()),
    }
}

/// What a function of the database gives back.
#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(crate) value: i64,
}

/// SQL for a time as text, in UTC, whatever the session's settings: `2024-01-01T00:00:00Z`, years before
/// Christ with ` BC`, `infinity`. As text because a time of PostgreSQL can be beyond what chrono holds.
macro_rules! utc {
    ($time:literal) => {
        concat!(
            "regexp_replace(to_json(",
            $time,
            " AT TIME ZONE 'UTC') #>> '{}', '(\\d)( BC)?$', '\\1Z\\2')"
        )
    };
}
pub(crate) use utc;
