//! Writes batches to PostgreSQL.

mod classify;
mod session;

use std::time::Duration;

use audit_core::writer::{Attempt, SinkError, SinkErrorKind, Written};

use super::{KnownGoodRow, PartitionCreator, Rows, Sink};
use crate::audit::row::LogRow;
use crate::client::Route;
use session::{Failure, Session};

/// Writes to PostgreSQL on one connection of its own, opened when first needed and again after an
/// error that may have harmed it.
pub(crate) struct PostgresSink {
    route: Route,
    /// The longest that an attempt may take, connecting and classifying an error included.
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

    async fn attempt(&mut self, rows: &[LogRow], attempt: Attempt) -> Result<Written, SinkError> {
        // Taken: if this is cut short or fails, the next attempt begins with a new connection.
        let idle = self.session.take().filter(|session| !session.is_closed());
        let was_idle = idle.is_some();
        let mut session = match idle {
            Some(session) => session,
            None => Session::open(&self.route).await?,
        };
        let mut result = session.write(rows, attempt).await;
        if was_idle && result.as_ref().is_err_and(Failure::is_closed) {
            // A server or a pooler that ends an idle session is no outage. It may have ended after the batch was
            // stored: a retry finds that.
            session = Session::open(&self.route).await?;
            result = session.write(rows, Attempt::Retry).await;
        }
        let written = match result {
            Ok(written) => written,
            Err(failure) => return Err(session.classify(failure, &self.known_good, rows).await),
        };
        if written.duplicates.is_empty() {
            self.known_good.remember(rows);
        }
        if let Some(partitions) = &self.partitions {
            partitions.create_once(&self.route);
        }
        self.session = Some(session);
        Ok(written)
    }
}

impl Sink for PostgresSink {
    async fn write(&mut self, rows: Rows, attempt: Attempt) -> Result<Written, SinkError> {
        match tokio::time::timeout(self.limit, self.attempt(&rows, attempt)).await {
            Ok(result) => result,
            Err(_) => Err(SinkError {
                kind: SinkErrorKind::Transient,
                reason: format!("no answer within {:?}", self.limit),
                sqlstate: None,
            }),
        }
    }
}
