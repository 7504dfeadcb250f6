//! Why the feed cannot go on.

use crate::audit::query::QueryError;

/// Why a text is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// It is no position, or was changed.
    #[error(
        "the position is damaged: pass it on exactly as it was returned, or start again from the beginning"
    )]
    Damaged,
    /// It is of another version of this program.
    #[error("the position has version {0}, and this program reads version 1: start again from the beginning")]
    Version(u8),
}

/// Why the feed cannot go on. Converts into diesel's error, so that `?` works within
/// [`for_tenant`](crate::audit::for_tenant).
///
/// To start again means to begin at [`Position::beginning`](super::Position::beginning), with `since:` in the filter
/// if the time of the last known row is known. Rows may then come a second time; `id` and `created_at` identify them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The text is no position.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The position was returned by another database: another server, another file, or another table.
    #[error(
        "the position belongs to another database (another {0}): start again from the beginning or a time"
    )]
    OtherDatabase(&'static str),
    /// The server was restored to a point in time, or a standby was promoted: transactions that the position
    /// knows may not be there.
    #[error(
        "the position belongs to timeline {position} of the server, which is on timeline {server} after a restore or a \
         failover: rows may be lost; start again from a time before it"
    )]
    Timeline {
        /// The timeline at which the position was returned.
        position: u32,
        /// The timeline of the server.
        server: u32,
    },
    /// The position is ahead of the database: an older copy was restored.
    #[error(
        "the position ({position}) is ahead of the database ({server}): an older copy was restored, or the surrounding \
         transaction is older than the position; start again from a time before the copy"
    )]
    Backwards {
        /// The transaction, or the row of SQLite, up to which the position goes.
        position: i64,
        /// The newest one of the database.
        server: i64,
    },
    /// The last row of the position is not in the trail, though others of its month are.
    #[error(
        "the last row that the position has passed is not there: an older copy of the database was restored, or the \
         position belongs to another reader; start again from a time before the copy"
    )]
    LastRowMissing,
    /// A standby does not list the transactions that are in progress on its primary.
    #[error(
        "the server is a standby, which does not know the open transactions: read the feed from the primary"
    )]
    Standby,
    /// The surrounding transaction has written: a rollback would undo rows that the feed had returned.
    #[error("the feed is read in a transaction that has written: read it before, or on another connection")]
    TransactionHasWritten,
    /// Another reader has saved a position under this name since it was loaded.
    #[error("another reader saved a position as {name:?}: let one reader use a name, and load it again")]
    Conflict {
        /// The name.
        name: String,
    },
    /// The filter cannot be a part of a statement.
    #[error(transparent)]
    Filter(QueryError),
    /// The database did not answer, has no feed, or refused the statement.
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
}

impl From<FeedError> for diesel::result::Error {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Database(error) => error,
            other => Self::QueryBuilderError(Box::new(other)),
        }
    }
}
