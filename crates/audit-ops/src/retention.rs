//! Retention: lists the months that are due and drops them, each with an entry in a ledger.
//!
//! Whole months are dropped, never single rows. `audit_retention_ledger`, which is append-only, records what
//! was dropped: the range, the number of rows, their digest, the sequence numbers of each writer, who did it
//! and why. `auditlog verify writers` takes it into account.
//!
//! **The digest** is computed by the database. A row's line is `row_to_json(row)`, times in UTC, all columns
//! in the table's order, as UTF-8, with long values replaced by their SHA-256 ([`archive`](crate::archive)). Over the lines in the order of `(created_at, id)`: `d` begins as 32 zero
//! bytes, and each line changes it to `SHA-256(d || SHA-256(line))`. An archive has the same lines, so its
//! digest is the ledger's.
//!
//! The database refuses the following, for every user:
//!
//! | refused | unless |
//! | --- | --- |
//! | to drop a partition that is not one whole month, or not old enough | |
//! | to keep fewer than 12 months (PCI DSS 10.5.1) | [`RetentionPolicy::force`] |
//! | to drop a month with a row under a legal hold | the hold is released |
//! | to drop a month if fewer later months hold rows than are to be kept: after a jump of the clock every month looks old, and this leaves as many months of rows | [`RetentionPolicy::trust_clock`] |
//! | to drop more than [`RetentionPolicy::max_months`] months within a day | it is set higher |
//! | to drop a month whose archive does not have its rows | the archive is written again |
//! | to drop a month with a value that cannot be turned into text, which no archive has, or that is nested too deeply to be restored | [`RetentionPolicy::drop_unreadable`] |
//! | to drop anything while the ledger has an entry from the future | the clock is corrected, or [`RetentionPolicy::trust_clock`] if it is right and was wrong then |
//!
//! The ledger records each of these exceptions.

use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};

use crate::OpsError;
use crate::archive::VerifiedArchive;
use crate::postgres::{Number, postgres, utc_text};

/// How many months are kept, and the limits for dropping the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How many months are kept: a month is due when its end is that old.
    pub keep_months: i32,
    /// The reason that the ledger records.
    pub reason: String,
    /// Permits keeping fewer than 12 months.
    pub force: bool,
    /// How many months may be dropped within a day.
    pub max_months: i32,
    /// Counts months without rows as kept, and ignores entries of the ledger from the future, because the clock is known
    /// to be right.
    pub trust_clock: bool,
    /// Permits dropping rows with a value that cannot be turned into text, or is nested too deeply to be restored.
    pub drop_unreadable: bool,
}

impl RetentionPolicy {
    /// Keeps this number of months, and drops at most three within a day.
    pub fn keep(keep_months: i32) -> Self {
        let reason = format!("older than {keep_months} months");
        Self {
            keep_months,
            reason,
            force: false,
            max_months: 3,
            trust_clock: false,
            drop_unreadable: false,
        }
    }
}

/// Defines an enum that is a word in JSON and in the database: `Variant = "word"`.
macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromSqlRow)]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// The word for it, as it is printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        /// From the word that the database uses.
        impl<DB: Backend> FromSql<Text, DB> for $name
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
                match String::from_sql(value)?.as_str() {
                    $($word => Ok(Self::$variant),)*
                    unknown => Err(format!(
                        "unknown {} {unknown:?}: the database may be newer than this program", stringify!($name),
                    ).into()),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

word_enum! {
    /// Whether a partition can be dropped.
    PartitionVerdict {
        /// It is due.
        Drop = "drop",
        /// It is not old enough.
        Keep = "keep",
        /// It is due, and a legal hold covers rows of it.
        Held = "held",
        /// It is due, but fewer later months hold rows than are to be kept: the clock may be wrong.
        TooFewRecent = "too_few_recent",
        /// The default partition, or another one that is not a whole month.
        NotMonthly = "not_monthly",
    }
}

word_enum! {
    /// What an entry of the ledger records.
    LedgerEvent {
        /// A month was dropped.
        Dropped = "dropped",
        /// A month was restored from an archive.
        Restored = "restored",
    }
}

/// A partition, and whether it can be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct PlannedPartition {
    /// The table's name.
    #[serde(rename = "partition")]
    #[diesel(sql_type = Text, column_name = partition)]
    pub name: String,
    /// The month, as `2024-01`; none for a partition that is not a month.
    #[diesel(sql_type = Nullable<Text>)]
    pub month: Option<String>,
    /// The first `created_at` of its range.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// The first `created_at` after its range.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// The approximate number of rows.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Its size on disk, with its indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// The legal holds that cover it.
    #[diesel(sql_type = Array<BigInt>)]
    pub holds: Vec<i64>,
    /// Whether it can be dropped.
    #[diesel(sql_type = Text)]
    pub verdict: PartitionVerdict,
    /// Its bounds in seconds since 1970.
    #[serde(skip)]
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) from_epoch: Option<i64>,
    #[serde(skip)]
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) to_epoch: Option<i64>,
}

impl PlannedPartition {
    /// True if it can be dropped.
    pub fn is_droppable(&self) -> bool {
        self.verdict == PartitionVerdict::Drop
    }
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Counted from 1 without gaps.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// What was done.
    #[diesel(sql_type = Text)]
    pub event: LedgerEvent,
    /// The month, as `2024-01`.
    #[diesel(sql_type = Text)]
    pub month: String,
    /// The first `created_at` of its range.
    #[diesel(sql_type = Text)]
    pub from_time: String,
    /// The first `created_at` after its range.
    #[diesel(sql_type = Text)]
    pub to_time: String,
    /// How many rows.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
    /// Their digest, in hexadecimal digits.
    #[diesel(sql_type = Text)]
    pub digest: String,
    /// How many writers the rows came from.
    #[diesel(sql_type = BigInt)]
    pub writers: i64,
    /// The archive's file name, as the client named it.
    #[diesel(sql_type = Nullable<Text>)]
    pub archive: Option<String>,
    /// The SHA-256 of that file, as the client computed it.
    #[diesel(sql_type = Nullable<Text>)]
    pub archive_sha256: Option<String>,
    /// How many months were to be kept.
    #[diesel(sql_type = Nullable<Integer>)]
    pub keep_months: Option<i32>,
    /// Which refusals were overridden: `force`, `trust_clock` and `drop_unreadable` of the [`RetentionPolicy`];
    /// `not_in_ledger` and `differs_from_ledger` when an archive was restored.
    #[diesel(sql_type = Array<Text>)]
    pub overrides: Vec<String>,
    /// The reason.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The database user who did it.
    #[diesel(sql_type = Text)]
    pub done_by: String,
    /// When, by the database's clock.
    #[diesel(sql_type = Text)]
    pub done_at: String,
}

/// Lists all partitions by time, each with its verdict under the policy. Changes nothing.
///
/// # Errors
/// When the policy keeps no month, or the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn plan(
    conn: &mut Connection,
    policy: &RetentionPolicy,
) -> Result<Vec<PlannedPartition>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT partition::text AS partition, month, ",
        utc_text!("from_time"),
        " AS from_time, ",
        utc_text!("to_time"),
        " AS to_time, row_count, bytes, holds, verdict, extract(epoch FROM planned.from_time)::bigint AS from_epoch, \
         extract(epoch FROM planned.to_time)::bigint AS to_epoch \
         FROM audit_retention_plan($1, $2) AS planned ORDER BY planned.from_time, planned.partition"
    ))
    .bind::<Integer, _>(policy.keep_months)
    .bind::<Bool, _>(policy.trust_clock);
    Ok(query.load(postgres(conn)?).await?)
}

/// Drops a month in one transaction and returns the id of its entry in the ledger. With an archive, only if
/// the archive has exactly the rows that are dropped.
///
/// Reads the month once; at the end it locks the whole table briefly. If a reader holds the table, the lock
/// is retried for about a minute, and each attempt blocks writers for less than half a second.
///
/// # Errors
/// When the database refuses (see the [module](self)), rows were inserted into the month meanwhile, or
/// other sessions hold the table for too long. Then nothing was dropped.
///
/// # Cancel safety
/// Dropping the future leaves it open whether the month was dropped; the ledger shows it.
pub async fn drop_month(
    conn: &mut Connection,
    partition: &str,
    policy: &RetentionPolicy,
    archive: Option<&VerifiedArchive>,
) -> Result<i64, OpsError> {
    let query = diesel::sql_query(
        "SELECT audit_logs_drop_month($1::name, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS value",
    )
    .bind::<Text, _>(partition)
    .bind::<Integer, _>(policy.keep_months)
    .bind::<Text, _>(&policy.reason)
    .bind::<Bool, _>(policy.force)
    .bind::<Integer, _>(policy.max_months)
    .bind::<Bool, _>(policy.trust_clock)
    .bind::<Nullable<Text>, _>(archive.map(|archive| &archive.manifest.file))
    .bind::<Nullable<Bytea>, _>(archive.map(|archive| &archive.file_sha256[..]))
    .bind::<Nullable<Bytea>, _>(archive.map(|archive| &archive.digest[..]))
    .bind::<Bool, _>(policy.drop_unreadable);
    let entry: Number = query.get_result(postgres(conn)?).await?;
    Ok(entry.value)
}

/// Lists the entries of the ledger, in order.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn ledger(conn: &mut Connection) -> Result<Vec<LedgerEntry>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT l.id, l.event, l.month, ",
        utc_text!("l.from_time"),
        " AS from_time, ",
        utc_text!("l.to_time"),
        " AS to_time, l.row_count, encode(l.digest, 'hex') AS digest, \
         (SELECT count(DISTINCT w.writer_id) FROM audit_retention_writers w WHERE w.entry = l.id) AS writers, \
         l.archive, encode(l.archive_sha256, 'hex') AS archive_sha256, l.keep_months, l.overrides, l.reason, \
         l.done_by::text AS done_by, ",
        utc_text!("l.done_at"),
        " AS done_at FROM audit_retention_ledger l ORDER BY l.id"
    ));
    Ok(query.load(postgres(conn)?).await?)
}
