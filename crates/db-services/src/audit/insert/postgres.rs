//! Inserts on a caller's connection to PostgreSQL, in its transaction if there is one.

use db_schema::NewAuditLog;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, TransactionManager};

use super::lookup::{IS_PRIMARY_KEY, LOOK_UP, MAY_LOOK_UP, UniqueIndex};
use super::{OnConflict, skipped, statement};

/// Inserts rows and returns how many were not stored before; `Ok` means that every row is stored.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    rows: &[NewAuditLog],
    on_conflict: OnConflict,
) -> QueryResult<usize> {
    let inserted = statement::execute(conn, rows, on_conflict).await?;
    match on_conflict {
        _ if inserted == rows.len() => Ok(inserted),
        OnConflict::Error => Err(skipped()),
        OnConflict::DoNothing => Ok(inserted + insert_missing(conn, rows).await?),
    }
}

/// Inserts alone each row that is not known to be stored: the database's answer to it says what became
/// of it. Returns how many were inserted now.
async fn insert_missing(conn: &mut AsyncPgConnection, rows: &[NewAuditLog]) -> QueryResult<usize> {
    let is_stored = look_up(conn, rows).await?;
    let mut inserted = 0;
    for (row, _) in rows.iter().zip(is_stored).filter(|(_, is_stored)| !is_stored) {
        match insert_one(conn, row).await {
            Ok(0) => return Err(skipped()),
            Ok(new) => inserted += new,
            Err(error) if violates_primary_key(conn, &error).await? => {}
            Err(error) => return Err(error),
        }
    }
    Ok(inserted)
}

/// Says of each row whether it is known to be stored.
async fn look_up(conn: &mut AsyncPgConnection, rows: &[NewAuditLog]) -> QueryResult<Vec<bool>> {
    #[derive(QueryableByName)]
    struct MayLookUp {
        #[diesel(sql_type = Bool)]
        value: bool,
    }
    #[derive(QueryableByName)]
    struct Stored {
        #[diesel(sql_type = Nullable<Array<Nullable<Bool>>>)]
        value: Option<Vec<Option<bool>>>,
    }
    let may: MayLookUp = diesel::sql_query(MAY_LOOK_UP).get_result(conn).await?;
    if !may.value {
        return Ok(vec![false; rows.len()]);
    }
    let stored: Stored = diesel::sql_query(LOOK_UP)
        .bind::<Array<Uuid>, _>(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
        .bind::<Array<Nullable<Uuid>>, _>(rows.iter().map(|row| row.writer_id).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|row| row.writer_seq).collect::<Vec<_>>())
        .get_result(conn)
        .await?;
    let mut is_stored: Vec<bool> = stored
        .value
        .unwrap_or_default()
        .into_iter()
        .map(|row| row.is_some())
        .collect();
    is_stored.resize(rows.len(), false);
    Ok(is_stored)
}

/// Inserts a row; an error of it leaves the caller's transaction as it was.
async fn insert_one(conn: &mut AsyncPgConnection, row: &NewAuditLog) -> QueryResult<usize> {
    type Manager = <AsyncPgConnection as AsyncConnection>::TransactionManager;
    let row = std::slice::from_ref(row);
    if Manager::transaction_manager_status_mut(conn)
        .transaction_depth()?
        .is_none()
    {
        return statement::execute(conn, row, OnConflict::Error).await;
    }
    // In a savepoint.
    conn.transaction(async |conn| statement::execute(conn, row, OnConflict::Error).await)
        .await
}

async fn violates_primary_key(conn: &mut AsyncPgConnection, error: &Error) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Index {
        #[diesel(sql_type = Nullable<Bool>)]
        value: Option<bool>,
    }
    let Error::DatabaseError(DatabaseErrorKind::UniqueViolation, server) = error else {
        return Ok(false);
    };
    let name = server.constraint_name().unwrap_or_default().to_owned();
    let index: Index = diesel::sql_query(IS_PRIMARY_KEY)
        .bind::<Text, _>(name)
        .get_result(conn)
        .await?;
    Ok(UniqueIndex::new(index.value) == UniqueIndex::PrimaryKey)
}
