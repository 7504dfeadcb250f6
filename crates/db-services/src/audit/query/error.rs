//! Why a query has no result.

use std::time::Duration;

use super::cursor::CursorError;

/// Why a query has no result. Converts into diesel's error, so that `?` works within
/// [`for_tenant`](crate::audit::for_tenant).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query took longer than its [limit](super::AuditQuery::time_limit).
    #[error("the query was ended after {limit:?}: {remedy}")]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// What to narrow.
        remedy: &'static str,
    },
    /// The cursor belongs to another query.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// A histogram has too many buckets that are not empty.
    #[error(
        "the histogram has more than {limit} buckets: take wider ones, or narrow the time (since:, until:)"
    )]
    TooManyBuckets {
        /// How many are allowed.
        limit: u32,
    },
    /// The buckets of a histogram have no width.
    #[error("a bucket of a histogram is at least one microsecond wide")]
    BucketWidth,
    /// The filter is too large for a statement.
    #[error("a filter has at most {limit} conditions")]
    TooManyConditions {
        /// How many are allowed.
        limit: usize,
    },
    /// The database did not answer, has no table, or refused the query.
    #[error(transparent)]
    Database(diesel::result::Error),
}

impl From<QueryError> for diesel::result::Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Database(error) => error,
            other => Self::QueryBuilderError(Box::new(other)),
        }
    }
}
