//! How is PostgreSQL asked?

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::AsyncPgConnection;

use crate::OpsError;

/// The connection, if it is one to PostgreSQL.
pub(crate) fn postgres(conn: &mut Connection) -> Result<&mut AsyncPgConnection, OpsError> {
    match conn {
        Connection::Postgres(conn) => Ok(conn),
        Connection::Sqlite(_) => Err(OpsError::Sqlite),
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
        concat!("regexp_replace(to_json(", $time, " AT TIME ZONE 'UTC') #>> '{}', '(\\d)( BC)?$', '\\1Z\\2')")
    };
}
pub(crate) use utc;
