//! Queries that see the rows of one tenant and of no other.

mod postgres;
mod sqlite;

use diesel::QueryResult;
use diesel_async::pooled_connection::deadpool::Object;

use super::limits::{TEXT_CHARS, is_stored_as_it_is};
use crate::client::{Connection, Database, DatabaseError};

/// Why rows could not be read as one tenant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// No entry is found under such a tenant: it is empty, or stored under [another name](super::limits).
    #[error(
        "a tenant has 1 to {TEXT_CHARS} characters, none of them NUL, and does not end with … and 64 hexadecimal digits"
    )]
    Tenant,
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database does not let this user assume the role of a tenant's reader.
    #[error(
        "{database}: cannot read as a tenant: {source}; the migrations must have run, and this user be a \
         member of the reader's role: GRANT audit_reader TO …"
    )]
    Refused {
        /// The URL without credentials.
        database: String,
        /// The database's error.
        source: diesel::result::Error,
    },
    /// A query failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// The role, the tenant, the transaction or the session is not what was set before the read, or this cannot
    /// be verified. Rows of other tenants may have been read; the result of the read was dropped.
    #[error(
        "{database}: the result of a read as one tenant was dropped, because it may have rows of others: {reason}"
    )]
    Changed {
        /// The URL without credentials.
        database: String,
        /// What was changed, or the error of the verification.
        reason: String,
    },
}

/// Reads with a connection on which `audit_logs` holds the rows of one tenant and no others. Returns what
/// `read` returns.
///
/// On PostgreSQL it is a read-only transaction with the rights of `audit_reader` alone, whoever
/// connects: row security holds for an owner, an auditor or a superuser as well. A query that joins
/// other tables needs a GRANT to that role. The tenant is set for the transaction, so neither the
/// pool's next user nor a pooler in front of the server inherits it. On SQLite, which has no roles,
/// a temporary view named `audit_logs` hides the table, which `main.audit_logs` still names.
///
/// The transaction is always rolled back. Before that, role, tenant, transaction and session are compared
/// with what was set. If SQL in `read` has ended the transaction or changed one of them, or a nested transaction
/// was left open (by a timeout around it), the result is [`TenantError::Changed`]. This protects against mistakes,
/// and not against SQL that chooses another tenant on purpose and undoes that before it returns.
///
/// The next user of the connection finds it unchanged: settings are rolled back, session-level advisory locks
/// are released, and a connection that cannot be verified or has lost a prepared statement is closed. Not noticed are
/// changes by Rust code, such as a collation that is registered on SQLite, SQLite's PRAGMAs that affect only speed, and
/// `DEALLOCATE` of a statement that `read` itself was the first to use on the connection. PRAGMAs that are settings of the
/// process (`hard_heap_limit`, `soft_heap_limit`, `temp_store_directory`) are noticed, also those of other threads, but
/// not undone.
///
/// Behind a pooler in transaction mode the connection that is closed is that to the pooler. SQL in `read` that ends the
/// transaction leaves a prepared statement in the server's session (`audit_tenant_…`), and what it sets after that
/// remains too: the pooler's next client gets the session as it is.
///
/// A call within `read` takes a second connection of the pool and is independent of the first one. If ten
/// outer calls do that at the same time, all of them wait for each other and fail after 5 seconds: make the calls
/// one after the other.
///
/// On PostgreSQL it takes three round trips, besides those of `read`.
///
/// ```no_run
/// use db_services::audit::{self, AuditLog, TenantError};
/// use db_services::client::Database;
///
/// async fn page(database: &Database, tenant: &str) -> Result<(i64, Vec<AuditLog>), TenantError> {
///     audit::for_tenant(database, tenant, async |conn| {
///         Ok((audit::count(conn).await?, audit::latest(conn, 50).await?))
///     })
///     .await
/// }
/// ```
///
/// # Errors
/// For a tenant that is empty or not stored [as it is](super::limits); when there is no connection; when this user is no member of `audit_reader`;
/// when a query fails; when the result may have rows of others. A statement that fails on PostgreSQL aborts the
/// transaction, so if `read` ignores such an error and returns a value, that is [`TenantError::Changed`] too.
///
/// # Cancel safety
/// Dropping the future, like a panic in `read`, closes the connection instead of returning it to the pool.
pub async fn for_tenant<T>(
    database: &Database,
    tenant: &str,
    read: impl AsyncFnOnce(&mut Connection) -> QueryResult<T>,
) -> Result<T, TenantError> {
    if tenant.is_empty() || !is_stored_as_it_is(tenant) {
        return Err(TenantError::Tenant);
    }
    let mut held = Held(None);
    let conn = held.0.insert(database.connection().await?);
    let session = begin(conn, tenant).await.map_err(|source| TenantError::Refused {
        database: database.to_string(),
        source,
    })?;
    let read = read(conn).await;
    let ended = end(conn, tenant, session, read.is_err()).await;
    if ended.is_ok() {
        drop(held.0.take());
    }
    let value = read?;
    ended.map_err(|Changed(reason)| TenantError::Changed {
        database: database.to_string(),
        reason,
    })?;
    Ok(value)
}

/// What was changed, or the error of the verification.
struct Changed(String);

const NESTED: &str = "a nested transaction was left open";

impl From<diesel::result::Error> for Changed {
    fn from(error: diesel::result::Error) -> Self {
        Self(error.to_string())
    }
}

/// What is compared at the end.
enum Session {
    /// The transaction has it, but for the name of a prepared statement.
    Postgres(String),
    Sqlite(sqlite::Session),
}

async fn begin(conn: &mut Connection, tenant: &str) -> QueryResult<Session> {
    match conn {
        Connection::Postgres(conn) => postgres::begin(conn, tenant).await.map(Session::Postgres),
        Connection::Sqlite(conn) => {
            let tenant = tenant.to_owned();
            let session = conn.spawn_blocking(move |conn| sqlite::begin(conn, &tenant));
            session.await.map(Session::Sqlite)
        }
    }
}

/// Verifies that nothing was changed, and rolls back. After an error the connection must be closed.
async fn end(conn: &mut Connection, tenant: &str, session: Session, has_failed: bool) -> Result<(), Changed> {
    match (conn, session) {
        (Connection::Postgres(conn), Session::Postgres(statement)) => {
            postgres::end(conn, tenant, &statement, has_failed).await
        }
        (Connection::Sqlite(conn), Session::Sqlite(session)) => {
            let ended = conn.spawn_blocking(move |conn| Ok(sqlite::end(conn, &session)));
            ended.await?
        }
        // `read` may replace the connection.
        _ => Err(Changed("it is a connection to another database".to_owned())),
    }
}

/// A connection that is closed, not returned to the pool, unless it is taken out: in the pool, an
/// open transaction would hold old rows until the next user came.
struct Held(Option<Connection>);

impl Drop for Held {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Connection::Postgres(object)) => drop(Object::take(object)),
            Some(Connection::Sqlite(object)) => drop(Object::take(object)),
            None => {}
        }
    }
}
