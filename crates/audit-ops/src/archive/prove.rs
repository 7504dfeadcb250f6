//! Proves that an archive can be restored, before its month is dropped.

use std::time::Duration;

use db_services::client::Connection;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

use super::VerifiedArchive;
use super::read::Lines;
use super::restore::{Chunk, next_chunk};
use super::rows::SingleRow;
use super::stored::{Different, MonthRange, SETTINGS, is_stored};
use crate::postgres::postgres;
use crate::session::{Work, answered, transaction};
use crate::{ArchiveProblem, OpsError};

/// Reads the archive's lines and compares the rows that PostgreSQL makes of them with those of the trail, bit by bit; long
/// values by their SHA-256. Values that could not be turned into text are left out.
pub(super) async fn prove(conn: &mut Connection, archive: &VerifiedArchive) -> Result<(), OpsError> {
    transaction(conn, Work::Snapshot, async |conn, limit| {
        compare_all(postgres(conn)?, archive, limit).await
    })
    .await
}

async fn compare_all(
    conn: &mut AsyncPgConnection,
    archive: &VerifiedArchive,
    limit: Duration,
) -> Result<(), OpsError> {
    answered(limit, conn.batch_execute(SETTINGS)).await?;
    let range = answered(limit, MonthRange::of(conn, archive)).await?;
    let mut lines = Lines::open(&archive.path)?;
    let mut found = None;
    let mut rows = 0;
    loop {
        let (chunk, has_more) = next_chunk(&mut lines)?;
        let different = match chunk {
            Chunk::Plain(plain) => answered(limit, range.different(conn, &plain)).await?,
            Chunk::Single(row) => compare_single(conn, *row, &mut lines, limit).await?,
        };
        rows += different.rows;
        if different.rows > 0 {
            found.get_or_insert(different.example);
        }
        if !has_more {
            break;
        }
    }
    if lines.finish()?.difference(&archive.manifest).is_some() {
        return Err(OpsError::archive(&archive.path, ArchiveProblem::Changed));
    }
    match found {
        None => Ok(()),
        Some(row) => Err(OpsError::NotRestorable { rows, row }),
    }
}

async fn compare_single(
    conn: &mut AsyncPgConnection,
    mut row: SingleRow,
    lines: &mut Lines,
    limit: Duration,
) -> Result<Different, OpsError> {
    let mut long = Vec::new();
    while let Some(value) = row.long.pop_front() {
        long.push((value.column.clone(), value.sha256.clone()));
        value.verify(lines)?;
    }
    let is_same = answered(limit, is_stored(conn, &row, &long)).await?;
    Ok(Different {
        rows: i64::from(!is_same),
        example: row.line,
    })
}
