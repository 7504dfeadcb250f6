//! Accounts for every entry that a writer numbered.
//!
//! Each entry carries the writer that sent it and its number there, from 1 without gaps. A writer records its
//! own start, losses and end as rows with these actions, its `writer_id` and no `writer_seq`:
//!
//! | action | metadata | when |
//! | --- | --- | --- |
//! | `audit.writer_started` | `service`, `host`, `version`, `process`, `durability`, `queue_capacity` | with its first entry |
//! | `audit.writer_alive` | `resolved_through`: every number up to it is stored or declared | every five minutes in which it writes |
//! | `audit.entries_lost` | `ranges` (`[first, last]`, or `[first, last, count]` where others between them were kept), `count`, `reason` | as soon as it can write |
//! | `audit.entry_quarantined` | `seq`, `sqlstate`, `id`, `created_at` | as soon as it can write |
//! | `audit.entries_duplicate` | `ranges` (`[first, last]`), `count`: entries whose id and time are stored under another number | as soon as it can write |
//! | `audit.writer_stopped` | `last_seq` | at a clean end |
//!
//! Records of readings ([`record_reading`](crate::audit::record_reading)) have such an action too (`audit.viewed`,
//! `audit.exported`), and no writer.
//!
//! A writer that replays the spool of one that ended declares its rejected and duplicate entries under that
//! writer's id. A number may therefore be declared more than once.
//!
//! Numbers prove accidents, not malice: a client that may insert may also forge them.
//!
//! On PostgreSQL whole months can be dropped on record (`audit_retention_ledger`). The record has the
//! numbers that were dropped and what the writers had declared there, so that neither becomes missing.

mod account;
mod declarations;
mod queries;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use serde::Serialize;
use uuid::Uuid;

use self::account::account;
use self::declarations::Declarations;
use crate::client::Connection;

/// The actions of a writer's records about itself.
pub(super) mod action {
    pub(in crate::audit) const STARTED: &str = "audit.writer_started";
    pub(in crate::audit) const ALIVE: &str = "audit.writer_alive";
    pub(in crate::audit) const LOST: &str = "audit.entries_lost";
    pub(in crate::audit) const QUARANTINED: &str = "audit.entry_quarantined";
    pub(in crate::audit) const DUPLICATE: &str = "audit.entries_duplicate";
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
    /// Entries of months that retention removed, with an entry in its ledger, and that were not restored.
    pub expired: u64,
    /// Entries that it declared lost.
    pub declared_lost: u64,
    /// Entries that the database rejected, declared, and not stored since.
    pub quarantined: u64,
    /// Entries that were submitted more than once, counted without the first time: they are stored, under
    /// another number.
    pub repeated: u64,
    /// Entries that should be there, undeclared.
    pub missing: u64,
    /// Where those are: the first hundred ranges of numbers, both ends included.
    pub missing_ranges: Vec<(u64, u64)>,
    /// Numbers that several rows have. No writer does that.
    pub reused_numbers: u64,
    /// Accepted entries of which the trail cannot tell whether they are lost, at most: those between the
    /// last number that the writer attests and the last stored, and one queue more. 0 after a clean end;
    /// none if the writer's start is not on record, and with it how large its queue is.
    ///
    /// Only entries that the queue accepted. Entries that it refused are declared within about a second
    /// while the database accepts rows; a process that is killed before that leaves no trace of them,
    /// however many they were. Entries that a spool holds are in the spool, and are not counted here.
    pub accepted_unknown_at_most: Option<u64>,
}

/// Whether a writer's entries are all accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It ended cleanly, and every entry is stored, or was until its month was dropped on record.
    Complete,
    /// The same, except that some entries were declared lost or rejected.
    Declared,
    /// It still runs, or it ended uncleanly; nothing that it attested is missing.
    Open,
    /// Entries that it attested are neither stored nor declared, or several rows have one number.
    Missing,
}

impl Verdict {
    /// The word for it, as JSON has it.
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
    // The records first: what they attest was committed before them.
    let mut declared: BTreeMap<String, Declarations> = BTreeMap::new();
    for record in queries::records(conn).await? {
        let text = String::from_utf8_lossy;
        declared
            .entry(record.writer)
            .or_default()
            .add(&text(&record.action), &text(&record.metadata));
    }
    let mut found = Vec::new();
    for totals in queries::totals(conn).await? {
        let gaps = if totals.has_gaps() {
            queries::gaps(conn, &totals.writer).await?
        } else {
            Vec::new()
        };
        found.push((totals, gaps));
    }
    // Last: a month that is dropped meanwhile is in its ledger once its rows are gone.
    for range in queries::dropped_ranges(conn).await? {
        declared
            .entry(range.writer)
            .or_default()
            .add_dropped(range.first, range.last);
    }
    let mut accounts: Vec<WriterAccount> = found
        .into_iter()
        .filter_map(|(totals, gaps)| {
            account(
                &totals,
                &declared.remove(&totals.writer).unwrap_or_default(),
                &gaps,
            )
        })
        .collect();
    accounts.sort_by_key(|account| std::cmp::Reverse(account.last_seen));
    Ok(accounts)
}
