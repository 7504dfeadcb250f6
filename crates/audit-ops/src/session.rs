//! Connections of an operator's command: no wait for a lock or an answer is without a bound, and nothing stays in a
//! session.
//!
//! A pooler in transaction mode may be in between. It keeps a session only for the duration of a transaction, so
//! what is set or prepared outside of one would fail, or reach the next client of that session.

use std::time::Duration;

use db_services::audit::Reading;
use db_services::client::{Connection, Database, DatabaseError};
use diesel::QueryableByName;
use diesel::connection::CacheSize;
use diesel::result::{DatabaseErrorInformation, Error};
use diesel::sql_types::{Integer, Nullable, Text};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};

use crate::OpsError;
use crate::postgres::Number;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// The longest wait for the answer to a statement that takes no time, and for what exceeds `statement_timeout`.
const ANSWER: Duration = Duration::from_secs(15);

/// How long the statements of a transaction may take, and what they see.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Five minutes each.
    Short,
    /// Six hours each: their time grows with the number of rows.
    Long,
    /// The same, and they read one snapshot.
    Snapshot,
}

impl Work {
    /// Limits each wait for a lock to ten seconds, and each statement, until the transaction ends. Limits that the
    /// user, the database or the URL has are left as they are.
    fn limits(self) -> String {
        // Whatever the user's or the database's default is: a month is dropped only in READ COMMITTED.
        let (snapshot, longest) = match self {
            Self::Short => ("READ COMMITTED", "5min"),
            Self::Long => ("READ COMMITTED", "6h"),
            Self::Snapshot => ("REPEATABLE READ, READ ONLY", "6h"),
        };
        format!(
            "SET TRANSACTION ISOLATION LEVEL {snapshot}; \
             SELECT set_config('lock_timeout', '10s', true) WHERE current_setting('lock_timeout') = '0'; \
             SELECT set_config('statement_timeout', '{longest}', true) WHERE current_setting('statement_timeout') = '0'"
        )
    }
}

/// In milliseconds.
const STATEMENT_TIMEOUT: &str =
    "SELECT setting::bigint AS value FROM pg_settings WHERE name = 'statement_timeout'";

/// The other sessions that hold a lock on a table of the trail, or wait for one: each with the strongest lock and the
/// session's process. A session that waits is in the way as well: later ones queue behind it. The oldest table stands for
/// all of them: a lock on `audit_logs` is one on each partition. A prepared transaction has no process.
const HOLDERS: &str = "\
    WITH trail AS ( \
        SELECT c.oid FROM pg_class a JOIN pg_class c ON c.relnamespace = a.relnamespace AND c.relkind IN ('r', 'p') \
            AND (c.relname LIKE 'audit!_%' ESCAPE '!' OR c.relname = '__diesel_schema_migrations') \
        WHERE a.oid = to_regclass('audit_logs') \
        UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('audit_logs')), \
    locks AS ( \
        SELECT DISTINCT ON (l.pid, l.virtualtransaction) l.*, strength \
        FROM pg_locks l JOIN trail ON trail.oid = l.relation, \
             array_position('{AccessShareLock, RowShareLock, RowExclusiveLock, ShareUpdateExclusiveLock, ShareLock, \
                              ShareRowExclusiveLock, ExclusiveLock, AccessExclusiveLock}'::text[], l.mode) AS strength \
        WHERE l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid() AND strength >= $1 \
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
        ORDER BY l.pid, l.virtualtransaction, strength DESC, l.relation), \
    named AS ( \
        SELECT l.*, row_number() OVER (ORDER BY l.strength DESC, l.granted DESC, l.pid) AS nth, \
               format('%s%s %s %s on %s', \
                      coalesce('process ' || l.pid, 'prepared transaction ' || quote_literal(p.gid), 'a prepared transaction'), \
                      coalesce(' of ' || coalesce(s.usename, p.owner)::text, ''), \
                      CASE WHEN l.granted THEN 'holds' ELSE 'waits for' END, l.mode, l.relation::regclass) AS text \
        FROM locks l LEFT JOIN pg_stat_activity s ON s.pid = l.pid \
        LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' \
                            AND x.virtualtransaction = l.virtualtransaction \
        LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid) \
    SELECT string_agg(text, '; ' ORDER BY nth) FILTER (WHERE nth <= 20) \
           || CASE WHEN count(*) > 20 THEN format('; and %s others', count(*) - 20) ELSE '' END AS holders \
    FROM named";

/// The weakest mode of a lock that is in the way of something, by its place among the modes.
#[derive(Clone, Copy)]
enum InTheWay {
    /// Of maintenance, which locks tables against everybody.
    OfMaintenance = 1,
    /// Of an INSERT.
    OfWriters = 5,
}

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

/// Does the work in a transaction in which no wait for a lock takes longer than ten seconds, and no statement longer
/// than five minutes, unless the user, the database or the URL has another `lock_timeout` or `statement_timeout`. If the
/// server is still silent 15 seconds after the limit of a statement, it is not waited for any longer. On SQLite the work
/// is done as it is: there the connection's limit of five seconds applies.
///
/// # Errors
/// The error of the work, after which nothing is changed, or of the transaction. [`OpsError::Locked`] or
/// [`OpsError::LockedFile`] if another session kept its lock for longer, [`OpsError::Silent`] if the server did not
/// answer.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn bounded<T, E: Into<OpsError>>(
    conn: &mut Connection,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
) -> Result<T, OpsError> {
    transaction(conn, Work::Short, async |conn, limit| {
        answered(limit, work(conn)).await
    })
    .await
}

/// The same for work whose time grows with the number of rows: a statement may take six hours.
///
/// # Errors
/// As [`bounded`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn bounded_long<T, E: Into<OpsError>>(
    conn: &mut Connection,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
) -> Result<T, OpsError> {
    transaction(conn, Work::Long, async |conn, limit| {
        answered(limit, work(conn)).await
    })
    .await
}

/// Sets the tenant for the transaction.
pub(crate) const SET_TENANT: &str = "SELECT pg_catalog.set_config('audit.tenant_id', $1, true)";

/// Names the tenant whose rows the policy for readers shows, until the transaction ends. Only that role is limited by it.
/// Nothing on SQLite, which has no roles.
///
/// # Errors
/// When the database does not answer.
///
/// # Cancel safety
/// As the transaction in which it is.
pub async fn set_tenant(conn: &mut Connection, tenant: &str) -> Result<(), OpsError> {
    if let Connection::Postgres(conn) = conn {
        let set = diesel::sql_query(SET_TENANT);
        set.bind::<Text, _>(tenant).execute(conn).await?;
    }
    Ok(())
}

/// Records in the trail that it was read, in the transaction that has read it.
///
/// # Errors
/// [`OpsError::NotRecorded`] if the database does not take the record: then nothing should be shown.
///
/// # Cancel safety
/// As the transaction in which it is.
pub async fn record_reading(conn: &mut Connection, reading: &Reading) -> Result<(), OpsError> {
    let recorded = db_services::audit::record_reading(conn, reading).await;
    recorded.map_err(|error| match is_lock_timeout(&error) {
        true => error.into(),
        false => OpsError::NotRecorded(error),
    })
}

/// Does work of many statements in a transaction. The work has to wait for each answer by [`answered`], with the limit
/// that it gets.
pub(crate) async fn transaction<T>(
    conn: &mut Connection,
    kind: Work,
    work: impl AsyncFnOnce(&mut Connection, Duration) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let limit = answered(ANSWER, begin(conn, kind)).await?;
    let failed = match work(conn, limit).await {
        Ok(value) => return answered(limit, commit(conn)).await.map(|()| value),
        Err(error) => error,
    };
    if matches!(failed, OpsError::Silent(_)) {
        // It would not answer this either. The pool closes a connection whose transaction is open.
        return Err(failed);
    }
    let Connection::Postgres(conn) = conn else {
        return Err(match failed {
            OpsError::Database(cause) if message(&cause) == "database is locked" => {
                OpsError::LockedFile(cause)
            }
            other => other,
        });
    };
    // The first error says more.
    let _ = answered(ANSWER, Transactions::rollback_transaction(&mut **conn)).await;
    Err(with_holders(conn, failed).await)
}

/// Waits for an answer of the server. After an error of silence the connection is of no use.
pub(crate) async fn answered<T, E: Into<OpsError>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, OpsError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(OpsError::Silent(limit)),
    }
}

/// Begins a transaction. Returns the longest wait for the answer to one of its statements.
async fn begin(conn: &mut Connection, kind: Work) -> Result<Duration, OpsError> {
    let Connection::Postgres(conn) = conn else {
        return Ok(Duration::MAX);
    };
    if Transactions::is_broken_transaction_manager(&mut **conn) {
        // Diesel does not use it again either.
        return Err(diesel::result::Error::BrokenTransactionManager.into());
    }
    Transactions::begin_transaction(&mut **conn).await?;
    conn.batch_execute(&kind.limits()).await?;
    let timeout = diesel::sql_query(STATEMENT_TIMEOUT);
    let timeout = timeout.get_result::<Number>(conn).await?.value.unsigned_abs();
    Ok(Duration::from_millis(timeout) + ANSWER)
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
            holders: holders_of(conn, InTheWay::OfMaintenance).await,
            cause,
        },
        other => other,
    }
}

/// The server's processes that hold a lock on a table of the trail for which writers wait, or wait for one themselves,
/// each with the table. None if there is no such lock, if the database does not answer, and for SQLite.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn lock_holders(database: &Database) -> Option<String> {
    match connect(database).await {
        Ok(Connection::Postgres(mut conn)) => holders_of(&mut conn, InTheWay::OfWriters).await,
        _ => None,
    }
}

async fn holders_of(conn: &mut AsyncPgConnection, in_the_way: InTheWay) -> Option<String> {
    let found = AsyncConnection::transaction(conn, async |conn| {
        let query = diesel::sql_query(HOLDERS).bind::<Integer, _>(in_the_way as i32);
        query.get_result::<Holders>(conn).await
    });
    answered(ANSWER, found).await.ok()?.holders
}

/// Whether a wait for a lock ended it. Diesel has no SQLSTATE, so this is the text of a server that speaks English, or of
/// one of the trail's functions.
pub(crate) fn is_lock_timeout(error: &Error) -> bool {
    let message = message(error);
    message.ends_with("due to lock timeout")
        || message.contains(", other sessions locked the table during ")
        || message.ends_with("another session drops or restores a month")
}

fn message(error: &Error) -> &str {
    match error {
        Error::DatabaseError(_, info) => DatabaseErrorInformation::message(&**info),
        _ => "",
    }
}
