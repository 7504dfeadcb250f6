//! The feed: each row of the trail once, in the order in which transactions commit, for exporters, streams and live views.
//!
//! [`next`] returns the rows behind a [`Position`], and the position behind them. It never waits for rows or for open
//! transactions; call it again later. Keep the position with the rows, or by name in the database ([`load`], [`save`]).
//!
//! ```no_run
//! use db_services::audit::feed;
//! use db_services::audit::query::AuditFilter;
//! use db_services::client::Database;
//!
//! async fn ship(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
//!     let filter = AuditFilter::parse("action:auth.*", &chrono::Utc::now())?;
//!     let mut conn = database.connection().await?;
//!     let mut saved = feed::load(&mut conn, "siem").await?;
//!     loop {
//!         let position = saved.clone().unwrap_or_else(feed::Position::beginning);
//!         let batch = feed::next(&mut conn, &position, &filter, 1_000).await?;
//!         for row in &batch.rows {
//!             println!("{} {}", row.id, row.action);
//!         }
//!         feed::save(&mut conn, "siem", saved.as_ref(), Some(&batch.position)).await?;
//!         saved = Some(batch.position);
//!         if !batch.more {
//!             tokio::time::sleep(std::time::Duration::from_secs(1)).await;
//!         }
//!     }
//! }
//! ```
//!
//! # Why not by time or by number
//!
//! A reader that remembers the newest time, or the highest number, loses rows: both are given when a row is inserted, and
//! the row is visible when its transaction commits.
//!
//! | | session A | session B | a reader by time | the feed |
//! | --- | --- | --- | --- | --- |
//! | 10:00:00 | inserts row 1 | | | |
//! | 10:00:01 | | inserts row 2, commits | | |
//! | 10:00:02 | | | reads row 2, remembers 10:00:01 | reads row 2, remembers that A is open |
//! | 10:00:03 | commits | | | |
//! | 10:00:04 | | | asks for rows after 10:00:01: **none** | A has ended: reads row 1 |
//!
//! An overlap ("the last five minutes again") loses the rows of transactions that take longer, and repeats the others.
//!
//! # Positions
//!
//! On PostgreSQL it is a snapshot: all transactions up to one were read, but for those of a list, which were open. With
//! it come the identifier of the server, its timeline, the database and the table, so a position is refused elsewhere, after
//! a restore to a point in time and after a failover. The key of the last row shows a restored older copy of the files, if it was made before that row.
//! Rows come in the order of their transaction's id, then `created_at`, then `id`; those of late transactions when they
//! have ended. A transaction is not divided between batches, unless it alone has more rows than `limit`, or more than 16 MiB.
//!
//! On SQLite transactions write one at a time. A trigger numbers the rows, and the position is the last number, the
//! file's identifier and the row's id. Do not read in a transaction that has written: SQLite cannot tell, so it is not
//! refused there, and a rollback would undo rows that were returned.
//!
//! # Restored rows
//!
//! Rows that `auditlog restore`, or `pg_restore --data-only`, puts into a trail have the transaction ids with which they were
//! written. A position that has passed those does not return them again. Those that another cluster has written may have
//! ids from the future: a feed from the beginning returns them first; if they arrive later, they come when the
//! cluster's transactions have got there. After such a restore, start again from the beginning.

mod budget;
mod error;
mod frontier;
mod month;
mod names;
mod place;
mod position;
mod postgres;
mod sqlite;
mod state;
mod statements;

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod statements_tests;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use error::{FeedError, PositionError};
pub use names::{load, save};
pub use position::Position;

use super::AuditLog;
use super::query::AuditFilter;
use crate::client::Connection;

/// How long a call looks for rows that pass the filter before it returns without any.
const PATIENCE: Duration = Duration::from_secs(1);

/// Rows of the feed, and where it goes on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// The rows: at most `limit`, and about 16 MiB unless one alone has more. There may be none although there are [more](Self::more).
    pub rows: Vec<AuditLog>,
    /// Behind these rows.
    pub position: Position,
    /// Whether there was more to read at the time of the call: call again at once.
    pub more: bool,
    /// How far the reader is behind.
    pub lag: Lag,
}

/// How far a reader of the feed is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// On PostgreSQL, how many transactions have begun behind the position, whether or not they wrote to the trail. On
    /// SQLite, how many rows are behind it.
    pub unread: u64,
    /// How many transactions before the position were open. If they wrote to the trail, their rows come when they
    /// have committed. Always 0 on SQLite.
    pub open: usize,
    /// The oldest open transaction of the server, in any of its databases. It holds back its own rows alone.
    pub oldest: Option<OldestTransaction>,
}

/// The oldest open transaction of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldestTransaction {
    /// Its id.
    pub tx_id: i64,
    /// How many transactions have begun since.
    pub behind: u64,
    /// When it began, or was prepared. PostgreSQL shows that of other users' sessions to members of `pg_read_all_stats`
    /// alone.
    pub began: Option<DateTime<Utc>>,
}

impl Position {
    /// Behind all rows that are visible now: the feed returns what is committed later.
    ///
    /// # Errors
    /// As [`next`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn now(conn: &mut Connection) -> Result<Self, FeedError> {
        match conn {
            Connection::Postgres(conn) => postgres::now(conn).await,
            Connection::Sqlite(conn) => sqlite::now(conn).await,
        }
    }
}

/// Returns at most `limit` rows behind a position that pass the filter. Other rows are passed over: the position moves
/// behind them as well. A limit of 0 is taken for 1.
///
/// Within [`for_tenant`](crate::audit::for_tenant) these are the tenant's rows.
///
/// A call takes about a second at most, unless one transaction has millions of rows. Memory is that of the batch, however
/// large the rows are. PostgreSQL may send more of a transaction of large rows than a batch holds: with a lower limit
/// it sends less.
/// It does not wait: without new rows it returns none.
///
/// # Errors
/// When the position is not one of this database or may have lost rows ([`FeedError`] says which and what to do); on a
/// standby; in a transaction that has written (PostgreSQL); when the database does not answer or has no table.
///
/// # Cancel safety
/// Dropping the future loses nothing: the old position stays valid. On PostgreSQL drop the connection with it, since
/// the transaction of the call was left open; the pool closes such a connection.
pub async fn next(
    conn: &mut Connection,
    position: &Position,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Batch, FeedError> {
    filter.check().map_err(FeedError::Filter)?;
    let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
    match conn {
        Connection::Postgres(conn) => postgres::next(conn, &position.0, filter, limit).await,
        Connection::Sqlite(conn) => sqlite::next(conn, &position.0, filter, limit).await,
    }
}
