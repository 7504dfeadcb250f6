//! What a position on PostgreSQL, and a window, consist of.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which table of which server a position belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    /// The system identifier, which `initdb` chooses.
    pub(super) system: i64,
    pub(super) timeline: u32,
    pub(super) database: i64,
    pub(super) table: i64,
}

/// A row, as the database stores its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) tx: i64,
    /// Microseconds since 2000.
    pub(super) created_at: i64,
    pub(super) id: Uuid,
}

/// How the rest of a large transaction is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// By the index on `tx_id`; all its rows are sorted each time.
    Sorted,
    /// By the indexes on time and id, up to its last time.
    Indexed(i64),
}

/// A transaction that is read in parts: up to the row `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inside {
    pub(super) after: Key,
    pub(super) way: Way,
}

/// Rows whose transactions are in the future, because another cluster wrote them: those with a `tx_id` from `mark` to
/// `until` that were inserted before the transaction `mark`. The feed reads them first. Rows of the same `tx_id` that
/// are inserted later come when `next` gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ahead {
    pub(super) mark: i64,
    pub(super) until: i64,
    /// The first that was not read. None at the end.
    pub(super) next: Option<i64>,
}

/// The transactions that a statement sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The oldest open transaction, or `end`.
    pub(super) oldest: i64,
    /// The first that has not begun.
    pub(super) end: i64,
    /// Open transactions, ascending.
    pub(super) running: Vec<i64>,
}

impl Snapshot {
    /// Reads the text of a `pg_snapshot`: `10:20:10,14,15`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (oldest, end, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|tx| !tx.is_empty());
        let mut running: Vec<i64> = running.map(|tx| tx.parse().ok()).collect::<Option<_>>()?;
        running.sort_unstable();
        Some(Self {
            oldest: oldest.parse().ok()?,
            end: end.parse().ok()?,
            running,
        })
    }
}

/// Which rows of a window are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Rows of another cluster, inserted before this transaction.
    Ahead(i64),
    Late,
    New,
}

/// What to read: rows with a `tx_id` from `from` to before `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) part: Part,
    pub(super) from: i64,
    pub(super) to: i64,
    /// For late transactions these alone; otherwise all but these.
    pub(super) listed: Vec<i64>,
    pub(super) inside: Option<Inside>,
    /// Rows inserted before `mark` are left out, as [`Ahead`] has them.
    pub(super) without: Option<Ahead>,
}

impl Window {
    /// How many ids it has that a database gives.
    pub(super) fn covered(&self) -> i64 {
        self.to.saturating_sub(self.from.max(0))
    }
}
