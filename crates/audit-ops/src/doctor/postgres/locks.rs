//! Looks for sessions that stop the trail with a lock, before any other check can wait for one.
//!
//! PostgreSQL locks a table before it looks at the rights on it. A user without any right on the trail, who may use its
//! schema, can therefore hold locks until the transaction ends, and queue for the strongest one, behind which all others
//! wait.

use std::time::Duration;

use super::comparison::Names;
use super::session::{Row, Session};
use crate::doctor::Code::Locks;
use crate::doctor::{DoctorError, Finding, Severity};

const LOCKS: &str = include_str!("checks/locks.sql");

/// Writers, readers and monthly jobs hold and await locks briefly. Only what is there twice is a finding.
const PAUSE: Duration = Duration::from_secs(1);

/// How a session concerns the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lock {
    pid: String,
    transaction: String,
    user: String,
    does: String,
    /// Modes and tables.
    what: String,
    behind: String,
}

/// The search_path is pg_catalog.
pub(super) async fn examine(session: &Session, names: &Names) -> Result<Vec<Finding>, DoctorError> {
    let query = async || session.query_in_savepoint(&names.sql(LOCKS)).await;
    let first = match query().await? {
        Ok(rows) => locks(rows),
        Err(refused) => return Ok(vec![Finding::not_run(Locks, refused.message)]),
    };
    if first.is_empty() {
        return Ok(vec![Finding::ok(Locks, "none")]);
    }
    tokio::time::sleep(PAUSE).await;
    // PostgreSQL shows a transaction the same pg_stat_activity until then.
    if let Err(refused) = session
        .query_in_savepoint("SELECT pg_stat_clear_snapshot()")
        .await?
    {
        return Ok(vec![Finding::not_run(Locks, refused.message)]);
    }
    let second = match query().await? {
        Ok(rows) => locks(rows),
        Err(refused) => return Ok(vec![Finding::not_run(Locks, refused.message)]),
    };
    let findings: Vec<Finding> = lasting(&first, second).iter().map(Lock::finding).collect();
    Ok(match findings.is_empty() {
        true => vec![Finding::ok(Locks, "none for longer than a second")],
        false => findings,
    })
}

fn locks(rows: Vec<Row>) -> Vec<Lock> {
    let locks = rows.into_iter().filter_map(|row| {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [pid, transaction, user, does, what, behind] = <[String; 6]>::try_from(cells).ok()?;
        Some(Lock {
            pid,
            transaction,
            user,
            does,
            what,
            behind,
        })
    });
    locks.collect()
}

/// Those of the second list that the same transactions had in the first.
fn lasting(first: &[Lock], second: Vec<Lock>) -> Vec<Lock> {
    let same = |lock: &Lock| {
        first.iter().any(|other| {
            (&other.pid, &other.transaction, &other.does) == (&lock.pid, &lock.transaction, &lock.does)
        })
    };
    second.into_iter().filter(same).collect()
}

impl Lock {
    fn finding(&self) -> Finding {
        let Self {
            pid,
            user,
            what,
            behind,
            ..
        } = self;
        let found = match self.does.as_str() {
            "waits" => format!(
                "the session {pid} of {user} waits for {what}, behind {}; statements that need the table after it wait as well",
                if behind.is_empty() {
                    "another session"
                } else {
                    behind
                }
            ),
            "stops" => format!(
                "the session {pid} of {user} holds {what}: readers, writers or the monthly job wait for it"
            ),
            _ => format!(
                "the session {pid} of {user}, which has none of the trail's roles, holds {what}: months cannot be created or dropped"
            ),
        };
        let advice = match self.does.as_str() {
            "foreign" => "\n-- without USAGE on the trail's schema it could not, see the check GRANTS",
            _ => "",
        };
        Finding::new(
            Locks,
            Severity::Warning,
            found,
            format!(
                "-- find out what it does; this ends it, and rolls back what it did:\nSELECT pg_catalog.pg_terminate_backend({pid});{advice}"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_same_transaction_does_for_longer_is_a_finding() {
        let lock = |pid: &str, transaction: &str, does: &str| Lock {
            pid: pid.to_owned(),
            transaction: transaction.to_owned(),
            user: "u".to_owned(),
            does: does.to_owned(),
            what: "ShareLock on t".to_owned(),
            behind: String::new(),
        };
        let first = [
            lock("1", "1/1", "stops"),
            lock("2", "2/1", "waits"),
            lock("3", "3/1", "foreign"),
        ];
        let second = vec![
            lock("1", "1/2", "stops"),
            lock("2", "2/1", "stops"),
            lock("3", "3/1", "foreign"),
            lock("4", "4/1", "waits"),
        ];
        assert_eq!(lasting(&first, second), [lock("3", "3/1", "foreign")]);
    }
}
