//! The migrations of a database: which ones it has, and running them on any runtime.

use diesel::connection::SimpleConnection;
use diesel::migration::MigrationSource;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};
use tokio::sync::oneshot;

use super::connect::{connect_postgres, open_sqlite};
use super::{Database, DatabaseError, Kind, Route};

/// A migration and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationState {
    /// The migration's directory name, which begins with its date.
    pub name: String,
    /// True if the database has it.
    pub applied: bool,
}

/// Two programs that migrate at the same time take turns under this advisory lock, which ends with
/// the session.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('db-services migrations', 0))";

/// The result of a migration step.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Database {
    /// Runs the migrations that the database does not have yet, each in a transaction, and gives
    /// back their versions. Creates an SQLite file that does not exist.
    ///
    /// Works on any runtime and outside of one: the work is done on a thread of its own.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses a migration; those before it stay.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the migrations.
    pub async fn migrate(&self) -> Result<Vec<String>, DatabaseError> {
        let done = self.with_harness(|harness| harness.run_all()).await;
        if done.as_ref().is_ok_and(|versions| !versions.is_empty()) {
            let count = done.as_ref().map_or(0, Vec::len);
            log::info!(target: crate::LOG_TARGET, database:% = self, count; "{self}: ran {count} migrations");
        }
        done
    }

    /// Reverts the newest migration and returns its version. **The first migration takes the
    /// table with it, and every row.**
    ///
    /// # Errors
    /// When the database cannot be reached, has no migration, or refuses.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop it.
    pub async fn revert_migration(&self) -> Result<String, DatabaseError> {
        self.with_harness(|harness| harness.revert_last()).await
    }

    /// Lists all migrations of this version in their order, each with whether the database has it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn migration_status(&self) -> Result<Vec<MigrationState>, DatabaseError> {
        self.with_harness(|harness| harness.status()).await
    }

    /// Runs `step` on a thread of its own. diesel-async's own harness needs a multi-threaded
    /// runtime around it and panics on any other.
    async fn with_harness<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut dyn Harness) -> Outcome<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        let database = self.clone();
        let run = move || {
            let outcome = match database.kind() {
                Kind::Postgres { route, .. } => on_postgres(route, step),
                Kind::Sqlite { location, .. } => {
                    open_sqlite(location)
                        .map_err(Into::into)
                        .and_then(|mut connection| {
                            step(&mut On {
                                connection: &mut connection,
                                migrations: || db_schema::sqlite::MIGRATIONS,
                            })
                        })
                }
            };
            let _ = reply.send(outcome);
        };
        let failed = |source| DatabaseError::Migration {
            database: self.to_string(),
            source,
        };
        std::thread::Builder::new()
            .name("db-migrations".to_owned())
            .spawn(run)
            .map_err(|error| failed(format!("no thread to run them on: {error}").into()))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed("the thread that ran them panicked".into())),
        }
    }
}

fn on_postgres<T>(route: &Route, step: impl FnOnce(&mut dyn Harness) -> Outcome<T>) -> Outcome<T> {
    // One worker drives the connection while this thread waits for it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut connection: AsyncConnectionWrapper<_> = runtime.block_on(connect_postgres(route))?.into();
    connection.batch_execute(POSTGRES_LOCK)?;
    step(&mut On {
        connection: &mut connection,
        migrations: || db_schema::MIGRATIONS,
    })
}

/// The three steps, for either database.
trait Harness {
    fn run_all(&mut self) -> Outcome<Vec<String>>;
    fn revert_last(&mut self) -> Outcome<String>;
    fn status(&mut self) -> Outcome<Vec<MigrationState>>;
}

struct On<'a, C> {
    connection: &'a mut C,
    migrations: fn() -> EmbeddedMigrations,
}

impl<C, DB> Harness for On<'_, C>
where
    C: MigrationHarness<DB> + diesel::Connection<Backend = DB>,
    DB: diesel::backend::Backend,
    EmbeddedMigrations: MigrationSource<DB>,
{
    fn run_all(&mut self) -> Outcome<Vec<String>> {
        let versions = self.connection.run_pending_migrations((self.migrations)())?;
        Ok(versions.iter().map(ToString::to_string).collect())
    }

    fn revert_last(&mut self) -> Outcome<String> {
        self.connection
            .revert_last_migration((self.migrations)())
            .map(|version| version.to_string())
    }

    fn status(&mut self) -> Outcome<Vec<MigrationState>> {
        let pending: Vec<String> = self
            .connection
            .pending_migrations((self.migrations)())?
            .iter()
            .map(|m| m.name().to_string())
            .collect();
        let all = MigrationSource::<DB>::migrations(&(self.migrations)())?;
        let mut states: Vec<_> = all
            .iter()
            .map(|m| m.name().to_string())
            .map(|name| MigrationState {
                applied: !pending.contains(&name),
                name,
            })
            .collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }
}
