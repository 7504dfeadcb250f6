//! The migrations of a database: the ones that it has, and running them on any runtime.

mod postgres;
mod sqlite;

use std::collections::HashSet;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::EmbeddedMigrations;
use tokio::sync::oneshot;

use super::{Database, DatabaseError, Kind};

/// A migration and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationState {
    /// The migration's directory name, which begins with its date.
    pub name: String,
    /// True if the database has it.
    pub applied: bool,
}

/// Whether reverting a migration may remove active holds and entries of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Kept,
    Removed,
}

/// The result of a step, with an error that is shown as it is.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where the result of a step goes.
type Reply<T> = oneshot::Sender<Outcome<T>>;

impl Database {
    /// Runs the migrations that the database does not have yet, all in one transaction, and returns their
    /// versions. Creates an SQLite file that does not exist, with mode 0600.
    ///
    /// Several processes may call this at the same time: one of them migrates, the others wait for it, at most
    /// 10 seconds, and then have nothing to do. If no migration is pending, nothing is locked or written, and the right to
    /// read the table `__diesel_schema_migrations` suffices.
    ///
    /// On PostgreSQL the transaction locks that table (SHARE UPDATE EXCLUSIVE), which requires UPDATE, DELETE or
    /// TRUNCATE on it. It keeps nothing in the session, so a pooler in transaction mode may be in between.
    /// In addition to [connecting](Self::connection) it waits at most
    ///
    /// - 10 seconds for each lock, of this table or of another that a migration changes,
    /// - 15 seconds for the answer to each statement of its own,
    /// - 10 minutes for the answer to each migration.
    ///
    /// On SQLite it waits at most 5 seconds for each lock of another process.
    ///
    /// Works on any runtime and outside of one: the work is done on a thread of its own.
    ///
    /// # Errors
    /// When the database cannot be reached, does not answer in time, or refuses a migration. Then it has
    /// none of them, unless the connection broke during the commit.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the migrations.
    pub async fn migrate(&self) -> Result<Vec<String>, DatabaseError> {
        let done = self
            .on_own_thread(|kind, _| match kind {
                Kind::Postgres { route, .. } => block_on(postgres::migrate(route))?,
                Kind::Sqlite { location, .. } => sqlite::migrate(location),
            })
            .await;
        if let Ok(versions) = &done
            && !versions.is_empty()
        {
            let count = versions.len();
            log::info!(target: crate::LOG_TARGET, database:% = self, count; "{self}: ran {count} migrations");
        }
        done
    }

    /// Reverts the newest migration and returns its version. **The first migration takes the
    /// table with it, and every row.** Locks and limits are those of [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// When the database cannot be reached, does not answer in time, has no migration, or refuses: an active legal hold or
    /// an entry of the retention's ledger is not removed.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop it.
    pub async fn revert_migration(&self) -> Result<String, DatabaseError> {
        self.revert(Evidence::Kept).await
    }

    /// The same, also if active legal holds and entries of the retention's ledger are removed with the migration.
    ///
    /// # Errors
    /// When the database cannot be reached, does not answer in time, has no migration, or refuses.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop it.
    pub async fn revert_migration_with_evidence(&self) -> Result<String, DatabaseError> {
        self.revert(Evidence::Removed).await
    }

    async fn revert(&self, evidence: Evidence) -> Result<String, DatabaseError> {
        self.on_own_thread(move |kind, _| match kind {
            Kind::Postgres { route, .. } => block_on(postgres::revert(route, evidence))?,
            // It has neither holds nor a ledger.
            Kind::Sqlite { location, .. } => sqlite::revert(location),
        })
        .await
    }

    /// Lists all migrations of this version in their order, each with whether the database has it.
    ///
    /// Only reads: a database without the table `__diesel_schema_migrations`, and an SQLite file that does
    /// not exist, have none of them. No lock is taken that another reader would wait for. In addition to
    /// [connecting](Self::connection) it waits at most 10 seconds for a lock, and 15 seconds for the answer.
    ///
    /// # Errors
    /// When the database cannot be reached, does not answer in time, or refuses to have the table read.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn migration_status(&self) -> Result<Vec<MigrationState>, DatabaseError> {
        self.on_own_thread(|kind, reply| match kind {
            Kind::Postgres { route, .. } => block_on(async {
                tokio::select! {
                    status = postgres::status(route) => status,
                    () = reply.closed() => Err("the future was dropped".into()),
                }
            })?,
            Kind::Sqlite { location, .. } => sqlite::status(location),
        })
        .await
    }

    /// Runs a step on a thread of its own, so that it works on any runtime and outside of one.
    async fn on_own_thread<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Kind, &mut Reply<T>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (mut reply, answer) = oneshot::channel();
        let database = self.clone();
        let run = move || {
            let outcome = step(database.kind(), &mut reply);
            let _ = reply.send(outcome);
        };
        let failed = |source| DatabaseError::Migration {
            database: self.to_string(),
            source,
        };
        std::thread::Builder::new()
            .name("db-migrations".to_owned())
            .spawn(run)
            .map_err(|error| failed(format!("cannot start a thread to run them on: {error}").into()))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed("the thread that ran them panicked".into())),
        }
    }
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    // The resolver of host names may still be at work on a thread of the runtime.
    runtime.shutdown_background();
    Ok(output)
}

/// The embedded migrations of a database, in their order.
fn all<DB: Backend>(embedded: &EmbeddedMigrations) -> Outcome<Vec<Box<dyn Migration<DB>>>> {
    let mut all = MigrationSource::<DB>::migrations(embedded)?;
    all.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(all)
}

/// The state of each migration, by the versions that the database has.
fn states<DB: Backend>(all: &[Box<dyn Migration<DB>>], applied: &HashSet<String>) -> Vec<MigrationState> {
    all.iter()
        .map(|migration| MigrationState {
            applied: applied.contains(&version(&**migration)),
            name: migration.name().to_string(),
        })
        .collect()
}

fn version<DB: Backend>(migration: &dyn Migration<DB>) -> String {
    migration.name().version().to_string()
}
