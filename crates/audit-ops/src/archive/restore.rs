//! Restores an archive's rows into the trail.

use std::time::Duration;

use db_services::client::Connection;
use diesel::sql_types::{Array, BigInt, Bytea, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::VerifiedArchive;
use super::read::Lines;
use crate::postgres::{Number, postgres};
use crate::session::{Work, answered, bounded, transaction};
use crate::{ArchiveProblem, OpsError};

/// Rows are inserted in chunks of this many, or fewer once they have this many bytes.
const MAX_CHUNK_ROWS: usize = 1_000;
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// How many rows of an archive were restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were stored already, the same in every column.
    pub already_stored: u64,
}

/// Inserts an archive's rows, every column as it was, in one transaction. Calls `progress` with the number
/// of rows processed. Records it in the ledger if any row was inserted; restoring again changes nothing.
/// Creates the month's partition first, in a transaction of its own.
///
/// A restored month is still due: the next retention run drops it again, unless a hold covers it.
///
/// # Errors
/// When the user may not set every column (only the table's owner may), the trail has a different row with
/// the same id and time, the file is not the one that was checked, or another session is dropping or
/// restoring a month.
///
/// # Cancel safety
/// Dropping the future restores nothing, or leaves it open whether it was restored.
pub async fn restore(
    conn: &mut Connection,
    archive: &VerifiedArchive,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoreReport, OpsError> {
    bounded(conn, async |conn| {
        create_partition(postgres(conn)?, archive).await
    })
    .await?;
    transaction(conn, Work::Long, async |conn, limit| {
        restore_all(postgres(conn)?, archive, limit, progress).await
    })
    .await
}

async fn create_partition(conn: &mut AsyncPgConnection, archive: &VerifiedArchive) -> Result<(), OpsError> {
    let query = diesel::sql_query(
        "SELECT audit_logs_create_partition($1::timestamptz AT TIME ZONE 'UTC')::int::bigint AS value",
    );
    let query = query.bind::<Text, _>(&archive.manifest.from_time);
    query.get_result::<Number>(conn).await?;
    Ok(())
}

async fn restore_all(
    conn: &mut AsyncPgConnection,
    archive: &VerifiedArchive,
    limit: Duration,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoreReport, OpsError> {
    let lock = conn.batch_execute("SET LOCAL timezone = 'UTC'; SELECT audit_retention_lock()");
    answered(limit, lock).await?;
    let mut lines = Lines::open(&archive.path)?;
    let mut report = RestoreReport {
        inserted: 0,
        already_stored: 0,
    };
    loop {
        let chunk = next_chunk(&mut lines)?;
        if chunk.is_empty() {
            break;
        }
        let inserted = answered(limit, insert(conn, &chunk)).await?;
        report.inserted += inserted;
        report.already_stored += chunk.len() as u64 - inserted;
        progress(report.inserted + report.already_stored);
    }
    if lines.digest() != archive.digest {
        return Err(OpsError::archive(&archive.path, ArchiveProblem::Changed));
    }
    if report.inserted > 0 {
        answered(limit, record(conn, archive)).await?;
    }
    Ok(report)
}

fn next_chunk(lines: &mut Lines) -> Result<Vec<String>, OpsError> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < MAX_CHUNK_ROWS && bytes < MAX_CHUNK_BYTES {
        let Some(line) = lines.next()? else { break };
        bytes += line.len();
        chunk.push(line.to_owned());
    }
    Ok(chunk)
}

/// Inserts lines and returns how many were new. Checks that the table then has exactly these rows.
async fn insert(conn: &mut AsyncPgConnection, lines: &[String]) -> Result<u64, OpsError> {
    // By column name, because a later version of the table may have more columns.
    let insert = diesel::sql_query(
        "WITH inserted AS ( \
             INSERT INTO audit_logs SELECT r.* FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
             ON CONFLICT DO NOTHING RETURNING 1) \
         SELECT count(*) AS value FROM inserted",
    );
    let inserted: Number = insert.bind::<Array<Text>, _>(lines).get_result(conn).await?;
    let conflicting = diesel::sql_query(
        "SELECT count(*) AS value FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
         WHERE NOT EXISTS (SELECT FROM audit_logs a WHERE a.id = r.id AND a.created_at = r.created_at AND a *= r)",
    );
    match conflicting
        .bind::<Array<Text>, _>(lines)
        .get_result::<Number>(conn)
        .await?
        .value
    {
        0 => Ok(inserted.value.unsigned_abs()),
        rows => Err(OpsError::RowConflict { rows }),
    }
}

/// Adds the entry to the ledger.
async fn record(conn: &mut AsyncPgConnection, archive: &VerifiedArchive) -> Result<(), OpsError> {
    let manifest = &archive.manifest;
    let query = diesel::sql_query(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, reason) \
         SELECT coalesce(max(id), 0) + 1, 'restored', $1, $2::timestamptz, $3::timestamptz, $4, $5, $6, $7, 'restored from an archive' \
         FROM audit_retention_ledger",
    )
    .bind::<Text, _>(&manifest.month)
    .bind::<Text, _>(&manifest.from_time)
    .bind::<Text, _>(&manifest.to_time)
    .bind::<BigInt, _>(manifest.rows as i64)
    .bind::<Bytea, _>(&archive.digest[..])
    .bind::<Text, _>(&manifest.file)
    .bind::<Bytea, _>(&archive.file_sha256[..]);
    query.execute(conn).await?;
    Ok(())
}
