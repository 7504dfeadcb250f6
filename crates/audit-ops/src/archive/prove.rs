//! Proves that an archive can be restored, before its month is dropped.

use std::io::Write;
use std::time::Duration;

use db_services::client::Connection;
use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Array, Jsonb, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::VerifiedArchive;
use super::read::Lines;
use super::restore::{Chunk, DIFFERENT, next_chunk};
use super::rows::SingleRow;
use crate::OpsError;
use crate::postgres::{Number, postgres};
use crate::session::{Work, answered, transaction};

/// Reads the archive's lines and compares the rows that PostgreSQL makes of them with those of the trail, bit by bit.
/// Long values, which [`check`](super::check) has compared by their SHA-256, are not parsed again, but must not be
/// nested too deeply to be. Values that could not be turned into text are left out.
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
    answered(limit, conn.batch_execute("SET LOCAL timezone = 'UTC'")).await?;
    let mut lines = Lines::open(&archive.path)?;
    let mut different = 0;
    loop {
        let (chunk, has_more) = next_chunk(&mut lines)?;
        different += match chunk {
            Chunk::Plain(plain) => {
                let query = diesel::sql_query(DIFFERENT).bind::<Array<Text>, _>(plain);
                answered(limit, query.get_result::<Number>(conn)).await?.value
            }
            Chunk::Single(row) => {
                let different = answered(limit, compare_metadata(conn, &row)).await?;
                for value in row.long {
                    let is_json = value.is_json();
                    if value.verify(&mut lines)? > MAX_LONG_DEPTH && is_json {
                        return Err(OpsError::TooDeep {
                            row: row.line[..row.line.len().min(90)].to_owned(),
                        });
                    }
                }
                different
            }
        };
        if !has_more {
            break;
        }
    }
    match different {
        0 => Ok(()),
        rows => Err(OpsError::NotRestorable { rows }),
    }
}

/// Long JSON is put together within a function of the database, where half of the stack is left at least. With the
/// default max_stack_depth, PostgreSQL takes about 14,000 levels.
const MAX_LONG_DEPTH: usize = 6_000;

/// 1 if the deeply nested metadata of a row does not give the same value again.
async fn compare_metadata(conn: &mut AsyncPgConnection, row: &SingleRow) -> Result<i64, OpsError> {
    let Some(metadata) = &row.metadata else {
        return Ok(0);
    };
    let query = diesel::sql_query(
        "SELECT count(*) AS value FROM json_populate_record(NULL::audit_logs, $1::json) AS r \
         WHERE NOT EXISTS (SELECT FROM audit_logs a WHERE a.id = r.id AND a.created_at = r.created_at AND record_image_eq(ROW(a.metadata), ROW($2)))",
    )
    .bind::<Text, _>(&row.members)
    .bind::<Jsonb, _>(RawJson(metadata));
    Ok(query.get_result::<Number>(conn).await?.value)
}

/// JSON text that PostgreSQL parses as a parameter, however deeply it is nested.
#[derive(Debug)]
pub(super) struct RawJson<'a>(pub(super) &'a str);

impl ToSql<Jsonb, Pg> for RawJson<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // The version of the binary format.
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}
