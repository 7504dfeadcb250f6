//! Is every entry that a writer was given accounted for?
//!
//! Each entry carries the writer that sent it and its number there, from 1 without gaps. A writer puts
//! its own life on record, as rows with these actions, its `writer_id` and no `writer_seq`:
//!
//! | action | metadata | when |
//! | --- | --- | --- |
//! | `audit.writer_started` | `service`, `host`, `version`, `process`, `durability`, `queue_capacity` | with its first entry |
//! | `audit.writer_alive` | `resolved_through`: every number up to it is stored or declared | every five minutes in which it writes |
//! | `audit.entries_lost` | `ranges` (`[first, last]`, or `[first, last, count]` where others between them were kept), `count`, `reason` | as soon as it can write |
//! | `audit.entry_quarantined` | `seq`, `sqlstate`, `id`, `created_at` | as soon as it can write |
//! | `audit.writer_stopped` | `last_seq` | at a clean end |
//!
//! Numbers prove accidents, not malice: whoever may insert may also forge them.
//!
//! On PostgreSQL whole months can be dropped on record (`audit_retention_ledger`). The record has the
//! numbers that went and what the writers had declared there, so that neither becomes missing.

mod account;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{QueryResult, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

use self::account::{Declared, Sums};
use crate::client::Connection;

/// The actions under which a writer speaks of itself.
pub(super) mod action {
    pub(in crate::audit) const STARTED: &str = "audit.writer_started";
    pub(in crate::audit) const ALIVE: &str = "audit.writer_alive";
    pub(in crate::audit) const LOST: &str = "audit.entries_lost";
    pub(in crate::audit) const QUARANTINED: &str = "audit.entry_quarantined";
    pub(in crate::audit) const STOPPED: &str = "audit.writer_stopped";
}

/// What the trail says about one writer's entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WriterAccount {
    /// The writer.
    pub writer_id: Uuid,
    /// The service it wrote for, as it called itself.
    pub service: Option<String>,
    /// The machine it ran on.
    pub host: Option<String>,
    /// When it wrote its first row, by its clock.
    pub first_seen: DateTime<Utc>,
    /// When it wrote its last row, by its clock.
    pub last_seen: DateTime<Utc>,
    /// Whether that is all.
    pub verdict: Verdict,
    /// Entries in the table.
    pub stored: u64,
    /// Entries that went with months that were dropped on record, and are not back.
    pub dropped: u64,
    /// Entries that it declared lost.
    pub declared_lost: u64,
    /// Entries that the database refused, declared.
    pub quarantined: u64,
    /// Entries that ought to be there, undeclared.
    pub missing: u64,
    /// Where those are: the first hundred ranges of numbers, both ends included.
    pub missing_ranges: Vec<(u64, u64)>,
    /// Numbers that several rows claim. No writer does that.
    pub duplicates: u64,
    /// Entries of which the trail cannot tell, at most: those between the last that it vouches for and
    /// the last stored, and one queue more. 0 after a clean end; none if the writer never said how
    /// large its queue is.
    pub unknown_at_most: Option<u64>,
}

/// Whether a writer's entries are all accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It ended cleanly, and every entry is stored, or was until its month was dropped on record.
    Complete,
    /// The same, except that some entries were declared lost or refused.
    Declared,
    /// It still runs, or it ended uncleanly; nothing it vouched for is missing.
    Open,
    /// Entries that it vouched for are neither stored nor declared, or numbers are there twice.
    Missing,
}

impl Verdict {
    /// Gives the word for it, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Declared => "declared",
            Self::Open => "open",
            Self::Missing => "missing",
        }
    }
}

/// Accounts for the entries of every writer in the table, the one seen last first.
///
/// Reads the numbers of all rows once: about a second for a million. Rows written meanwhile may be
/// counted in part, which shows as [`Verdict::Open`] and never as [`Verdict::Missing`].
///
/// # Errors
/// When the database does not answer or has no table.
///
/// # Cancel safety
/// Dropping the future loses nothing; on SQLite it waits for the query to end.
pub async fn verify_writers(conn: &mut Connection) -> QueryResult<Vec<WriterAccount>> {
    // The vows first: what they vouch for was committed before them.
    let mut declared: BTreeMap<String, Declared> = BTreeMap::new();
    for said in said(conn).await? {
        let text = String::from_utf8_lossy;
        declared.entry(said.writer).or_default().hear(&text(&said.action), &text(&said.metadata));
    }
    for run in dropped(conn).await? {
        declared.entry(run.writer).or_default().dropped(run.first, run.last);
    }
    let mut accounts = Vec::new();
    for sums in sums(conn).await? {
        let declared = declared.remove(&sums.writer).unwrap_or_default();
        let gaps = if sums.has_gaps() { gaps(conn, &sums.writer).await? } else { Vec::new() };
        accounts.extend(account::account(&sums, &declared, &gaps));
    }
    accounts.sort_by_key(|account| std::cmp::Reverse(account.last_seen));
    Ok(accounts)
}

/// What stands in a row as if a writer had said it. Bytes, because SQLite keeps any in a column of
/// text, and one such row must not stop the reading of all others.
#[derive(QueryableByName)]
struct Said {
    #[diesel(sql_type = Text)]
    writer: String,
    #[diesel(sql_type = Binary)]
    action: Vec<u8>,
    #[diesel(sql_type = Binary)]
    metadata: Vec<u8>,
}

/// A run of a writer's numbers that went with a dropped month.
#[derive(QueryableByName)]
struct Dropped {
    #[diesel(sql_type = Text)]
    writer: String,
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// A run of numbers that no row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
struct Gap {
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// Runs the same question on either database, each in its words.
macro_rules! ask {
    ($conn:expr, $postgres:expr, $sqlite:expr $(, $bind:expr)?) => {
        match $conn {
            Connection::Postgres(conn) => diesel::sql_query($postgres)$(.bind::<Text, _>($bind))?.load(conn).await,
            Connection::Sqlite(conn) => diesel::sql_query($sqlite)$(.bind::<Text, _>($bind.to_owned()))?.load(conn).await,
        }
    };
}

/// What the writers said. A month that was dropped and restored says it twice; UNION takes it once.
async fn said(conn: &mut Connection) -> QueryResult<Vec<Said>> {
    ask!(
        conn,
        "SELECT writer_id::text AS writer, convert_to(action, 'UTF8') AS action, \
         convert_to(coalesce(metadata::text, '{}'), 'UTF8') AS metadata FROM audit_logs \
         WHERE writer_id IS NOT NULL AND writer_seq IS NULL AND action LIKE 'audit.%' \
         UNION SELECT writer_id::text, convert_to(action, 'UTF8'), convert_to(metadata::text, 'UTF8') \
         FROM audit_retention_declarations",
        "SELECT hex(writer_id) AS writer, CAST(action AS BLOB) AS action, \
         CAST(coalesce(metadata, '{}') AS BLOB) AS metadata FROM audit_logs \
         WHERE writer_id IS NOT NULL AND writer_seq IS NULL AND action LIKE 'audit.%'"
    )
}

async fn dropped(conn: &mut Connection) -> QueryResult<Vec<Dropped>> {
    let Connection::Postgres(conn) = conn else { return Ok(Vec::new()) };
    let query = "SELECT writer_id::text AS writer, lower(run) AS first, upper(run) - 1 AS last \
                 FROM audit_retention_writers, unnest(numbers) AS run";
    diesel::sql_query(query).load(conn).await
}

/// What the table holds of each writer. Numbers begin with 1: others are forged, and say nothing.
async fn sums(conn: &mut Connection) -> QueryResult<Vec<Sums>> {
    ask!(
        conn,
        // Times within what 64 bits of microseconds hold: a row may claim infinity.
        "SELECT writer_id::text AS writer, count(writer_seq) FILTER (WHERE writer_seq > 0) AS stored, \
         count(DISTINCT writer_seq) FILTER (WHERE writer_seq > 0) AS numbers, \
         greatest(max(writer_seq), 0) AS highest, \
         (extract(epoch FROM least(greatest(min(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS first_seen, \
         (extract(epoch FROM least(greatest(max(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS last_seen \
         FROM audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id",
        "SELECT hex(writer_id) AS writer, count(writer_seq) FILTER (WHERE writer_seq > 0) AS stored, \
         count(DISTINCT writer_seq) FILTER (WHERE writer_seq > 0) AS numbers, \
         max(0, coalesce(max(writer_seq), 0)) AS highest, min(created_at) AS first_seen, max(created_at) AS last_seen \
         FROM audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id"
    )
}

/// The runs of numbers of a writer, from 1 to its highest, that no row has.
async fn gaps(conn: &mut Connection, writer: &str) -> QueryResult<Vec<Gap>> {
    ask!(
        conn,
        "SELECT before + 1 AS first, writer_seq - 1 AS last FROM ( \
             SELECT writer_seq, lag(writer_seq, 1, 0::bigint) OVER (ORDER BY writer_seq) AS before \
             FROM audit_logs WHERE writer_id = $1::uuid AND writer_seq > 0 \
         ) AS numbered WHERE writer_seq > before + 1 ORDER BY writer_seq",
        "SELECT before + 1 AS first, writer_seq - 1 AS last FROM ( \
             SELECT writer_seq, lag(writer_seq, 1, 0) OVER (ORDER BY writer_seq) AS before \
             FROM audit_logs WHERE hex(writer_id) = ?1 AND writer_seq > 0 \
         ) AS numbered WHERE writer_seq > before + 1 ORDER BY writer_seq",
        writer
    )
}
