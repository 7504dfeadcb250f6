//! Inserts into SQLite.

use std::borrow::Borrow;

use db_schema::NewAuditLog;
use db_schema::sqlite::schema::audit_logs;
use diesel::connection::TransactionManager;
use diesel::prelude::*;

use super::lookup::StoredAs;
use super::{OnConflict, skipped};

/// The result of an insert after which every row is stored.
#[derive(Debug, Default)]
pub(in crate::audit) struct Inserted {
    /// How many were not stored before.
    pub(in crate::audit) new: usize,
    /// Those that were stored before under another number, by their index.
    pub(in crate::audit) duplicates: Vec<usize>,
}

/// Inserts rows in a transaction of their own or within the caller's; `Ok` means that every row is stored.
pub(in crate::audit) fn sqlite_insert<R: Borrow<NewAuditLog>>(
    conn: &mut SqliteConnection,
    rows: &[R],
    on_conflict: OnConflict,
) -> QueryResult<Inserted> {
    let insert_all = |conn: &mut SqliteConnection| {
        let mut inserted = Inserted::default();
        for (index, row) in rows.iter().enumerate() {
            match insert_one(conn, row.borrow(), on_conflict)? {
                None => inserted.new += 1,
                Some(StoredAs::ItsNumber) => {}
                Some(StoredAs::AnotherNumber) => inserted.duplicates.push(index),
            }
        }
        Ok(inserted)
    };
    type Manager = <SqliteConnection as diesel::Connection>::TransactionManager;
    let within = Manager::transaction_manager_status_mut(conn)
        .transaction_depth()?
        .is_some();
    if within {
        diesel::Connection::transaction(conn, insert_all)
    } else {
        // Takes the write lock first: one that began by reading could not wait for it.
        conn.immediate_transaction(insert_all)
    }
}

/// Inserts a row, and returns none; or as what it was stored before.
fn insert_one(
    conn: &mut SqliteConnection,
    row: &NewAuditLog,
    on_conflict: OnConflict,
) -> QueryResult<Option<StoredAs>> {
    // Not INSERT OR IGNORE: the table's guard against REPLACE would reject the stored row first.
    if on_conflict == OnConflict::DoNothing
        && let Some(stored) = look_up(conn, row)?
    {
        return Ok(Some(stored));
    }
    let columns = db_schema::sqlite::NewAuditLog::from(row);
    let changes = diesel::insert_into(audit_logs::table)
        .values(columns)
        .execute(conn)?;
    // RAISE(IGNORE) in a trigger skips the row without an error.
    if changes == 0 {
        // It may be stored all the same: a trigger may ignore a row whose key is.
        return look_up(conn, row)?.map_or_else(|| Err(skipped()), |stored| Ok(Some(stored)));
    }
    Ok(None)
}

/// Returns as what a row is stored, if it is.
fn look_up(conn: &mut SqliteConnection, row: &NewAuditLog) -> QueryResult<Option<StoredAs>> {
    let stored = audit_logs::table
        .find(db_schema::sqlite::NewAuditLog::from(row).key())
        .select((audit_logs::writer_id, audit_logs::writer_seq))
        .first::<(Option<Vec<u8>>, Option<i64>)>(conn)
        .optional()?;
    let number = (
        row.writer_id.as_ref().map(|id| &id.as_bytes()[..]),
        row.writer_seq,
    );
    Ok(stored.map(|(writer, seq)| StoredAs::new((writer.as_deref(), seq) == number)))
}
