//! Writes batches to PostgreSQL.

mod classify;
mod session;

use std::time::Duration;

use audit_core::writer::{Attempt, SinkError, SinkErrorKind, Written};

use super::{KnownGoodRow, PartitionCreator, Rows, Sink};
use crate::client::Route;
use session::{Failure, Session};

/// Writes to PostgreSQL on one connection of its own, opened when first needed and again after an
/// error that may have harmed it.
pub(crate) struct PostgresSink {
    route: Route,
    /// The longest that each step of an attempt may take: connecting to one address, the statements of a
    /// batch, and classifying an error.
    limit: Duration,
    session: Option<Session>,
    known_good: KnownGoodRow,
    partitions: Option<PartitionCreator>,
}

impl PostgresSink {
    pub(crate) fn new(route: Route, limit: Duration) -> Self {
        Self {
            route,
            limit,
            session: None,
            known_good: KnownGoodRow::default(),
            partitions: None,
        }
    }

    /// Creates the upcoming partitions as well.
    pub(crate) fn creating_partitions(self) -> Self {
        Self {
            partitions: Some(PartitionCreator::default()),
            ..self
        }
    }

    /// Another connection for the same writer.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            route: self.route.clone(),
            limit: self.limit,
            session: None,
            known_good: self.known_good.clone(),
            partitions: self.partitions.clone(),
        }
    }

    /// A session: the idle one, or a new one, and whether it was idle. Connecting is not part of `limit`,
    /// which could end before the last host is tried.
    async fn session(&mut self) -> Result<(Session, bool), SinkError> {
        // Taken: if the attempt is cut short or fails, the next one begins with a new connection.
        match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok((session, true)),
            None => Ok((Session::open(&self.route, self.limit).await?, false)),
        }
    }
}

impl Sink for PostgresSink {
    async fn write(&mut self, rows: Rows, attempt: Attempt) -> Result<Written, SinkError> {
        let (mut session, was_idle) = self.session().await?;
        let mut result = within(self.limit, session.write(&rows, attempt)).await?;
        if was_idle && result.as_ref().is_err_and(Failure::is_closed) {
            // A server or a pooler that ends an idle session is no outage. It may have ended after the batch was
            // stored: a retry finds that.
            session = Session::open(&self.route, self.limit).await?;
            result = within(self.limit, session.write(&rows, Attempt::Retry)).await?;
        }
        let written = match result {
            Ok(written) => written,
            Err(failure) => {
                let classify = session.classify(failure, &self.known_good, &rows);
                return Err(within(self.limit, classify).await?);
            }
        };
        if written.duplicates.is_empty() {
            self.known_good.remember(&rows);
        }
        if let Some(partitions) = &self.partitions {
            partitions.create_once(&self.route);
        }
        self.session = Some(session);
        Ok(written)
    }
}

/// The output of a future, or a transient error if it takes longer than `limit`.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, SinkError> {
    tokio::time::timeout(limit, future).await.map_err(|_| SinkError {
        kind: SinkErrorKind::Transient,
        reason: format!("no answer within {limit:?}"),
        sqlstate: None,
    })
}
