//! Queries that see the rows of one tenant and of no other.

use diesel::sql_types::{Bool, Text};
use diesel::{QueryResult, sql_query};
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager};

use super::limits::TEXT_CHARS;
use crate::client::{Connection, Database, DatabaseError};

/// Names without a schema are looked for among the temporary ones first.
const SQLITE_VIEW: &str = "CREATE TEMP VIEW audit_logs AS SELECT * FROM main.audit_logs \
     WHERE tenant_id = (SELECT tenant_id FROM temp.audit_tenant)";

/// Why rows could not be read as one tenant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// No entry is found under such a tenant: it is empty, or longer or other than what is stored.
    #[error("a tenant has 1 to {TEXT_CHARS} characters, none of them NUL")]
    Tenant,
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database does not let this user take the place of a tenant's reader.
    #[error(
        "{database}: cannot read as a tenant: {source}; the migrations must have run, and this user be a \
         member of the reader's role: GRANT audit_reader TO …"
    )]
    Refused {
        /// The URL without credentials.
        database: String,
        /// What the database said.
        source: diesel::result::Error,
    },
    /// A query failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

diesel::define_sql_function! {
    /// Sets a setting of the session or, if `is_local`, of the transaction.
    fn set_config(name: Text, value: Text, is_local: Bool) -> Text;
}
diesel::define_sql_function! {
    /// The migration's function: the name of the role that has this part.
    fn audit_role(kind: Text) -> Text;
}

/// Reads with a connection on which `audit_logs` holds the rows of one tenant and no others. What
/// `read` gives is given back.
///
/// On PostgreSQL it is a read-only transaction with the rights of `audit_reader` alone, whoever
/// connects: row security holds for an owner, an auditor or a superuser as well. A query that joins
/// other tables needs a GRANT to that role. The tenant is set for the transaction, so neither the
/// pool's next user nor a pooler in front of the server inherits it. On SQLite, which knows no rights,
/// a temporary view takes the table's place: enough against a forgotten filter, and no more.
///
/// Against a forgotten filter is what this is for: code that runs SQL of its own choice in `read`
/// can choose another tenant.
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
/// For an empty tenant; when there is no connection; when this user is no member of `audit_reader`;
/// when a query fails.
///
/// # Cancel safety
/// Dropping the future, like a panic in `read`, closes the connection instead of giving it back to
/// the pool.
pub async fn for_tenant<T>(
    database: &Database,
    tenant: &str,
    read: impl AsyncFnOnce(&mut Connection) -> QueryResult<T>,
) -> Result<T, TenantError> {
    if tenant.is_empty() || tenant.contains('\0') || tenant.chars().count() > TEXT_CHARS {
        return Err(TenantError::Tenant);
    }
    let mut held = Held(None);
    let conn = held.0.insert(database.connection().await?);
    let refused = |source| TenantError::Refused {
        database: database.to_string(),
        source,
    };
    begin(conn, tenant).await.map_err(refused)?;
    let read = read(conn).await;
    // Nothing is written: the transaction's settings and the view go with it.
    let ended = end(conn).await;
    if ended.is_ok() {
        drop(held.0.take());
    }
    let value = read?;
    ended?;
    Ok(value)
}

async fn begin(conn: &mut Connection, tenant: &str) -> QueryResult<()> {
    match conn {
        Connection::Postgres(conn) => {
            begin_transaction(&mut **conn).await?;
            let reader = set_config("role", audit_role("reader"), true);
            let tenant = set_config("audit.tenant_id", tenant, true);
            let read_only = set_config("transaction_read_only", "on", true);
            diesel::select((reader, tenant, read_only)).execute(conn).await?;
        }
        Connection::Sqlite(conn) => {
            begin_transaction(&mut **conn).await?;
            let chosen = sql_query("CREATE TEMP TABLE audit_tenant AS SELECT ? AS tenant_id");
            chosen.bind::<Text, _>(tenant).execute(conn).await?;
            conn.batch_execute(SQLITE_VIEW).await?;
        }
    }
    Ok(())
}

async fn end(conn: &mut Connection) -> QueryResult<()> {
    match conn {
        Connection::Postgres(conn) => roll_back(&mut **conn).await,
        Connection::Sqlite(conn) => roll_back(&mut **conn).await,
    }
}

async fn begin_transaction<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::begin_transaction(conn).await
}

async fn roll_back<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::rollback_transaction(conn).await
}

/// A connection that is closed, not given back to the pool, unless it is taken out: in the pool, an
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
