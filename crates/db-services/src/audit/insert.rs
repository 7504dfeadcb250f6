//! How do rows get into the table? The only INSERT statements.

use db_schema::{JsonText, NewAuditLog};
use diesel::connection::TransactionManager;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Inet, Jsonb, Nullable, Text, Timestamptz, Uuid as PgUuid};
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use uuid::Uuid;

use super::AuditEntry;
use crate::client::{AsyncSqliteConnection, Connection};

/// The most entries that go into one INSERT.
pub(super) const BATCH_ROWS: usize = 1_000;

/// Inserts one entry on the caller's connection: inside a transaction it is committed or rolled
/// back with it. Limits apply as everywhere; `writer_id` and `writer_seq` stay empty.
///
/// ```no_run
/// use db_services::audit::{self, AuditEntry};
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
///
/// async fn close(conn: &mut AsyncPgConnection) -> diesel::QueryResult<()> {
///     conn.transaction(async |conn| {
///         // … change the account …
///         audit::insert(conn, &AuditEntry::new("account.close").actor("alice")).await
///     })
///     .await
/// }
/// ```
///
/// # Errors
/// When the database refuses the row, also because an entry with this id and `created_at` is there.
///
/// # Cancel safety
/// Not cancel-safe on SQLite, where dropping the future waits for the statement. On PostgreSQL a
/// dropped future leaves it open whether the row was inserted; roll back.
pub async fn insert<C: AuditConnection>(conn: &mut C, entry: &AuditEntry) -> QueryResult<()> {
    conn.insert_rows(vec![NewAuditLog::from(entry)], OnRepeat::Fail).await.map(|_| ())
}

/// Inserts many entries on the caller's connection, 1,000 in a statement, and gives back how many
/// were not there yet. An entry whose id and `created_at` are stored already is left as it is, so
/// that an import can be repeated.
///
/// Only a transaction of the caller makes more than 1,000 entries one unit.
///
/// # Errors
/// When the database refuses a row; the rows of that statement are then not stored.
///
/// # Cancel safety
/// As [`insert`].
pub async fn insert_many<C: AuditConnection>(conn: &mut C, entries: &[AuditEntry]) -> QueryResult<usize> {
    let mut inserted = 0;
    for chunk in entries.chunks(BATCH_ROWS) {
        let rows = chunk.iter().map(NewAuditLog::from).collect();
        inserted += conn.insert_rows(rows, OnRepeat::Skip).await?;
    }
    Ok(inserted)
}

/// What to do with a row whose id and time are in the table already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum OnRepeat {
    /// Refuse the whole statement.
    Fail,
    /// Leave the stored row as it is.
    Skip,
}

mod sealed {
    pub trait Sealed {}
}

/// A connection that [`insert`] and [`insert_many`] take: diesel-async's for PostgreSQL and for
/// SQLite, either of them from a deadpool pool, or a [`Connection`] of this crate.
pub trait AuditConnection: sealed::Sealed + Send {
    /// Inserts rows with one statement (on SQLite: in one transaction or savepoint).
    #[doc(hidden)]
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_repeat: OnRepeat,
    ) -> BoxFuture<'_, QueryResult<usize>>;
}

impl sealed::Sealed for AsyncPgConnection {}
impl AuditConnection for AsyncPgConnection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_repeat: OnRepeat,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        async move { array_insert(self, &rows, on_repeat).await }.boxed()
    }
}

impl sealed::Sealed for AsyncSqliteConnection {}
impl AuditConnection for AsyncSqliteConnection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_repeat: OnRepeat,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        self.spawn_blocking(move |conn| sqlite_insert(conn, &rows, on_repeat))
    }
}

impl<C: PoolableConnection> sealed::Sealed for Object<C> where
    diesel_async::pooled_connection::AsyncDieselConnectionManager<C>: deadpool::managed::Manager<Type = C>
{
}
impl<C: PoolableConnection + AuditConnection> AuditConnection for Object<C>
where
    diesel_async::pooled_connection::AsyncDieselConnectionManager<C>: deadpool::managed::Manager<Type = C>,
    Object<C>: std::ops::DerefMut<Target = C> + Send,
{
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_repeat: OnRepeat,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        (**self).insert_rows(rows, on_repeat)
    }
}

impl sealed::Sealed for Connection {}
impl AuditConnection for Connection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_repeat: OnRepeat,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        match self {
            Self::Postgres(conn) => conn.insert_rows(rows, on_repeat),
            Self::Sqlite(conn) => conn.insert_rows(rows, on_repeat),
        }
    }
}

/// Inserts rows into PostgreSQL with one statement.
pub(super) async fn array_insert(
    conn: &mut AsyncPgConnection,
    rows: &[NewAuditLog],
    on_repeat: OnRepeat,
) -> QueryResult<usize> {
    match on_repeat {
        OnRepeat::Fail => ArrayInsert::<false>::new(rows).execute(conn).await,
        OnRepeat::Skip => ArrayInsert::<true>::new(rows).execute(conn).await,
    }
}

/// `INSERT … SELECT unnest($1), unnest($2), …`: an array for each column, so that the text is the
/// same for any number of rows, the prepared statement is reused, and 65,535 parameters are no
/// limit. The fastest form short of COPY (docs/decisions/0004-insert.md).
///
/// `SKIP` adds ON CONFLICT DO NOTHING, without a target: with one, a role that may only insert is
/// refused.
struct ArrayInsert<'a, const SKIP: bool> {
    id: Vec<Uuid>,
    created_at: Vec<chrono::DateTime<chrono::Utc>>,
    tenant_id: Vec<Option<&'a str>>,
    actor_id: Vec<Option<&'a str>>,
    actor_type: Vec<Option<&'a str>>,
    on_behalf_of: Vec<Option<&'a str>>,
    action: Vec<&'a str>,
    outcome: Vec<&'a str>,
    resource_type: Vec<Option<&'a str>>,
    resource_id: Vec<Option<&'a str>>,
    ip_address: Vec<Option<IpNet>>,
    user_agent: Vec<Option<&'a str>>,
    request_id: Vec<Option<&'a str>>,
    trace_id: Vec<Option<&'a str>>,
    operation_id: Vec<Option<Uuid>>,
    metadata: Vec<&'a JsonText>,
    writer_id: Vec<Option<Uuid>>,
    writer_seq: Vec<Option<i64>>,
}

impl<'a, const SKIP: bool> ArrayInsert<'a, SKIP> {
    fn new(rows: &'a [NewAuditLog]) -> Self {
        fn column<'a, T>(rows: &'a [NewAuditLog], of: impl Fn(&'a NewAuditLog) -> T) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        Self {
            id: column(rows, |row| row.id),
            created_at: column(rows, |row| row.created_at),
            tenant_id: column(rows, |row| row.tenant_id.as_deref()),
            actor_id: column(rows, |row| row.actor_id.as_deref()),
            actor_type: column(rows, |row| row.actor_type.as_deref()),
            on_behalf_of: column(rows, |row| row.on_behalf_of.as_deref()),
            action: column(rows, |row| row.action.as_str()),
            outcome: column(rows, |row| row.outcome.as_str()),
            resource_type: column(rows, |row| row.resource_type.as_deref()),
            resource_id: column(rows, |row| row.resource_id.as_deref()),
            ip_address: column(rows, |row| row.ip_address),
            user_agent: column(rows, |row| row.user_agent.as_deref()),
            request_id: column(rows, |row| row.request_id.as_deref()),
            trace_id: column(rows, |row| row.trace_id.as_deref()),
            operation_id: column(rows, |row| row.operation_id),
            metadata: column(rows, |row| &row.metadata),
            writer_id: column(rows, |row| row.writer_id),
            writer_seq: column(rows, |row| row.writer_seq),
        }
    }
}

impl<const SKIP: bool> QueryFragment<Pg> for ArrayInsert<'_, SKIP> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, on_behalf_of, action, \
             outcome, resource_type, resource_id, ip_address, user_agent, request_id, trace_id, operation_id, \
             metadata, writer_id, writer_seq) SELECT unnest(",
        );
        out.push_bind_param::<Array<PgUuid>, _>(&self.id)?;
        // The columns in the order of the list above.
        macro_rules! columns {
            ($($column:ident: $sql_type:ty),* $(,)?) => {$(
                out.push_sql("), unnest(");
                out.push_bind_param::<Array<$sql_type>, _>(&self.$column)?;
            )*};
        }
        columns! {
            created_at: Timestamptz,
            tenant_id: Nullable<Text>,
            actor_id: Nullable<Text>,
            actor_type: Nullable<Text>,
            on_behalf_of: Nullable<Text>,
            action: Text,
            outcome: Text,
            resource_type: Nullable<Text>,
            resource_id: Nullable<Text>,
            ip_address: Nullable<Inet>,
            user_agent: Nullable<Text>,
            request_id: Nullable<Text>,
            trace_id: Nullable<Text>,
            operation_id: Nullable<PgUuid>,
            metadata: Jsonb,
            writer_id: Nullable<PgUuid>,
            writer_seq: Nullable<BigInt>,
        }
        out.push_sql(if SKIP { ") ON CONFLICT DO NOTHING" } else { ")" });
        Ok(())
    }
}

impl<const SKIP: bool> QueryId for ArrayInsert<'_, SKIP> {
    type QueryId = ArrayInsert<'static, SKIP>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// Inserts rows into SQLite, in a transaction of their own or within the caller's.
pub(super) fn sqlite_insert(
    conn: &mut SqliteConnection,
    rows: &[NewAuditLog],
    on_repeat: OnRepeat,
) -> QueryResult<usize> {
    let insert_all = |conn: &mut SqliteConnection| {
        let mut inserted = 0;
        for row in rows {
            inserted += sqlite_insert_one(conn, row, on_repeat)?;
        }
        Ok(inserted)
    };
    type Manager = <SqliteConnection as diesel::Connection>::TransactionManager;
    let within = Manager::transaction_manager_status_mut(conn).transaction_depth()?.is_some();
    if within {
        diesel::Connection::transaction(conn, insert_all)
    } else {
        // Takes the write lock first: one that began by reading could not wait for it.
        conn.immediate_transaction(insert_all)
    }
}

fn sqlite_insert_one(
    conn: &mut SqliteConnection,
    row: &NewAuditLog,
    on_repeat: OnRepeat,
) -> QueryResult<usize> {
    use db_schema::sqlite::schema::audit_logs;
    use diesel::dsl::exists;
    let row = db_schema::sqlite::NewAuditLog::from(row);
    let known = || audit_logs::table.find(row.key());
    // Not INSERT OR IGNORE: the table's guard against REPLACE would refuse the repeat first.
    if on_repeat == OnRepeat::Skip && diesel::RunQueryDsl::get_result(diesel::select(exists(known())), conn)?
    {
        return Ok(0);
    }
    diesel::RunQueryDsl::execute(diesel::insert_into(audit_logs::table).values(row), conn)
}
