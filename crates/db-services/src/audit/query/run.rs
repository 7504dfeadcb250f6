//! Runs a statement within a limit of time.

use std::pin::pin;
use std::time::{Duration, Instant};

use diesel::connection::DefaultLoadingMode;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{QueryResult, SqliteConnection};
use diesel_async::methods::LoadQuery;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};
use futures_util::TryStreamExt;

use super::functions;
use super::sql::{Dialect, Run, Statement};
use crate::client::{AsyncSqliteConnection, Connection};

/// Why a statement returned nothing.
#[derive(Debug)]
pub(in crate::audit) enum Failure {
    /// Its time limit was reached.
    Late,
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    /// The server ends a statement with an error that diesel knows no kind of. It began to count after `begun`.
    fn of(error: Error, begun: Instant, limit: Duration) -> Self {
        let is_late = begun.elapsed() >= limit;
        match error {
            Error::DatabaseError(DatabaseErrorKind::Unknown, _) if is_late => Self::Late,
            other => Self::Database(other),
        }
    }
}

pub(in crate::audit) fn dialect(conn: &Connection) -> Dialect {
    match conn {
        Connection::Postgres(_) => Dialect::Postgres,
        Connection::Sqlite(_) => Dialect::Sqlite,
    }
}

pub(in crate::audit) async fn sqlite<ST, U>(
    conn: &mut AsyncSqliteConnection,
    statement: Statement<ST>,
) -> Result<Vec<U>, Failure>
where
    Statement<ST>: diesel::query_dsl::LoadQuery<'static, SqliteConnection, U> + Send + 'static,
    U: Send + 'static,
{
    let run = statement.run();
    let limit = run.limit().unwrap_or(Duration::MAX);
    let begun = Instant::now();
    let loaded = conn.spawn_blocking(move |conn| {
        if run != Run::Prepared {
            functions::register(conn, begun, limit)?;
        }
        diesel::RunQueryDsl::load(statement, conn)
    });
    loaded.await.map_err(|error| Failure::of(error, begun, limit))
}

pub(in crate::audit) async fn postgres<ST, U>(
    conn: &mut AsyncPgConnection,
    statement: Statement<ST>,
) -> Result<Vec<U>, Failure>
where
    Statement<ST>: LoadQuery<'static, AsyncPgConnection, U> + Send + 'static,
    U: Send,
{
    let Some(limit) = statement.run().limit() else {
        return Ok(statement.load(conn).await?);
    };
    let scope = begin(conn, Some(limit)).await?;
    let begun = Instant::now();
    let loaded = statement.load(conn).await;
    let loaded = loaded.map_err(|error| Failure::of(error, begun, limit));
    match (loaded, end(conn, scope).await) {
        (Ok(rows), Ok(())) => Ok(rows),
        (Err(failure), _) => Err(failure),
        (Ok(_), Err(error)) => Err(error.into()),
    }
}

/// Rows up to the one of which `is_last` is true, and whether there was one. Others are not kept, although the server may
/// send them.
pub(in crate::audit) async fn postgres_until<ST, U>(
    conn: &mut AsyncPgConnection,
    statement: Statement<ST>,
    mut is_last: impl FnMut(&U) -> bool,
) -> Result<(Vec<U>, bool), Failure>
where
    Statement<ST>: LoadQuery<'static, AsyncPgConnection, U> + Send + 'static,
    U: Send + 'static,
{
    let mut stream = pin!(statement.load_stream(conn).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
        if rows.last().is_some_and(&mut is_last) {
            return Ok((rows, true));
        }
    }
    Ok((rows, false))
}

/// The same on SQLite, which reads no others.
pub(in crate::audit) async fn sqlite_until<ST, U>(
    conn: &mut AsyncSqliteConnection,
    statement: Statement<ST>,
    mut is_last: impl FnMut(&U) -> bool + Send + 'static,
) -> Result<(Vec<U>, bool), Failure>
where
    Statement<ST>: diesel::query_dsl::LoadQuery<'static, SqliteConnection, U> + Send + 'static,
    U: Send + 'static,
{
    let loaded = conn.spawn_blocking(move |conn| {
        functions::register(conn, Instant::now(), Duration::MAX)?;
        let mut rows = Vec::new();
        for row in diesel::RunQueryDsl::load_iter::<U, DefaultLoadingMode>(statement, conn)? {
            rows.push(row?);
            if rows.last().is_some_and(&mut is_last) {
                return Ok((rows, true));
            }
        }
        Ok((rows, false))
    });
    Ok(loaded.await?)
}

/// What the setting of the time limit ends with.
#[derive(Clone, Copy)]
pub(in crate::audit) enum Scope {
    Transaction,
    /// Within a transaction of the caller.
    Savepoint,
}

/// Limits the statements that follow, for as long as the transaction or the savepoint lasts: a pooled session is left as
/// it was. A shorter limit of the server or the user stays. The planner prefers an index to the table, as on an SSD. It
/// does not compile the statement (`jit`), which can take longer than a page does.
pub(in crate::audit) async fn begin(
    conn: &mut AsyncPgConnection,
    limit: Option<Duration>,
) -> QueryResult<Scope> {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    let is_nested = status.transaction_depth()?.is_some();
    let set = settings(limit);
    if is_nested {
        conn.batch_execute(&format!("SAVEPOINT audit_query; {set}"))
            .await?;
        Ok(Scope::Savepoint)
    } else {
        let begin = format!("BEGIN READ ONLY; {set}");
        AnsiTransactionManager::begin_transaction_sql(conn, &begin).await?;
        Ok(Scope::Transaction)
    }
}

fn settings(limit: Option<Duration>) -> String {
    let set = "SET LOCAL random_page_cost = 1.1; SET LOCAL jit = off";
    let Some(limit) = limit else {
        return set.to_owned();
    };
    let millis = limit.as_micros().div_ceil(1000).clamp(1, i32::MAX as u128);
    format!(
        "SELECT pg_catalog.set_config('statement_timeout', '{millis}', true) \
         WHERE pg_catalog.current_setting('statement_timeout')::interval \
               NOT BETWEEN '1 microsecond' AND '{millis} milliseconds'; {set}"
    )
}

/// Rolls back, which undoes the setting, and an error of the statement.
pub(in crate::audit) async fn end(conn: &mut AsyncPgConnection, scope: Scope) -> QueryResult<()> {
    match scope {
        Scope::Transaction => AnsiTransactionManager::rollback_transaction(conn).await,
        Scope::Savepoint => {
            conn.batch_execute("ROLLBACK TO SAVEPOINT audit_query; RELEASE SAVEPOINT audit_query")
                .await
        }
    }
}
