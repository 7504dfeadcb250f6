//! Detects a pooler that assigns sessions per transaction.
//!
//! Two open connections have two different sessions, and each keeps its own, unless a pooler assigns a session
//! for each transaction. Then a prepared statement, which audit writers depend on, may belong to another
//! session than the one that is to run it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::doctor::Code::Pooler;
use crate::doctor::{DoctorError, Finding, Severity};

const SESSION_ID: &str = "SELECT pg_catalog.pg_backend_pid()";
/// How long to wait for a second session: a pooler that has only one never assigns it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to try to get the same session twice, while other clients use the pooler.
const MAX_ATTEMPTS: usize = 5;

/// Compares the sessions of two connections to the same database.
pub(super) async fn examine(one: &Client, other: &Client) -> Result<Vec<Finding>, DoctorError> {
    if !shares_sessions(one, other).await? {
        return Ok(vec![Finding::ok(Pooler, "each connection keeps its session")]);
    }
    Ok(vec![match keeps_statements(one, other).await? {
        Some(true) => Finding::new(
            Pooler,
            Severity::Info,
            "a pooler assigns sessions per transaction, and keeps prepared statements: writers and tenant \
             reads work; settings of a session, such as the synchronous_commit that a writer sets, are lost \
             and may affect other clients",
            "-- connect directly for migrations, which use a session's lock; set synchronous_commit for the user",
        ),
        Some(false) => Finding::new(Pooler, Severity::Critical, LOSES, REMEDY),
        None => Finding::new(Pooler, Severity::Warning, UNKNOWN, REMEDY),
    }])
}

const LOSES: &str =
    "a pooler assigns sessions per transaction, and loses prepared statements: writers fail intermittently";
const UNKNOWN: &str = "a pooler assigns sessions per transaction; whether it keeps prepared statements could not be \
     tested, so writers may fail intermittently";
const REMEDY: &str = "-- PgBouncer in transaction mode needs 1.21 or newer with max_prepared_statements > 0; or use session mode;\n\
     -- or connect the audit writer directly";

async fn session(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query(SESSION_ID).await?;
    Ok(messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// True if one session served both connections, or two sessions served one connection. The order is irregular,
/// because strict alternation would not detect a pooler that assigns sessions in turn.
async fn shares_sessions(one: &Client, other: &Client) -> Result<bool, Error> {
    let (mut ones, mut others) = (BTreeSet::new(), BTreeSet::new());
    for first in [true, false, false, true, true, true, false, true, false, false] {
        if first {
            ones.insert(session(one).await?);
        } else {
            others.insert(session(other).await?);
        }
    }
    Ok(ones.len() > 1 || others.len() > 1 || !ones.is_disjoint(&others))
}

/// Whether a statement that was prepared in one session exists in the next; none if there is no second session.
/// The statement is closed in the session that prepared it.
async fn keeps_statements(one: &Client, other: &Client) -> Result<Option<bool>, Error> {
    for _ in 0..MAX_ATTEMPTS {
        one.batch_execute("BEGIN").await?;
        let prepared_in = session(one).await?;
        let prepared = one.prepare("SELECT 1").await;
        one.batch_execute("ROLLBACK").await?;
        let statement = match prepared {
            Ok(statement) => statement,
            Err(error) if is_lost(&error) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        // The other connection takes the session and keeps it, so that the first one has to use another.
        other.batch_execute("BEGIN").await?;
        let moved = session(other).await? == prepared_in;
        let run = if moved {
            tokio::time::timeout(SESSION_TIMEOUT, one.execute(&statement, &[]))
                .await
                .ok()
        } else {
            None
        };
        other.batch_execute("ROLLBACK").await?;
        close(one, other, statement, prepared_in.as_deref()).await?;
        match run {
            Some(Ok(_)) => return Ok(Some(true)),
            Some(Err(error)) if is_lost(&error) => return Ok(Some(false)),
            Some(Err(error)) => return Err(error),
            // The timeout passed: there is no second session.
            None if moved => return Ok(None),
            None => {}
        }
    }
    Ok(None)
}

/// Closes a statement in the session that has it. A pooler that reuses the most recently returned session would
/// assign the same wrong one again, so every second time the other connection holds it meanwhile.
async fn close(
    one: &Client,
    other: &Client,
    statement: tokio_postgres::Statement,
    prepared_in: Option<&str>,
) -> Result<(), Error> {
    for held in [false, true].into_iter().cycle().take(2 * MAX_ATTEMPTS) {
        if held {
            other.batch_execute("BEGIN").await?;
        }
        let is_right_session = tokio::time::timeout(SESSION_TIMEOUT, async {
            one.batch_execute("BEGIN").await?;
            Ok::<_, Error>(session(one).await?.as_deref() == prepared_in)
        })
        .await;
        if matches!(is_right_session, Ok(Ok(true))) {
            drop(statement);
            one.batch_execute("ROLLBACK").await?;
            return other.batch_execute("ROLLBACK").await;
        }
        // The other connection first: this one may still wait for a session.
        other.batch_execute("ROLLBACK").await?;
        one.batch_execute("ROLLBACK").await?;
        is_right_session.unwrap_or(Ok(false))?;
    }
    Ok(())
}

fn is_lost(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| matches!(code.code(), "26000" | "42P05"))
}
