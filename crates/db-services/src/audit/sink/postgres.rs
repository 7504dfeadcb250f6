//! How does a batch reach PostgreSQL?

use std::time::Duration;

use db_schema::NewAuditLog;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};

use super::{Sink, SinkError};
use crate::audit::insert::{OnRepeat, array_insert};

/// The longest that one statement may take before its connection is given up.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// Writes to PostgreSQL through the writer's own pool, which replaces closed connections.
pub(crate) struct PostgresSink {
    pool: Pool<AsyncPgConnection>,
}

impl PostgresSink {
    pub(crate) fn new(pool: Pool<AsyncPgConnection>) -> Self {
        Self { pool }
    }
}

impl Sink for PostgresSink {
    async fn write(&mut self, rows: Vec<NewAuditLog>) -> Result<(), SinkError> {
        let mut conn = self.pool.get().await.map_err(|error| SinkError(crate::client::describe(&error)))?;
        // Only a repeat can collide, so the cheaper plain INSERT goes first.
        let attempt = async {
            match array_insert(&mut conn, &rows, OnRepeat::Fail).await {
                Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
                    array_insert(&mut conn, &rows, OnRepeat::Skip).await
                }
                other => other,
            }
        };
        let reason = match tokio::time::timeout(ATTEMPT_LIMIT, attempt).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => crate::client::describe(&error),
            Err(_) => format!("no answer within {} seconds", ATTEMPT_LIMIT.as_secs()),
        };
        // Its state is unknown: the next batch gets a new one.
        drop(Object::take(conn));
        Err(SinkError(reason))
    }
}
