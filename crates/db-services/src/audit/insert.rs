//! How do rows get into the table? The only INSERT statements.

use chrono::{DateTime, Utc};
use db_schema::NewAuditLog;
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
use tokio_postgres::types::{self, Type};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::ids::IdGenerator;
use super::pg_values::{Address, Json};
use super::{AuditEntry, limits};
use crate::client::{AsyncSqliteConnection, Connection};

/// The most entries that go into one INSERT.
pub(super) const BATCH_ROWS: usize = 1_000;

/// The most bytes of memory that the entries of one INSERT of a writer hold: 4 MiB.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// Inserts one entry on the caller's connection: inside a transaction it is committed or rolled
/// back with it. Limits apply as everywhere; `writer_id` and `writer_seq` stay empty. An entry without an
/// id gets a new one with each call.
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

/// Inserts many entries on the caller's connection, 1,000 in a statement, and returns how many were
/// inserted. An entry whose id and `created_at` are stored already is left as it is, so that an import can
/// be repeated. That needs an id and a `created_at` that are set in each entry: one without an id gets a
/// new one with each call, and is inserted again.
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
    let mut ids = IdGenerator::default();
    for chunk in entries.chunks(BATCH_ROWS) {
        let rows = chunk.iter().map(|entry| limits::row(entry.clone(), &mut ids)).collect();
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

/// Inserts rows into PostgreSQL with one statement, on a connection of diesel-async.
async fn array_insert(
    conn: &mut AsyncPgConnection,
    rows: &[NewAuditLog],
    on_repeat: OnRepeat,
) -> QueryResult<usize> {
    match on_repeat {
        OnRepeat::Fail => ArrayInsert::<false>(Columns::of(rows)).execute(conn).await,
        OnRepeat::Skip => ArrayInsert::<true>(Columns::of(rows)).execute(conn).await,
    }
}

/// The same statement for the writer's own connections, on tokio-postgres itself: only there is the
/// SQLSTATE to be had that tells whose fault a refusal is (docs/decisions/0006-whose-fault.md).
pub(super) struct PreparedInsert {
    plain: Statement,
    /// The same with VALUES, for one row: the server is done with it 7 µs sooner.
    one: Statement,
    /// Prepared when the first repeat needs it.
    skip: Option<Statement>,
}

impl PreparedInsert {
    pub(super) async fn new(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let plain = client.prepare_typed(&sql(OnRepeat::Fail), &Columns::TYPES).await?;
        let one = client.prepare(&values()).await?;
        Ok(Self { plain, one, skip: None })
    }

    pub(super) async fn run(
        &mut self,
        client: &Client,
        rows: &[NewAuditLog],
        on_repeat: OnRepeat,
    ) -> Result<u64, tokio_postgres::Error> {
        if let ([row], OnRepeat::Fail) = (rows, on_repeat) {
            return Columns::insert_one(client, &self.one, row).await;
        }
        let statement = match (on_repeat, &self.skip) {
            (OnRepeat::Fail, _) => &self.plain,
            (OnRepeat::Skip, Some(skip)) => skip,
            (OnRepeat::Skip, None) => {
                let skip = client.prepare_typed(&sql(OnRepeat::Skip), &Columns::TYPES).await?;
                self.skip.insert(skip)
            }
        };
        client.execute(statement, &Columns::of(rows).parameters()).await
    }
}

/// `INSERT … SELECT unnest($1), unnest($2), …`: an array for each column, so that the text is the
/// same for any number of rows, the prepared statement is reused, and 65,535 parameters are no
/// limit. The fastest form short of COPY (docs/decisions/0004-insert.md).
///
/// Skipping adds ON CONFLICT DO NOTHING, without a target: with one, a role that may only insert is
/// refused.
fn sql(on_repeat: OnRepeat) -> String {
    let values: Vec<String> = (1..=Columns::NAMES.len()).map(|nth| format!("unnest(${nth})")).collect();
    format!("{}{}{}", head(), values.join(", "), tail(on_repeat))
}

/// The statement for one row.
fn values() -> String {
    let values: Vec<String> = (1..=Columns::NAMES.len()).map(|nth| format!("${nth}")).collect();
    format!("INSERT INTO audit_logs ({}) VALUES ({})", Columns::NAMES.join(", "), values.join(", "))
}

fn head() -> String {
    format!("INSERT INTO audit_logs ({}) SELECT ", Columns::NAMES.join(", "))
}

fn tail(on_repeat: OnRepeat) -> &'static str {
    match on_repeat {
        OnRepeat::Fail => "",
        OnRepeat::Skip => " ON CONFLICT DO NOTHING",
    }
}

/// The statement as diesel runs it.
struct ArrayInsert<'a, const SKIP: bool>(Columns<'a>);

impl<const SKIP: bool> QueryId for ArrayInsert<'_, SKIP> {
    type QueryId = ArrayInsert<'static, SKIP>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// The columns that a writer sets, in one list: their names, their types in Rust and in SQL.
macro_rules! columns {
    ($($name:ident: $rust:ty, $sql:ty, $pg:ident, |$row:ident| $value:expr;)*) => {
        /// A batch by columns, an array each.
        struct Columns<'a> {
            $($name: Vec<$rust>,)*
        }

        impl<'a> Columns<'a> {
            const NAMES: [&'static str; 18] = [$(stringify!($name)),*];
            const TYPES: [Type; 18] = [$(Type::$pg),*];

            fn of(rows: &'a [NewAuditLog]) -> Self {
                Self { $($name: rows.iter().map(|$row| $value).collect(),)* }
            }

            fn parameters(&self) -> [&(dyn types::ToSql + Sync); 18] {
                [$(&self.$name),*]
            }

            async fn insert_one(
                client: &Client,
                statement: &Statement,
                row: &'a NewAuditLog,
            ) -> Result<u64, tokio_postgres::Error> {
                $(let $name: $rust = { let $row = row; $value };)*
                client.execute(statement, &[$(&$name),*]).await
            }
        }

        impl<const SKIP: bool> QueryFragment<Pg> for ArrayInsert<'_, SKIP> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql(&head());
                let mut before = "unnest(";
                $(
                    out.push_sql(std::mem::replace(&mut before, ", unnest("));
                    out.push_bind_param::<Array<$sql>, _>(&self.0.$name)?;
                    out.push_sql(")");
                )*
                out.push_sql(tail(if SKIP { OnRepeat::Skip } else { OnRepeat::Fail }));
                Ok(())
            }
        }
    };
}

columns! {
    id: Uuid, PgUuid, UUID_ARRAY, |row| row.id;
    created_at: DateTime<Utc>, Timestamptz, TIMESTAMPTZ_ARRAY, |row| row.created_at;
    tenant_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.tenant_id.as_deref();
    actor_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.actor_id.as_deref();
    actor_type: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.actor_type.as_deref();
    on_behalf_of: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.on_behalf_of.as_deref();
    action: &'a str, Text, TEXT_ARRAY, |row| row.action.as_str();
    outcome: &'a str, Text, TEXT_ARRAY, |row| row.outcome.as_str();
    resource_type: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.resource_type.as_deref();
    resource_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.resource_id.as_deref();
    ip_address: Option<Address>, Nullable<Inet>, INET_ARRAY, |row| row.ip_address.map(Address);
    user_agent: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.user_agent.as_deref();
    request_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.request_id.as_deref();
    trace_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.trace_id.as_deref();
    operation_id: Option<Uuid>, Nullable<PgUuid>, UUID_ARRAY, |row| row.operation_id;
    metadata: Json<'a>, Jsonb, JSONB_ARRAY, |row| Json(&row.metadata);
    writer_id: Option<Uuid>, Nullable<PgUuid>, UUID_ARRAY, |row| row.writer_id;
    writer_seq: Option<i64>, Nullable<BigInt>, INT8_ARRAY, |row| row.writer_seq;
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
