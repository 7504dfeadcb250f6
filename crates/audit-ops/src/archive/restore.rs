//! Restores an archive's rows into the trail.

use std::time::Duration;

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Jsonb, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::VerifiedArchive;
use super::read::Lines;
use super::rows::{RawJson, Row, SingleRow};
use super::stored::{Different, MonthRange, SETTINGS};
use super::trust::{Record, Trust, prepare};
use crate::postgres::{Number, postgres};
use crate::session::{Work, answered, bounded, transaction};
use crate::{ArchiveProblem, OpsError};

/// Rows are inserted in chunks of this many, or fewer once they have this many bytes.
const MAX_CHUNK_ROWS: usize = 1_000;
const MAX_CHUNK_BYTES: usize = 2 << 20;

/// How many rows of an archive were restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were stored already, the same in every column.
    pub already_stored: u64,
    /// Rows that are left out: the archive lacks a value of theirs, which could not be turned into text.
    pub unreadable: u64,
}

impl RestoreReport {
    fn processed(&self) -> u64 {
        self.inserted + self.already_stored + self.unreadable
    }
}

/// Inserts an archive's rows, every column as it was, in one transaction. Calls `progress` with the number
/// of rows processed. Records it in the ledger if any row was inserted; restoring again changes nothing.
/// Creates the month's partition first, in a transaction of its own.
///
/// A restored month is still due: the next retention run drops it again, unless a hold covers it.
///
/// # Errors
/// When the ledger has no entry about these rows ([`Trust`]), the user may not set every column (only the table's owner
/// may), the trail has a different row with the same id and time, a row is of another month, the file is not the one
/// that was checked, or another session is dropping or restoring a month.
///
/// # Cancel safety
/// Dropping the future restores nothing, or leaves it open whether it was restored.
pub async fn restore(
    conn: &mut Connection,
    archive: &VerifiedArchive,
    trust: &Trust,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoreReport, OpsError> {
    let (record, range) = prepare(conn, archive, trust).await?;
    let create = async |conn: &mut Connection| {
        let query = diesel::sql_query(
            "SELECT audit_logs_create_partition($1::timestamptz AT TIME ZONE 'UTC')::int::bigint AS value",
        );
        let query = query.bind::<Text, _>(&archive.manifest.from_time);
        Ok::<_, OpsError>(query.get_result::<Number>(postgres(conn)?).await?)
    };
    bounded(conn, create).await?;
    transaction(conn, Work::Long, async |conn, limit| {
        restore_all(postgres(conn)?, (archive, range), &record, limit, progress).await
    })
    .await
}

async fn restore_all(
    conn: &mut AsyncPgConnection,
    (archive, range): (&VerifiedArchive, MonthRange),
    record: &Record<'_>,
    limit: Duration,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoreReport, OpsError> {
    answered(limit, conn.batch_execute(SETTINGS)).await?;
    answered(limit, conn.batch_execute("SELECT audit_retention_lock()")).await?;
    // Nobody drops a month from now on.
    if !answered(limit, range.has_partitions(conn)).await? {
        return Err(OpsError::archive(&archive.path, ArchiveProblem::NoPartition));
    }
    let mut lines = Lines::open(&archive.path)?;
    let mut report = RestoreReport::default();
    loop {
        let (chunk, has_more) = next_chunk(&mut lines)?;
        match chunk {
            Chunk::Plain(plain) => {
                let inserted = answered(limit, insert(conn, &plain, range, archive)).await?;
                report.inserted += inserted;
                report.already_stored += plain.len() as u64 - inserted;
            }
            Chunk::Single(row) => {
                let members = std::slice::from_ref(&row.members);
                answered(limit, range.contains(conn, members, archive)).await?;
                restore_single(conn, *row, &mut lines, limit, &mut report).await?;
            }
        }
        progress(report.processed());
        if !has_more {
            break;
        }
    }
    // The file may have been replaced since it was checked.
    let is_changed = lines.finish()?.difference(&archive.manifest).is_some();
    if is_changed || report.processed() != archive.manifest.rows {
        return Err(OpsError::archive(&archive.path, ArchiveProblem::Changed));
    }
    if report.inserted > 0 {
        answered(limit, write_record(conn, archive, record)).await?;
    }
    Ok(report)
}

/// Rows that are inserted together.
pub(super) enum Chunk {
    Plain(Vec<String>),
    /// Its long values follow.
    Single(Box<SingleRow>),
}

/// The next rows, and whether more may follow.
pub(super) fn next_chunk(lines: &mut Lines) -> Result<(Chunk, bool), OpsError> {
    let (mut plain, mut bytes) = (Vec::new(), 0);
    while plain.len() < MAX_CHUNK_ROWS && bytes < MAX_CHUNK_BYTES {
        match lines.next_row(plain.is_empty())? {
            Some(Row::Plain(line)) => {
                bytes += line.len();
                plain.push(line);
            }
            Some(Row::Single(row)) => return Ok((Chunk::Single(row), true)),
            None => break,
        }
    }
    let has_more = lines.has_pending() || plain.len() == MAX_CHUNK_ROWS || bytes >= MAX_CHUNK_BYTES;
    Ok((Chunk::Plain(plain), has_more))
}

/// Inserts lines and returns how many were new. Checks that the table then has exactly these rows, all of the month.
async fn insert(
    conn: &mut AsyncPgConnection,
    lines: &[String],
    range: MonthRange,
    archive: &VerifiedArchive,
) -> Result<u64, OpsError> {
    range.contains(conn, lines, archive).await?;
    // By column name, because a later version of the table may have more columns.
    let insert = diesel::sql_query(
        "WITH inserted AS ( \
             INSERT INTO audit_logs SELECT r.* FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
             ON CONFLICT DO NOTHING RETURNING 1) \
         SELECT count(*) AS value FROM inserted",
    );
    let inserted: Number = insert.bind::<Array<Text>, _>(lines).get_result(conn).await?;
    match range.different(conn, lines).await? {
        Different { rows: 0, .. } => Ok(inserted.value.unsigned_abs()),
        Different { rows, example } => Err(OpsError::RowConflict { rows, row: example }),
    }
}

/// The table from which audit_logs_restore_row() takes long values.
const PIECES: &str =
    "CREATE TEMP TABLE audit_restore_pieces (name name, nth bigint, piece text) ON COMMIT DROP";

#[derive(QueryableByName)]
struct Inserted {
    #[diesel(sql_type = Nullable<Bool>)]
    value: Option<bool>,
}

/// Inserts a row alone, after the pieces of its long values.
async fn restore_single(
    conn: &mut AsyncPgConnection,
    mut row: SingleRow,
    lines: &mut Lines,
    limit: Duration,
    report: &mut RestoreReport,
) -> Result<(), OpsError> {
    if !row.unreadable.is_empty() {
        report.unreadable += 1;
        return row.long.into_iter().try_for_each(|value| value.verify(lines));
    }
    if !row.long.is_empty() {
        answered(limit, conn.batch_execute(PIECES)).await?;
    }
    let (mut columns, mut hashes) = (Vec::new(), Vec::new());
    while let Some(mut value) = row.long.pop_front() {
        let mut nth = 0;
        while let Some(piece) = value.next_piece(lines)? {
            let query =
                diesel::sql_query("INSERT INTO pg_temp.audit_restore_pieces VALUES ($1::name, $2, $3)")
                    .bind::<Text, _>(&value.column)
                    .bind::<BigInt, _>(nth)
                    .bind::<Text, _>(piece);
            answered(limit, query.execute(conn)).await?;
            nth += 1;
        }
        columns.push(value.column);
        hashes.push(value.sha256);
    }
    let query = diesel::sql_query("SELECT audit_logs_restore_row($1::json, $2::name[], $3, $4) AS value")
        .bind::<Text, _>(&row.members)
        .bind::<Array<Text>, _>(&columns)
        .bind::<Array<Text>, _>(hashes)
        .bind::<Nullable<Jsonb>, _>(row.metadata.as_deref().map(RawJson));
    let (rows, example) = (1, row.line);
    match answered(limit, query.get_result::<Inserted>(conn)).await?.value {
        Some(true) => report.inserted += 1,
        Some(false) => report.already_stored += 1,
        None => return Err(OpsError::RowConflict { rows, row: example }),
    }
    if !columns.is_empty() {
        answered(
            limit,
            conn.batch_execute("DROP TABLE pg_temp.audit_restore_pieces"),
        )
        .await?;
    }
    Ok(())
}

/// Adds the entry to the ledger.
async fn write_record(
    conn: &mut AsyncPgConnection,
    archive: &VerifiedArchive,
    record: &Record<'_>,
) -> Result<(), OpsError> {
    let manifest = &archive.manifest;
    let query = diesel::sql_query(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, reason, overrides) \
         SELECT coalesce(max(id), 0) + 1, 'restored', $1, $2::timestamptz, $3::timestamptz, $4, $5, $6, $7, $8, $9 \
         FROM audit_retention_ledger",
    )
    .bind::<Text, _>(&manifest.month)
    .bind::<Text, _>(&manifest.from_time)
    .bind::<Text, _>(&manifest.to_time)
    .bind::<BigInt, _>(manifest.rows as i64)
    .bind::<Bytea, _>(&archive.digest[..])
    .bind::<Text, _>(&manifest.file)
    .bind::<Bytea, _>(&archive.file_sha256[..])
    .bind::<Text, _>(record.reason)
    .bind::<Array<Text>, _>(Vec::from_iter(record.overridden));
    query.execute(conn).await?;
    Ok(())
}
