//! Inserts rows into `audit_logs`: the only INSERT statements, and what they mean by success. `Ok` says that
//! every row is stored: the number of inserted rows is compared with the number sent, and the rows that a
//! statement has left out are looked up.

mod lookup;
mod postgres;
mod sqlite;
mod statement;

use std::borrow::Borrow;

use db_schema::NewAuditLog;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::pooled_connection::deadpool::Object;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ids::IdGenerator;
use super::row::LogRow;
use super::{AuditEntry, context, limits};
use crate::client::{AsyncSqliteConnection, Connection};
pub(super) use lookup::{StoredAs, UniqueIndex, look_up, violated_index};
pub(super) use sqlite::sqlite_insert;
pub(super) use statement::PreparedInsert;

/// The most entries that go into one INSERT.
pub(super) const BATCH_ROWS: usize = audit_core::writer::limits::MAX_BATCH_ROWS;

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
/// When the database rejects the row, also because an entry with this id and `created_at` is stored, and
/// when a trigger or a rule of the operator's skips it.
///
/// Return the error from the closure of `transaction`, as the example does with `?`. On PostgreSQL a failed
/// statement ends the transaction: a closure that ignores the error and returns `Ok` lets diesel-async send a
/// COMMIT, which the server answers with a rollback and no error. `transaction` then returns `Ok`, and neither the
/// entry nor anything else of the transaction is stored.
///
/// # Cancel safety
/// Not cancel-safe on SQLite, where dropping the future waits for the statement. On PostgreSQL a
/// dropped future leaves it open whether the row was inserted; roll back.
pub async fn insert<C: AuditConnection>(conn: &mut C, entry: &AuditEntry) -> QueryResult<()> {
    let rows = rows(&[entry], &mut IdGenerator::default());
    conn.insert_rows(rows, OnConflict::Error).await.map(|_| ())
}

/// Inserts many entries on the caller's connection, 1,000 in a statement, and returns how many were not
/// stored before. An entry whose id and `created_at` are stored is left as it is, so that an import can
/// be repeated. That needs an id and a `created_at` that are set in each entry: one without an id gets a
/// new one with each call, and is inserted again. `Ok` means that every entry is stored.
///
/// The entries are one unit only in a transaction of the caller. They are inserted in the order of `created_at`
/// and id, so that two imports of the same entries wait for each other and do not end in a deadlock.
///
/// # Errors
/// When the database rejects a row, or a trigger, a rule or a unique index of the operator's keeps one from
/// being stored; the error says which. Others may be stored then; inside a transaction, roll back.
///
/// # Cancel safety
/// As [`insert`].
pub async fn insert_many<C: AuditConnection>(conn: &mut C, entries: &[AuditEntry]) -> QueryResult<usize> {
    let (mut inserted, mut ids) = (0, IdGenerator::default());
    let mut entries: Vec<&AuditEntry> = entries.iter().collect();
    entries.sort_by_key(|entry| (entry.created_at.timestamp_micros(), entry.id));
    for chunk in entries.chunks(BATCH_ROWS) {
        let rows = rows(chunk, &mut ids);
        inserted += conn.insert_rows(rows, OnConflict::DoNothing).await?;
    }
    Ok(inserted)
}

/// The rows of entries, which the current context has filled.
fn rows(entries: &[&AuditEntry], ids: &mut IdGenerator) -> Vec<NewAuditLog> {
    let mut entries: Vec<AuditEntry> = entries.iter().copied().cloned().collect();
    context::fill(&mut entries);
    entries.into_iter().map(|entry| limits::row(entry, ids)).collect()
}

/// How an insert treats a row whose id and time are stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum OnConflict {
    /// Reject the whole statement.
    Error,
    /// Leave the stored row as it is.
    DoNothing,
}

/// Why a row is not stored although no statement failed.
pub(super) const SKIPPED: &str = "a trigger or rule of audit_logs skipped the row";

/// The error of a row that was skipped.
fn skipped() -> Error {
    Error::DatabaseError(DatabaseErrorKind::CheckViolation, Box::new(SKIPPED.to_owned()))
}

impl Borrow<NewAuditLog> for LogRow {
    fn borrow(&self) -> &NewAuditLog {
        self
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A connection that [`insert`] and [`insert_many`] take: diesel-async's for PostgreSQL and for
/// SQLite, either of them from a deadpool pool, or a [`Connection`] of this crate.
pub trait AuditConnection: sealed::Sealed + Send {
    /// Inserts rows with one statement (on SQLite: in one transaction or savepoint), and returns how many
    /// were not stored before. `Ok` means that every row is stored.
    #[doc(hidden)]
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, QueryResult<usize>>;
}

impl sealed::Sealed for AsyncPgConnection {}
impl AuditConnection for AsyncPgConnection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        async move { postgres::insert(self, &rows, on_conflict).await }.boxed()
    }
}

impl sealed::Sealed for AsyncSqliteConnection {}
impl AuditConnection for AsyncSqliteConnection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        self.spawn_blocking(move |conn| sqlite_insert(conn, &rows, on_conflict).map(|inserted| inserted.new))
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
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        (**self).insert_rows(rows, on_conflict)
    }
}

impl sealed::Sealed for Connection {}
impl AuditConnection for Connection {
    fn insert_rows(
        &mut self,
        rows: Vec<NewAuditLog>,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, QueryResult<usize>> {
        match self {
            Self::Postgres(conn) => conn.insert_rows(rows, on_conflict),
            Self::Sqlite(conn) => conn.insert_rows(rows, on_conflict),
        }
    }
}
