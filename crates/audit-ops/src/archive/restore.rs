//! How do archived rows come back?

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bytea, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::Archived;
use super::read::Lines;
use crate::OpsError;
use crate::pg::{Number, postgres};

/// The most rows, and about the most bytes, of one statement.
const CHUNK: (usize, usize) = (1_000, 8 << 20);

/// What became of an archive's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Rows that were not there.
    pub new: u64,
    /// Rows that were there already, the same in every column.
    pub known: u64,
}

/// Puts an archive's rows back, every column as it was, and tells how many were dealt with so far. All or
/// nothing, in one transaction, with an entry in the ledger if any row was not there; a repeat changes
/// nothing. Makes the month first, in a transaction of its own.
///
/// A restored month is past its time still: the next retention drops it again, unless a hold covers it.
///
/// # Errors
/// When the user may not set every column (only the table's owner may), a row with the same id and time
/// is there that differs, the file is not the one that was checked, or another session drops or restores
/// a month.
///
/// # Cancel safety
/// Dropping the future restores nothing, or leaves it open whether it was restored.
pub async fn restore(
    conn: &mut Connection,
    archived: &Archived,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Restored, OpsError> {
    let conn = postgres(conn)?;
    let made = diesel::sql_query(
        "SELECT audit_logs_create_partition($1::timestamptz AT TIME ZONE 'UTC')::int::bigint AS value",
    )
    .bind::<Text, _>(&archived.manifest.from_time);
    made.get_result::<Number>(conn).await?;
    let mut transaction = conn.build_transaction();
    transaction
        .run(async |conn: &mut AsyncPgConnection| restore_all(conn, archived, told).await)
        .await
}

async fn restore_all(
    conn: &mut AsyncPgConnection,
    archived: &Archived,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Restored, OpsError> {
    conn.batch_execute("SET LOCAL timezone = 'UTC'; SELECT audit_retention_lock()")
        .await?;
    let mut lines = Lines::open(&archived.path)?;
    let mut total = Restored { new: 0, known: 0 };
    loop {
        let chunk = chunk(&mut lines)?;
        if chunk.is_empty() {
            break;
        }
        let new = insert(conn, &chunk).await?;
        total.new += new;
        total.known += chunk.len() as u64 - new;
        told(total.new + total.known);
    }
    if lines.digest() != archived.digest {
        return Err(OpsError::archive(
            &archived.path,
            "it was changed since it was checked",
        ));
    }
    if total.new > 0 {
        record(conn, archived).await?;
    }
    Ok(total)
}

fn chunk(lines: &mut Lines) -> Result<Vec<String>, OpsError> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < CHUNK.0 && bytes < CHUNK.1 {
        let Some(line) = lines.next()? else { break };
        bytes += line.len();
        chunk.push(line.to_owned());
    }
    Ok(chunk)
}

#[derive(QueryableByName)]
struct Inserted {
    #[diesel(sql_type = BigInt)]
    new: i64,
}

/// Inserts lines, and makes sure that the table then has these rows, to the bit.
async fn insert(conn: &mut AsyncPgConnection, lines: &[String]) -> Result<u64, OpsError> {
    // By the names of the columns: a later version of the table may have more of them.
    let insert = diesel::sql_query(
        "WITH inserted AS ( \
             INSERT INTO audit_logs SELECT r.* FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
             ON CONFLICT DO NOTHING RETURNING 1) \
         SELECT count(*) AS new FROM inserted",
    );
    let inserted: Inserted = insert.bind::<Array<Text>, _>(lines).get_result(conn).await?;
    let differing = diesel::sql_query(
        "SELECT count(*) AS value FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
         WHERE NOT EXISTS (SELECT FROM audit_logs a WHERE a.id = r.id AND a.created_at = r.created_at AND a *= r)",
    );
    match differing
        .bind::<Array<Text>, _>(lines)
        .get_result::<Number>(conn)
        .await?
        .value
    {
        0 => Ok(inserted.new.unsigned_abs()),
        rows => Err(OpsError::Differs { rows }),
    }
}

async fn record(conn: &mut AsyncPgConnection, archived: &Archived) -> Result<(), OpsError> {
    let manifest = &archived.manifest;
    let query = diesel::sql_query(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, reason) \
         SELECT coalesce(max(id), 0) + 1, 'restored', $1, $2::timestamptz, $3::timestamptz, $4, $5, $6, $7, 'restored from an archive' \
         FROM audit_retention_ledger",
    )
    .bind::<Text, _>(&manifest.month)
    .bind::<Text, _>(&manifest.from_time)
    .bind::<Text, _>(&manifest.to_time)
    .bind::<BigInt, _>(manifest.rows as i64)
    .bind::<Bytea, _>(&archived.digest[..])
    .bind::<Text, _>(&manifest.file)
    .bind::<Bytea, _>(&archived.file_sha256[..]);
    query.execute(conn).await?;
    Ok(())
}
