//! The migrations of a PostgreSQL database. Statements are sent as simple queries, and all that they set ends
//! with their transaction: a pooler in transaction mode may be in between.

use std::any::Any;
use std::collections::HashSet;
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::Migration;
use diesel::pg::Pg;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::super::connect::connect_driven;
use super::super::hosts::Route;
use super::{Evidence, MigrationState, Outcome, all, states, version};
use crate::client::describe;

/// The longest wait for the answer to a statement, which may wait for a lock for 10 seconds.
const STATEMENT_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 15 });

/// The longest wait for the answer to a migration.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// As diesel creates it.
const CREATE_TABLE: &str = "SET LOCAL lock_timeout = '10s'; \
     CREATE TABLE IF NOT EXISTS __diesel_schema_migrations \
     (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// Makes programs take turns. Unlike an advisory lock it requires a right, and the locks of readers, of writers and of
/// `PREPARE`, which requires none, do not conflict with it.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '10s'; \
     LOCK TABLE __diesel_schema_migrations IN SHARE UPDATE EXCLUSIVE MODE";

/// The limit ends with the message, which is a transaction of its own unless there is one.
const APPLIED: &str = "SET LOCAL lock_timeout = '10s'; SELECT version FROM __diesel_schema_migrations";

pub(super) async fn status(route: &Route) -> Outcome<Vec<MigrationState>> {
    let client = connect_driven(route).await?;
    Ok(states(
        &all::<Pg>(&db_schema::MIGRATIONS)?,
        &applied(&client).await?,
    ))
}

pub(super) async fn migrate(route: &Route) -> Outcome<Vec<String>> {
    let client = connect_driven(route).await?;
    if pending(&client).await?.is_empty() {
        return Ok(Vec::new());
    }
    create_table(&client).await?;
    run(&client, BEGIN, STATEMENT_LIMIT).await?;
    let mut ran = Vec::new();
    for migration in pending(&client).await? {
        let version = version(&*migration);
        run(&client, &sql(|sql| migration.run(sql))?, MIGRATION_LIMIT).await?;
        let note = format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')");
        run(&client, &note, STATEMENT_LIMIT).await?;
        ran.push(version);
    }
    run(&client, "COMMIT", STATEMENT_LIMIT).await?;
    Ok(ran)
}

/// Permits a migration to remove holds and the ledger, until the transaction ends.
const REMOVE_EVIDENCE: &str = "SET LOCAL audit.remove_evidence = 'on'";

pub(super) async fn revert(route: &Route, evidence: Evidence) -> Outcome<String> {
    let client = connect_driven(route).await?;
    let migrations = all::<Pg>(&db_schema::MIGRATIONS)?;
    if applied(&client).await?.is_empty() {
        return Err("it has no migration to revert".into());
    }
    run(&client, BEGIN, STATEMENT_LIMIT).await?;
    if evidence == Evidence::Removed {
        run(&client, REMOVE_EVIDENCE, STATEMENT_LIMIT).await?;
    }
    let newest = applied(&client).await?.into_iter().max().unwrap_or_default();
    let migration = migrations
        .iter()
        .find(|migration| version(&***migration) == newest);
    let migration = migration
        .ok_or_else(|| format!("its newest migration is {newest:?}, which this version does not have"))?;
    run(&client, &sql(|sql| migration.revert(sql))?, MIGRATION_LIMIT).await?;
    let note = format!("DELETE FROM __diesel_schema_migrations WHERE version = '{newest}'");
    run(&client, &note, STATEMENT_LIMIT).await?;
    run(&client, "COMMIT", STATEMENT_LIMIT).await?;
    Ok(newest)
}

/// The migrations that a database does not have.
async fn pending(client: &Client) -> Outcome<Vec<Box<dyn Migration<Pg>>>> {
    let applied = applied(client).await?;
    let mut migrations = all::<Pg>(&db_schema::MIGRATIONS)?;
    migrations.retain(|migration| !applied.contains(&version(&**migration)));
    Ok(migrations)
}

/// The versions that a database has.
async fn applied(client: &Client) -> Outcome<HashSet<String>> {
    let query = client.simple_query(APPLIED);
    let rows = match timeout(STATEMENT_LIMIT, query).await {
        Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(HashSet::new()),
        Ok(rows) => rows.map_err(|error| shown(&error))?,
        Err(_) => return Err(no_answer(STATEMENT_LIMIT).into()),
    };
    let versions = rows.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(versions.collect())
}

/// Creates the table of migrations, unless it exists.
async fn create_table(client: &Client) -> Outcome<()> {
    // Two programs that do so at the same time: one of them gets an error of the catalog's indexes.
    let exists = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    match timeout(STATEMENT_LIMIT, client.batch_execute(CREATE_TABLE)).await {
        Ok(Err(error)) if error.code().is_some_and(|code| exists.contains(code)) => Ok(()),
        Ok(done) => Ok(done.map_err(|error| shown(&error))?),
        Err(_) => Err(no_answer(STATEMENT_LIMIT).into()),
    }
}

async fn run(client: &Client, sql: &str, limit: Duration) -> Outcome<()> {
    match timeout(limit, client.batch_execute(sql)).await {
        Ok(done) => Ok(done.map_err(|error| shown(&error))?),
        Err(_) => Err(no_answer(limit).into()),
    }
}

fn no_answer(limit: Duration) -> String {
    format!("the server did not answer within {limit:?}; the connection was closed")
}

/// The server's message with its hint, and for a lock how to find its holder.
fn shown(error: &Error) -> String {
    let Some(server) = error.as_db_error() else {
        return describe(error);
    };
    let message = server.message();
    if *server.code() != SqlState::LOCK_NOT_AVAILABLE {
        return match server.hint() {
            Some(hint) => format!("{message} ({hint})"),
            None => message.to_owned(),
        };
    }
    format!(
        "{message} (another session, perhaps another migration, holds a lock on __diesel_schema_migrations or on a \
         table of the trail; find it with: SELECT DISTINCT pid, usename, application_name, state, query FROM \
         pg_locks JOIN pg_stat_activity USING (pid) WHERE relation IN \
         ('__diesel_schema_migrations'::regclass, to_regclass('audit_logs')))"
    )
}

/// The SQL of a migration, which diesel hands to a connection.
fn sql(run: impl FnOnce(&mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()>) -> Outcome<String> {
    let mut collected = Collected(String::new());
    run(&mut collected)?;
    Ok(collected.0)
}

/// Collects statements instead of running them: tokio-postgres runs them, with a limit and a SQLSTATE.
struct Collected(String);

impl SimpleConnection for Collected {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.0.push_str(query);
        Ok(())
    }
}

impl BoxableConnection<Pg> for Collected {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Database;
    use crate::client::test_servers::{server, welcoming};

    /// A server that is stopped, or a network that swallows what is sent, after the connection was opened.
    async fn silent() -> Database {
        Database::from_url(&format!("postgres://u@{}/db", welcoming().await)).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_becomes_silent_is_not_waited_for() {
        let database = silent().await;
        database.postgres_client().await.expect("it accepts connections");
        for error in [
            database.migration_status().await.map(drop).unwrap_err(),
            database.migrate().await.map(drop).unwrap_err(),
            database.revert_migration().await.map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains("did not answer within 2s"), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn dropping_the_future_of_the_status_ends_its_thread() {
        let threads = || {
            std::fs::read_dir("/proc/self/task")
                .unwrap()
                .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok())
                .filter(|name| name.starts_with("db-migrations"))
                .count()
        };
        // For ten minutes it would wait for this server.
        let url = format!("postgres://u@{}/db?connect_timeout=600", server(None).await);
        let database = Database::from_url(&url).unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(database.migration_status())).collect();
        for status in &mut waiting {
            // Polled, so that its thread starts, and without an answer.
            assert!(timeout(Duration::from_millis(100), status).await.is_err());
        }
        assert!(threads() >= 5, "other tests may have such a thread too");
        drop(waiting);
        db_test::wait_for("the threads to end", async || threads() == 0).await;
    }
}
