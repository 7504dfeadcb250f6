//! Builds the index in the order of time on partitions of an existing trail, without blocking writers.

use std::time::Duration;

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::OpsError;
use crate::postgres::postgres;
use crate::session::{bounded, is_lock_timeout};

/// A partition without the index that every partition has, and the SQL that builds it without blocking writers.
#[derive(QueryableByName)]
struct Unindexed {
    #[diesel(sql_type = Text)]
    drop_invalid: String,
    #[diesel(sql_type = Text)]
    create: String,
    #[diesel(sql_type = Text)]
    attach: String,
}

/// The server quotes the names. The index that an interrupted build left is not valid; it is dropped first.
const UNINDEXED: &str = "\
    SELECT CASE WHEN NOT left_over.indisvalid THEN format('DROP INDEX CONCURRENTLY %s', old.oid::regclass) \
                ELSE '' END AS drop_invalid, \
           format('CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON %s %s', c.relname || '_time', c.oid::regclass, \
                  substring(pg_get_indexdef(parent.oid) FROM ' (USING .*)$')) AS create, \
           format('ALTER INDEX %s ATTACH PARTITION %s.%I', parent.oid::regclass, c.relnamespace::regnamespace, \
                  c.relname || '_time') AS attach \
    FROM (SELECT to_regclass('audit_logs_time') AS oid) AS parent \
    JOIN pg_inherits i ON i.inhparent = 'audit_logs'::regclass JOIN pg_class c ON c.oid = i.inhrelid \
    LEFT JOIN pg_class old ON old.relnamespace = c.relnamespace AND old.relname = c.relname || '_time' \
    LEFT JOIN pg_index left_over ON left_over.indexrelid = old.oid \
    WHERE parent.oid IS NOT NULL AND NOT EXISTS ( \
        SELECT FROM pg_index x JOIN pg_inherits h ON h.inhrelid = x.indexrelid \
        WHERE x.indrelid = c.oid AND h.inhparent = parent.oid) \
    ORDER BY c.relname";

/// Builds the index in the order of time on the partitions that lack it, without blocking writers, and returns on how
/// many. For the owner, after the migration that introduces it: the migration itself builds it on small partitions only.
/// Calls `progress` with the number of partitions done and their total.
///
/// # Errors
/// When the database refuses, or an index is not built within six hours: transactions that are left open delay it.
///
/// # Cancel safety
/// Dropping the future leaves an invalid index on one partition; the next call drops it.
pub async fn build_time_indexes(
    conn: &mut Connection,
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, OpsError> {
    let missing: Vec<Unindexed> = bounded(conn, async |conn| {
        let missing = diesel::sql_query(UNINDEXED).load(postgres(conn)?).await?;
        Ok::<_, OpsError>(missing)
    })
    .await?;
    let conn = postgres(conn)?;
    if missing.is_empty() {
        return Ok(0);
    }
    // None of these statements can run in a transaction, so the limit is the session's. One of the user's own stays.
    let limit = "SELECT set_config('statement_timeout', '6h', false) WHERE current_setting('statement_timeout') = '0'";
    conn.batch_execute(limit).await?;
    let built = build(conn, &missing, &mut progress).await;
    conn.batch_execute("RESET statement_timeout; RESET lock_timeout")
        .await?;
    built?;
    Ok(missing.len() as u64)
}

async fn build(
    conn: &mut AsyncPgConnection,
    missing: &[Unindexed],
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), OpsError> {
    for (done, partition) in missing.iter().enumerate() {
        progress(done as u64, missing.len() as u64);
        conn.batch_execute(&partition.drop_invalid).await?;
        conn.batch_execute(&partition.create).await?;
        attach(conn, &partition.attach).await?;
    }
    Ok(())
}

/// Attaching waits for readers whose query was planned with the index, and writers wait behind it: half a second at most.
async fn attach(conn: &mut AsyncPgConnection, statement: &str) -> Result<(), OpsError> {
    const ATTEMPTS: u32 = 60;
    conn.batch_execute("SET lock_timeout = '500ms'").await?;
    let mut attempt = 1;
    loop {
        match conn.batch_execute(statement).await {
            Err(error) if is_lock_timeout(&error) && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => {
                // CREATE INDEX CONCURRENTLY of the next partition waits for old transactions.
                conn.batch_execute("RESET lock_timeout").await?;
                return Ok(done?);
            }
        }
    }
}
