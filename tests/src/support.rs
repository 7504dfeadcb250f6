//! Shared test support: a database for each test, and SQL on it like any client's.

use db_services::audit::{AuditEntry, AuditLog, AuditWriter, AuditWriterBuilder, WriterGuard, count, latest};
use db_services::client::{Connection, Database};
use db_test::{Postgres, Server};
pub use db_test::{TIMEOUT, wait_for};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

/// A migrated database for one test, which is removed afterwards.
pub struct TestDb {
    pub database: Database,
    pub url: String,
    /// Removes the database when dropped.
    _cleanup: Cleanup,
}

enum Cleanup {
    Postgres {
        _database: Postgres,
    },
    Sqlite {
        _dir: TempDir,
    },
    /// Removed by the test, or with its server.
    External,
}

/// Runs SQL on a connection. The error is the message of the database.
pub async fn run_sql(connection: &mut Connection, sql: &str) -> Result<(), String> {
    let done = match connection {
        Connection::Postgres(conn) => conn.batch_execute(sql).await,
        Connection::Sqlite(conn) => conn.batch_execute(sql).await,
    };
    done.map_err(|error| error.to_string())
}

/// True if a database has every migration.
pub async fn has_all_migrations(database: &Database) -> bool {
    let states = database.migration_status().await.unwrap();
    states.iter().all(|state| state.applied)
}

/// True if a database has no migration.
pub async fn has_no_migration(database: &Database) -> bool {
    let states = database.migration_status().await.unwrap();
    states.iter().all(|state| !state.applied)
}

impl TestDb {
    pub async fn postgres() -> Self {
        let postgres = Postgres::migrated().unwrap_or_else(|error| panic!("{error}"));
        Self::of(
            postgres.url().to_owned(),
            Cleanup::Postgres { _database: postgres },
        )
    }

    /// A database on a server of the test, which is removed with the server.
    pub fn on(server: &Server) -> Self {
        Self::of(
            server.migrated().unwrap_or_else(|error| panic!("{error}")),
            Cleanup::External,
        )
    }

    pub async fn sqlite() -> Self {
        let test = Self::empty_sqlite();
        test.database.migrate().await.unwrap();
        test
    }

    pub fn empty_postgres() -> Self {
        let postgres = Postgres::empty().unwrap_or_else(|error| panic!("{error}"));
        Self::of(
            postgres.url().to_owned(),
            Cleanup::Postgres { _database: postgres },
        )
    }

    pub fn empty_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("audit.db").display());
        Self::of(url, Cleanup::Sqlite { _dir: dir })
    }

    /// A database that the caller creates and removes.
    pub fn at(url: String) -> Self {
        Self::of(url, Cleanup::External)
    }

    fn of(url: String, cleanup: Cleanup) -> Self {
        Self {
            database: Database::from_url(&url).unwrap(),
            url,
            _cleanup: cleanup,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    pub fn builder(&self) -> AuditWriterBuilder {
        writer_to(self.database.clone())
    }

    pub fn writer(&self) -> (AuditWriter, WriterGuard) {
        self.builder().start().unwrap()
    }

    pub async fn connection(&self) -> Connection {
        self.database.connection().await.unwrap()
    }

    /// Runs SQL like any client. The error is the message of the database.
    pub async fn sql(&self, sql: &str) -> Result<(), String> {
        run_sql(&mut self.connection().await, sql).await
    }

    /// Stops all inserts until the connection rolls back. Dropped, it would return to the pool as it is.
    pub async fn hold_table(&self) -> Connection {
        let mut holder = self.connection().await;
        let hold = match self.is_postgres() {
            true => "BEGIN; LOCK TABLE audit_logs IN EXCLUSIVE MODE",
            false => "BEGIN IMMEDIATE",
        };
        run_sql(&mut holder, hold).await.unwrap();
        holder
    }

    /// Returns the single text that a query selects as `value`.
    pub async fn text(&self, sql: &str) -> String {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            value: String,
        }
        let query = diesel::sql_query(sql);
        let row: Result<Row, _> = match &mut self.connection().await {
            Connection::Postgres(conn) => query.get_result(conn).await,
            Connection::Sqlite(conn) => query.get_result(conn).await,
        };
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).value
    }

    pub async fn count(&self) -> i64 {
        count(&mut self.connection().await).await.unwrap()
    }

    /// All entries, newest first.
    pub async fn rows(&self) -> Vec<AuditLog> {
        latest(&mut self.connection().await, 1_000_000).await.unwrap()
    }
}

/// The builder of a writer whose receipts wait as long as a test does: by default they would resolve as
/// pending on a machine that is slow under load.
pub fn writer_to(database: Database) -> AuditWriterBuilder {
    AuditWriter::builder(database).receipt_timeout(TIMEOUT)
}

/// Adds a trigger, as an operator might, that skips entries whose action begins with `skipped`, without an
/// error.
pub async fn add_skipping_trigger(db: &TestDb) {
    let sql = match db.is_postgres() {
        true => {
            "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF NEW.action LIKE 'skipped%' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER skip BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION skip()"
        }
        false => {
            "CREATE TRIGGER skip BEFORE INSERT ON audit_logs WHEN NEW.action LIKE 'skipped%' \
             BEGIN SELECT RAISE(IGNORE); END"
        }
    };
    db.sql(sql).await.unwrap();
    db.sql("INSERT INTO audit_logs (action) VALUES ('skipped')")
        .await
        .unwrap();
    assert_eq!(db.count().await, 0, "the trigger skips a row without an error");
}

/// Adds a unique index on `request_id` in each month, as an operator might.
pub async fn make_requests_unique(db: &TestDb) {
    let sql = match db.is_postgres() {
        true => {
            "DO $$ DECLARE month regclass; BEGIN \
             FOR month IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP \
             EXECUTE format('CREATE UNIQUE INDEX ON %s (request_id)', month); END LOOP; END $$"
        }
        false => "CREATE UNIQUE INDEX one_each ON audit_logs (request_id)",
    };
    db.sql(sql).await.unwrap();
}

/// Entries that have their number as resource id.
pub fn numbered(count: usize) -> impl Iterator<Item = AuditEntry> {
    (0..count).map(|n| {
        AuditEntry::new("test.write")
            .actor("alice")
            .resource("number", n.to_string())
    })
}

/// Defines a test for each of the two databases from an `async fn(db: TestDb)`.
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($db:ident: TestDb) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn test($db: TestDb) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() {
                test(TestDb::postgres().await).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                test(TestDb::sqlite().await).await;
            }
        }
    )*};
}
pub(crate) use on_both;
