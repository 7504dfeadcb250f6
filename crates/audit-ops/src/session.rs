//! Connections of an operator's command: no wait for a lock is without a bound, and nothing stays in a session.
//!
//! A pooler in transaction mode may be in between. It keeps a session only for the duration of a transaction, so
//! what is set or prepared outside of one would fail, or reach the next client of that session.

use db_services::client::{Connection, Database, DatabaseError};
use diesel::QueryableByName;
use diesel::connection::CacheSize;
use diesel::result::{DatabaseErrorInformation, Error};
use diesel::sql_types::{Nullable, Text};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};

use crate::OpsError;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Limits each wait for a lock to ten seconds until the transaction ends. A limit that the user, the database or the
/// URL has is left as it is.
pub(crate) const LIMIT_LOCKS: &str =
    "SELECT set_config('lock_timeout', '10s', true) WHERE current_setting('lock_timeout') = '0'";

/// The table that each other session has locked so that readers or writers wait, and the session's process. The
/// oldest table stands for all of them: a lock on `audit_logs` is one on each partition.
const HOLDERS: &str = "\
    SELECT string_agg(format('process %s holds %s on %s', pid, mode, relation::regclass), '; ' ORDER BY pid) AS holders \
    FROM (SELECT DISTINCT ON (l.pid) l.pid, l.mode, l.relation \
          FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
          WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relkind IN ('r', 'p') AND c.relname LIKE 'audit!_%' ESCAPE '!' \
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
            AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
          ORDER BY l.pid, l.relation) AS held";

/// Takes a connection that keeps no prepared statement: each is closed in the transaction that it was prepared in.
///
/// # Errors
/// As [`Database::connection`].
///
/// # Cancel safety
/// Dropping the future has no other effect.
pub async fn connect(database: &Database) -> Result<Connection, DatabaseError> {
    let mut conn = database.connection().await?;
    if let Connection::Postgres(conn) = &mut conn {
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    }
    Ok(conn)
}

/// Does the work in a transaction in which no wait for a lock takes longer than ten seconds, unless the user, the
/// database or the URL has another `lock_timeout`. On SQLite the work is done as it is: there the connection's limit
/// of five seconds applies.
///
/// # Errors
/// The error of the work, after which nothing is changed, or of the transaction. [`OpsError::Locked`] or
/// [`OpsError::LockedFile`] if another session kept its lock for longer.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn bounded<T, E: Into<OpsError>>(
    conn: &mut Connection,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
) -> Result<T, OpsError> {
    begin(conn).await?;
    let failed = match work(conn).await {
        Ok(value) => return commit(conn).await.map(|()| value),
        Err(error) => error.into(),
    };
    let Connection::Postgres(conn) = conn else {
        return Err(match failed {
            OpsError::Database(cause) if message(&cause) == "database is locked" => {
                OpsError::LockedFile(cause)
            }
            other => other,
        });
    };
    // The first error says more.
    let _ = Transactions::rollback_transaction(&mut **conn).await;
    Err(with_holders(conn, failed).await)
}

async fn begin(conn: &mut Connection) -> Result<(), OpsError> {
    let Connection::Postgres(conn) = conn else {
        return Ok(());
    };
    Transactions::begin_transaction(&mut **conn).await?;
    Ok(conn.batch_execute(LIMIT_LOCKS).await?)
}

async fn commit(conn: &mut Connection) -> Result<(), OpsError> {
    match conn {
        Connection::Postgres(conn) => Ok(Transactions::commit_transaction(&mut **conn).await?),
        Connection::Sqlite(_) => Ok(()),
    }
}

#[derive(QueryableByName)]
struct Holders {
    #[diesel(sql_type = Nullable<Text>)]
    holders: Option<String>,
}

/// The error, and if it is that of a lock, who holds the lock. To be called outside of a transaction.
pub(crate) async fn with_holders(conn: &mut AsyncPgConnection, error: OpsError) -> OpsError {
    match error {
        OpsError::Database(cause) if is_lock_timeout(&cause) => OpsError::Locked {
            holders: holders_of(conn).await,
            cause,
        },
        other => other,
    }
}

/// The server's processes that hold a lock on a table of the trail for which readers or writers wait, each with the
/// table. None if there is no such lock, if the database does not answer, and for SQLite.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn lock_holders(database: &Database) -> Option<String> {
    match connect(database).await {
        Ok(Connection::Postgres(mut conn)) => holders_of(&mut conn).await,
        _ => None,
    }
}

async fn holders_of(conn: &mut AsyncPgConnection) -> Option<String> {
    let found = AsyncConnection::transaction(conn, async |conn| {
        diesel::sql_query(HOLDERS).get_result::<Holders>(conn).await
    });
    found.await.ok()?.holders
}

/// Whether a wait for a lock ended it. Diesel has no SQLSTATE, so this is the text of a server that speaks English.
fn is_lock_timeout(error: &Error) -> bool {
    message(error).ends_with("due to lock timeout")
}

fn message(error: &Error) -> &str {
    match error {
        Error::DatabaseError(_, info) => DatabaseErrorInformation::message(&**info),
        _ => "",
    }
}
