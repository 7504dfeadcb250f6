//! Which months are past their time, and how do they go?
//!
//! Whole months are dropped, never rows. What is dropped goes on record in `audit_retention_ledger`, which
//! is append-only: the range, the number of rows, their digest, the numbers of each writer's entries, who
//! did it and why. `auditlog verify writers` takes it into account.
//!
//! **The digest** is computed by the database. A row's line is `row_to_json(row)`, times in UTC, all columns
//! in the table's order, as UTF-8. Over the lines in the order of `(created_at, id)`: `d` begins as 32 zero
//! bytes, and with each line becomes `SHA-256(d || SHA-256(line))`. An archive's lines are these lines, so
//! its digest is the ledger's.
//!
//! What the database refuses, whoever asks:
//!
//! | | unless |
//! | --- | --- |
//! | a partition that is not one whole month, or not old enough | |
//! | keeping fewer than 12 months (PCI DSS 10.5.1) | [`Rule::force`] |
//! | a month of which a legal hold covers a row | it is released |
//! | a month with fewer later months that hold rows than are to be kept: after a leap of the clock everything looks old, and still as many months of rows stay | [`Rule::trust_clock`] |
//! | more than [`Rule::max_months`] months within a day | it is set higher |
//! | a month whose archive does not have its rows | the archive is made again |
//! | anything, while the ledger has an entry from the future | the clock is set right |

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::OpsError;
use crate::archive::Archived;
use crate::pg::{Number, postgres, utc};

/// What is to be kept, and why the rest is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How many months are kept: a month goes when its last moment is that old.
    pub keep_months: i32,
    /// Goes on record with each month.
    pub reason: String,
    /// Fewer than 12 months may be kept.
    pub force: bool,
    /// How many months may be dropped within a day.
    pub max_months: i32,
    /// Months without rows count as kept: the clock is surely right.
    pub trust_clock: bool,
}

impl Rule {
    /// Keeps this number of months, and drops at most three within a day.
    pub fn keep(keep_months: i32) -> Self {
        let reason = format!("older than {keep_months} months");
        Self {
            keep_months,
            reason,
            force: false,
            max_months: 3,
            trust_clock: false,
        }
    }
}

/// A partition, and what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct PlannedMonth {
    /// The table's name.
    #[diesel(sql_type = Text)]
    pub partition: String,
    /// The month, as `2024-01`; none for partitions that are no month.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// The first `created_at` that belongs in it.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// The first that no longer does.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// How many rows, about.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its size on disk, with its indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// The legal holds that cover it.
    #[diesel(sql_type = Array<BigInt>)]
    pub holds: Vec<i64>,
    /// `drop`; `keep`, for its age; `held`; `too_few_recent`: fewer later months hold rows than are to be kept;
    /// `not_monthly`.
    #[diesel(sql_type = Text)]
    pub verdict: String,
    /// Its bounds in seconds since 1970.
    #[serde(skip)]
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) from_epoch: Option<i64>,
    #[serde(skip)]
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) to_epoch: Option<i64>,
}

impl PlannedMonth {
    /// True if it is to be dropped.
    pub fn goes(&self) -> bool {
        self.verdict == "drop"
    }
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Counted from 1 without gaps.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// `dropped` or `restored`.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// The month, as `2024-01`.
    #[diesel(sql_type = Text)]
    pub month: String,
    /// How many rows.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Their digest, in hexadecimal digits.
    #[diesel(sql_type = Text)]
    pub digest: String,
    /// How many writers' entries were among them.
    #[diesel(sql_type = BigInt)]
    pub writers: i64,
    /// The archive's file name, as the client gave it.
    #[diesel(sql_type = Nullable<Text>)]
    pub archive: Option<String>,
    /// The SHA-256 of that file, as the client gave it.
    #[diesel(sql_type = Nullable<Text>)]
    pub archive_sha256: Option<String>,
    /// How many months were to be kept.
    #[diesel(sql_type = Nullable<Integer>)]
    pub keep_months: Option<i32>,
    /// Whether [`Rule::force`] or [`Rule::trust_clock`] made it possible.
    #[diesel(sql_type = Bool)]
    pub forced: bool,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The database user who did it.
    #[diesel(sql_type = Text)]
    pub done_by: String,
    /// When, by the database's clock.
    #[diesel(sql_type = Text)]
    pub done_at: String,
}

/// Says what is to become of each partition, by time. Changes nothing.
///
/// # Errors
/// When no month is to be kept, or the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn plan(conn: &mut Connection, rule: &Rule) -> Result<Vec<PlannedMonth>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT partition::text AS partition, month, ",
        utc!("from_time"),
        " AS from_time, ",
        utc!("to_time"),
        " AS to_time, row_count, bytes, holds, verdict, extract(epoch FROM planned.from_time)::bigint AS from_epoch, \
         extract(epoch FROM planned.to_time)::bigint AS to_epoch \
         FROM audit_retention_plan($1, $2) AS planned ORDER BY planned.from_time, planned.partition"
    ))
    .bind::<Integer, _>(rule.keep_months)
    .bind::<Bool, _>(rule.trust_clock);
    Ok(query.load(postgres(conn)?).await?)
}

/// Drops a month and gives back the number of the ledger's entry about it: all or nothing, in one
/// transaction. With an archive, only if that has exactly the rows that are dropped.
///
/// Reads the month once; in the end it locks the whole table for a moment. A reader in the way delays
/// that: it is tried again and again, for about a minute, and each attempt holds the writers for less
/// than half a second.
///
/// # Errors
/// When the database refuses (see the [module](self)), rows came to the month meanwhile, or other sessions
/// hold the table for too long. Then nothing was dropped.
///
/// # Cancel safety
/// Dropping the future leaves it open whether the month was dropped; the ledger tells.
pub async fn drop_month(
    conn: &mut Connection,
    partition: &str,
    rule: &Rule,
    archived: Option<&Archived>,
) -> Result<i64, OpsError> {
    let query =
        diesel::sql_query("SELECT audit_logs_drop_month($1::name, $2, $3, $4, $5, $6, $7, $8, $9) AS value")
            .bind::<Text, _>(partition)
            .bind::<Integer, _>(rule.keep_months)
            .bind::<Text, _>(&rule.reason)
            .bind::<Bool, _>(rule.force)
            .bind::<Integer, _>(rule.max_months)
            .bind::<Bool, _>(rule.trust_clock)
            .bind::<Nullable<Text>, _>(archived.map(|archived| &archived.manifest.file))
            .bind::<Nullable<Bytea>, _>(archived.map(|archived| &archived.file_sha256[..]))
            .bind::<Nullable<Bytea>, _>(archived.map(|archived| &archived.digest[..]));
    let entry: Number = query.get_result(postgres(conn)?).await?;
    Ok(entry.value)
}

/// Lists what was dropped and restored, in order.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn ledger(conn: &mut Connection) -> Result<Vec<LedgerEntry>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT l.id, l.event, l.month, l.row_count, encode(l.digest, 'hex') AS digest, \
         (SELECT count(*) FROM audit_retention_writers w WHERE w.entry = l.id) AS writers, \
         l.archive, encode(l.archive_sha256, 'hex') AS archive_sha256, l.keep_months, l.forced, l.reason, \
         l.done_by::text AS done_by, ",
        utc!("l.done_at"),
        " AS done_at FROM audit_retention_ledger l ORDER BY l.id"
    ));
    Ok(query.load(postgres(conn)?).await?)
}
