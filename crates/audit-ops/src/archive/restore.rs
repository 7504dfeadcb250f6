//! Restores an archive's rows into the trail.

use std::time::Duration;

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Jsonb, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::prove::RawJson;
use super::read::Lines;
use super::rows::{Row, SingleRow};
use super::{LedgerVerdict, VerifiedArchive, compare_with_ledger};
use crate::postgres::{Number, postgres};
use crate::session::{Work, answered, bounded, transaction};
use crate::{ArchiveProblem, OpsError, retention};

/// Rows are inserted in chunks of this many, or fewer once they have this many bytes.
const MAX_CHUNK_ROWS: usize = 1_000;
const MAX_CHUNK_BYTES: usize = 2 << 20;

/// Which archives are restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those whose rows an entry of the ledger has, by number, range and digest.
    Ledger,
    /// Any, for this reason. The ledger records it, and that the archive was not in the ledger or differed from it.
    Operator(String),
}

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

/// Compares an archive with the ledger of this database.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn check_ledger(
    conn: &mut Connection,
    archive: &VerifiedArchive,
) -> Result<LedgerVerdict, OpsError> {
    let ledger = bounded(conn, retention::ledger).await?;
    Ok(compare_with_ledger(&archive.manifest, &ledger))
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
    let verdict = check_ledger(conn, archive).await?;
    let record = record_of(archive, verdict, trust)?;
    bounded(conn, async |conn| {
        create_partition(postgres(conn)?, archive).await
    })
    .await?;
    transaction(conn, Work::Long, async |conn, limit| {
        restore_all(postgres(conn)?, archive, &record, limit, progress).await
    })
    .await
}

/// What the ledger will say about a restore.
struct Record<'a> {
    overridden: Option<&'static str>,
    reason: &'a str,
}

/// An error if the archive is not to be restored.
fn record_of<'a>(
    archive: &VerifiedArchive,
    verdict: LedgerVerdict,
    trust: &'a Trust,
) -> Result<Record<'a>, OpsError> {
    let overridden = match &verdict {
        LedgerVerdict::Same { .. } => None,
        LedgerVerdict::Absent => Some("not_in_ledger"),
        LedgerVerdict::Different { .. } => Some("differs_from_ledger"),
    };
    match (overridden, trust) {
        (None, _) => Ok(Record {
            overridden,
            reason: "restored from an archive",
        }),
        (_, Trust::Operator(reason)) => Ok(Record { overridden, reason }),
        (_, Trust::Ledger) => Err(OpsError::archive(&archive.path, ArchiveProblem::Ledger(verdict))),
    }
}

async fn create_partition(conn: &mut AsyncPgConnection, archive: &VerifiedArchive) -> Result<(), OpsError> {
    let manifest = &archive.manifest;
    let is_month = diesel::sql_query(
        "SELECT (date_trunc('month', t) = t AND t + interval '1 month' = $2::timestamptz AT TIME ZONE 'UTC' \
                 AND to_char(t, 'YYYY-MM') || CASE WHEN t < '0001-01-01' THEN ' BC' ELSE '' END = $3)::int::bigint AS value \
         FROM (SELECT $1::timestamptz AT TIME ZONE 'UTC' AS t) AS month",
    );
    let is_month = is_month
        .bind::<Text, _>(&manifest.from_time)
        .bind::<Text, _>(&manifest.to_time)
        .bind::<Text, _>(&manifest.month);
    if is_month.get_result::<Number>(conn).await?.value == 0 {
        return Err(OpsError::archive(&archive.manifest_path, ArchiveProblem::Range));
    }
    let query = diesel::sql_query(
        "SELECT audit_logs_create_partition($1::timestamptz AT TIME ZONE 'UTC')::int::bigint AS value",
    );
    query
        .bind::<Text, _>(&manifest.from_time)
        .get_result::<Number>(conn)
        .await?;
    Ok(())
}

async fn restore_all(
    conn: &mut AsyncPgConnection,
    archive: &VerifiedArchive,
    record: &Record<'_>,
    limit: Duration,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoreReport, OpsError> {
    let lock = conn.batch_execute("SET LOCAL timezone = 'UTC'; SELECT audit_retention_lock()");
    answered(limit, lock).await?;
    let mut lines = Lines::open(&archive.path)?;
    let mut report = RestoreReport::default();
    loop {
        let (chunk, has_more) = next_chunk(&mut lines)?;
        match chunk {
            Chunk::Plain(plain) => {
                let inserted = answered(limit, insert(conn, &plain, archive)).await?;
                report.inserted += inserted;
                report.already_stored += plain.len() as u64 - inserted;
            }
            Chunk::Single(row) => restore_single(conn, *row, &mut lines, limit, &mut report).await?,
        }
        progress(report.processed());
        if !has_more {
            break;
        }
    }
    if lines.digest() != archive.digest {
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

/// How many lines give another row than the one that is stored with their id and time, or none.
pub(super) const DIFFERENT: &str = "SELECT count(*) AS value FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
     WHERE NOT EXISTS (SELECT FROM audit_logs a WHERE a.id = r.id AND a.created_at = r.created_at AND a *= r)";

/// Inserts lines and returns how many were new. Checks that the table then has exactly these rows, all of the month.
async fn insert(
    conn: &mut AsyncPgConnection,
    lines: &[String],
    archive: &VerifiedArchive,
) -> Result<u64, OpsError> {
    let outside = diesel::sql_query(
        "SELECT count(*) AS value FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
         WHERE (r.created_at >= $2::timestamptz AND r.created_at < $3::timestamptz) IS NOT TRUE",
    );
    let outside = outside
        .bind::<Array<Text>, _>(lines)
        .bind::<Text, _>(&archive.manifest.from_time)
        .bind::<Text, _>(&archive.manifest.to_time);
    if outside.get_result::<Number>(conn).await?.value > 0 {
        return Err(OpsError::archive(&archive.path, ArchiveProblem::OtherMonth));
    }
    // By column name, because a later version of the table may have more columns.
    let insert = diesel::sql_query(
        "WITH inserted AS ( \
             INSERT INTO audit_logs SELECT r.* FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
             ON CONFLICT DO NOTHING RETURNING 1) \
         SELECT count(*) AS value FROM inserted",
    );
    let inserted: Number = insert.bind::<Array<Text>, _>(lines).get_result(conn).await?;
    let different = diesel::sql_query(DIFFERENT).bind::<Array<Text>, _>(lines);
    match different.get_result::<Number>(conn).await?.value {
        0 => Ok(inserted.value.unsigned_abs()),
        rows => Err(OpsError::RowConflict { rows }),
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
    if !row.long.is_empty() {
        answered(limit, conn.batch_execute(PIECES)).await?;
    }
    let mut columns = Vec::new();
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
    }
    if !row.unreadable.is_empty() {
        report.unreadable += 1;
    } else {
        let query = diesel::sql_query("SELECT audit_logs_restore_row($1, $2::json, $3::name[], $4) AS value")
            .bind::<Text, _>(&row.line)
            .bind::<Text, _>(&row.members)
            .bind::<Array<Text>, _>(&columns)
            .bind::<Nullable<Jsonb>, _>(row.metadata.as_deref().map(RawJson));
        match answered(limit, query.get_result::<Inserted>(conn)).await?.value {
            Some(true) => report.inserted += 1,
            Some(false) => report.already_stored += 1,
            None => return Err(OpsError::RowConflict { rows: 1 }),
        }
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
