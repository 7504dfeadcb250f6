//! Creates the upcoming partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::LOG_TARGET;
use crate::client::{Route, connect_as, describe};

/// An error of connecting, or of a statement.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The longest that creating them may take: other sessions can hold the table.
const LIMIT: Duration = Duration::from_secs(60);

/// True if there are partitions for more than this month and the next.
const HAS_FUTURE_PARTITIONS: &str = "SELECT EXISTS ( \
     SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit_logs'::regclass \
     AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz > now() + interval '2 months')";

/// Creates the upcoming partitions, once for a writer: when it has written something, on a connection of its
/// own that is closed again. No entry waits for it, and none is harmed if it fails.
#[derive(Clone, Default)]
pub(crate) struct PartitionCreator(Arc<AtomicBool>);

impl PartitionCreator {
    /// Starts, unless it was started before.
    pub(super) fn create_once(&self, route: &Route) {
        if !self.0.swap(true, Ordering::Relaxed) {
            let route = route.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(LIMIT, create_partitions(&route)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        log::debug!(target: LOG_TARGET, reason = describe(&*error).as_str(); "the upcoming partitions could not be checked: {}", describe(&*error))
                    }
                    Err(_) => {
                        log::debug!(target: LOG_TARGET, seconds = LIMIT.as_secs(); "the upcoming partitions could not be checked within {LIMIT:?}")
                    }
                }
            });
        }
    }
}

async fn create_partitions(route: &Route) -> Result<(), Failure> {
    let client = connect_as(route, "audit-months").await?;
    match client
        .query_one("SELECT audit_logs_ensure_partitions()", &[])
        .await
    {
        Ok(created) => {
            let created: i32 = created.try_get(0)?;
            if created > 0 {
                log::info!(target: LOG_TARGET, created; "created {created} upcoming partitions of audit_logs");
            }
        }
        Err(error) => warn_if_few(&client, &error).await?,
    }
    Ok(())
}

/// Warns an operator if few partitions are left.
async fn warn_if_few(client: &Client, error: &Error) -> Result<(), Error> {
    let reason = error
        .as_db_error()
        .map_or_else(|| describe(error), |server| server.message().to_owned());
    if client.query_one(HAS_FUTURE_PARTITIONS, &[]).await?.try_get(0)? {
        log::debug!(target: LOG_TARGET, reason = reason.as_str(); "no upcoming partitions were created, and enough exist ({reason})");
    } else {
        log::warn!(
            target: LOG_TARGET, reason = reason.as_str();
            "the partitions of audit_logs end within two months, and this user cannot create more ({reason}); \
             run `auditlog partitions ensure` as a user who may. Until then rows go to the default partition"
        );
    }
    Ok(())
}
