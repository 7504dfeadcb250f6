//! Does a connection keep its session, or does a pooler change it between transactions?
//!
//! Two connections that are open at the same time have two sessions, and each always the same one,
//! unless a pooler hands sessions out by the transaction. Then prepared statements, which audit writers
//! live by, may be on another session than the one that is asked to run them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::doctor::Code::Pooler;
use crate::doctor::{DoctorError, Finding, Severity};

const SESSION: &str = "SELECT pg_catalog.pg_backend_pid()";
/// How long a second session may be waited for: a pooler with only one never gives it.
const LIMIT: Duration = Duration::from_secs(2);
/// How often it is tried to catch the same session twice, while others use the pooler.
const TRIES: usize = 5;

/// Examines the way that two connections to the same database take.
pub(super) async fn examine(one: &Client, other: &Client) -> Result<Vec<Finding>, DoctorError> {
    if !shares_sessions(one, other).await? {
        return Ok(vec![Finding::ok(Pooler, "each connection keeps its session")]);
    }
    Ok(vec![match keeps_statements(one, other).await? {
        Some(true) => Finding::new(
            Pooler,
            Severity::Info,
            "a pooler hands sessions out by the transaction, and keeps prepared statements: writers and \
             tenant reads work; what is set for a session, such as the writer's own synchronous_commit, is \
             not kept and may reach others",
            "-- connect directly for migrations, whose lock is a session's; set synchronous_commit for the user",
        ),
        Some(false) => Finding::new(Pooler, Severity::Critical, LOSES, WAY_OUT),
        None => Finding::new(Pooler, Severity::Warning, UNTRIED, WAY_OUT),
    }])
}

const LOSES: &str = "a pooler hands sessions out by the transaction, and loses prepared statements: writers fail now \
     and then";
const UNTRIED: &str = "a pooler hands sessions out by the transaction; whether it keeps prepared statements could not \
     be tried, so writers may fail now and then";
const WAY_OUT: &str = "-- PgBouncer in transaction mode needs 1.21 or newer with max_prepared_statements > 0; or session mode;\n\
     -- or connect the audit writer directly";

async fn session(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query(SESSION).await?;
    Ok(messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// True if one session served both, or one connection was served by two. In an order without rhythm:
/// a pooler that takes turns would not be noticed by strict alternation.
async fn shares_sessions(one: &Client, other: &Client) -> Result<bool, Error> {
    let (mut ones, mut others) = (BTreeSet::new(), BTreeSet::new());
    for first in [true, false, false, true, true, true, false, true, false, false] {
        match first {
            true => ones.insert(session(one).await?),
            false => others.insert(session(other).await?),
        };
    }
    Ok(ones.len() > 1 || others.len() > 1 || !ones.is_disjoint(&others))
}

/// Whether a statement that was prepared in one session is there in the next; none if no second session
/// was to be had. The statement is closed where it was prepared.
async fn keeps_statements(one: &Client, other: &Client) -> Result<Option<bool>, Error> {
    for _ in 0..TRIES {
        one.batch_execute("BEGIN").await?;
        let prepared_in = session(one).await?;
        let prepared = one.prepare("SELECT 1").await;
        one.batch_execute("ROLLBACK").await?;
        let statement = match prepared {
            Ok(statement) => statement,
            Err(error) if is_lost(&error) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        // The other takes the session, and keeps it while the first must go on with another one.
        other.batch_execute("BEGIN").await?;
        let moved = session(other).await? == prepared_in;
        let run = match moved {
            true => tokio::time::timeout(LIMIT, one.execute(&statement, &[]))
                .await
                .ok(),
            false => None,
        };
        other.batch_execute("ROLLBACK").await?;
        close(one, other, statement, prepared_in.as_deref()).await?;
        match run {
            Some(Ok(_)) => return Ok(Some(true)),
            Some(Err(error)) if is_lost(&error) => return Ok(Some(false)),
            Some(Err(error)) => return Err(error),
            // Waited for in vain: there is no second session.
            None if moved => return Ok(None),
            None => {}
        }
    }
    Ok(None)
}

/// Closes a statement in the session that has it. A pooler that gives out first what came back last
/// would give the same wrong session again, so the other connection takes that meanwhile.
async fn close(
    one: &Client,
    other: &Client,
    statement: tokio_postgres::Statement,
    prepared_in: Option<&str>,
) -> Result<(), Error> {
    for held in [false, true].into_iter().cycle().take(2 * TRIES) {
        if held {
            other.batch_execute("BEGIN").await?;
        }
        let there = tokio::time::timeout(LIMIT, async {
            one.batch_execute("BEGIN").await?;
            Ok::<_, Error>(session(one).await?.as_deref() == prepared_in)
        })
        .await;
        if matches!(there, Ok(Ok(true))) {
            drop(statement);
            one.batch_execute("ROLLBACK").await?;
            return other.batch_execute("ROLLBACK").await;
        }
        // First the other: the one may still wait for its session.
        other.batch_execute("ROLLBACK").await?;
        one.batch_execute("ROLLBACK").await?;
        there.unwrap_or(Ok(false))?;
    }
    Ok(())
}

fn is_lost(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| matches!(code.code(), "26000" | "42P05"))
}
