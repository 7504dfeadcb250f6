//! A misconfigured or failing database loses no entry, and the log says how to fix it.
//!
//! Each test breaks a real database in one way, continues writing, fixes it, and continues writing. Every
//! entry must then be stored once, without a row in quarantine, and the log must have one line with a hint
//! for each change of state.

mod disks;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use db_services::audit::spool::Quarantine;
use db_services::audit::{
    AuditEntry, AuditWriter, Delivery, Durability, RetryPolicy, Verdict, WriterGuard, verify_writers,
};
use db_services::client::Database;
use db_test::Server;
use tempfile::TempDir;

use crate::captured_logs;
use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for, writer_to};

/// The parts of the log lines that a recovery causes.
const RECOVERED: [&str; 3] = ["go to the spool", "accepts entries again, after", "is replayed"];

/// Retries sooner than by default, and spills soon, but not because a machine under load commits slowly.
fn retry_policy() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(5);
    policy.longest_pause = Duration::from_millis(50);
    policy.spill_after = Duration::from_secs(1);
    policy
}

/// A writer whose database fails.
struct Scenario {
    writer: AuditWriter,
    guard: WriterGuard,
    spool: PathBuf,
    _spool: Option<TempDir>,
    url: String,
    /// Its name in the log.
    database: String,
    given: usize,
    /// The lines that it logged before its database failed: one that is slow under load may use its spool.
    earlier_lines: usize,
}

impl Scenario {
    fn start(url: &str) -> Self {
        let spool = TempDir::new().unwrap();
        let scenario = Self::with_spool(url, spool.path(), Durability::Spill);
        Self {
            _spool: Some(spool),
            ..scenario
        }
    }

    fn with_spool(url: &str, spool: &Path, durability: fn(PathBuf) -> Durability) -> Self {
        captured_logs::start_capturing();
        let (database, spool) = (Database::from_url(url).unwrap(), spool.to_owned());
        let name = database.to_string();
        let (writer, guard) = writer_to(database)
            .durability(durability(spool.clone()))
            .retry(retry_policy())
            .start()
            .unwrap();
        Self {
            writer,
            guard,
            spool,
            _spool: None,
            url: url.to_owned(),
            database: name,
            given: 0,
            earlier_lines: 0,
        }
    }

    /// The next entries, with consecutive numbers.
    fn next(&mut self, count: usize) -> impl Iterator<Item = AuditEntry> + use<> {
        self.given += count;
        numbered(self.given).skip(self.given - count)
    }

    async fn write(&mut self, count: usize) -> Delivery {
        let entries = self.next(count);
        self.writer.write_all(entries).await
    }

    /// What it logged since its database failed.
    fn log(&self) -> Vec<String> {
        captured_logs::of(&self.database).split_off(self.earlier_lines)
    }

    /// Writes entries while the database works.
    async fn assert_commits(&mut self) {
        assert!(self.write(100).await.is_durable());
        wait_for("the commit", async || {
            self.writer.stats().committed == self.given as u64
        })
        .await;
        wait_for("the end of a replay", async || {
            let lines = self.log();
            let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
            count(RECOVERED[0]) == count(RECOVERED[2])
        })
        .await;
        self.earlier_lines = self.log().len();
    }

    /// Writes entries while the database is broken, until the log says so and a few attempts have failed.
    async fn assert_fails(&mut self, saying: &[&str]) {
        // More than fits in the little space that a full disk still has.
        assert_eq!(self.write(2_000).await, Delivery::Spooled);
        captured_logs::wait_for(&self.database, saying).await;
        let before = self.writer.stats().retries;
        wait_for("further attempts", async || {
            self.writer.stats().retries > before + 3
        })
        .await;
        for entry in self.next(10) {
            drop(self.writer.write(entry));
        }
    }

    /// Asserts that everything is stored after the database was fixed, and writes more entries. The log must
    /// contain one line for each of these faults, one for each change at their end, and no other.
    async fn assert_recovers(mut self, db: &TestDb, faults: &[&str]) {
        wait_for("the replay", async || {
            self.writer.stats().committed == self.given as u64
        })
        .await;
        wait_for("an empty spool", async || {
            self.log().iter().any(|line| line.contains(RECOVERED[2]))
        })
        .await;
        // Before anything else is written: it would use the spool again if the database were slow.
        let lines = self.log();
        assert!(self.write(100).await.is_durable());
        wait_for("the commit", async || {
            self.writer.stats().committed == self.given as u64
        })
        .await;
        let report = self.guard.shutdown(TIMEOUT).await;
        assert_eq!(report.committed, self.given as u64, "{report:?}");
        assert_eq!(
            (report.quarantined, report.lost, report.unknown, report.spooled),
            (0, 0, 0, 0)
        );
        assert!(!Quarantine::exists(&self.spool));
        wait_for_empty_spool(&self.url, &self.spool).await;

        let mut stored: Vec<usize> = db
            .rows()
            .await
            .iter()
            .map(|row| row.resource_id.as_ref().unwrap().parse().unwrap())
            .collect();
        stored.sort_unstable();
        assert_eq!(stored, (0..self.given).collect::<Vec<_>>(), "each once");
        let accounts = verify_writers(&mut db.connection().await).await.unwrap();
        assert_eq!(accounts.last().unwrap().verdict, Verdict::Complete);

        let wanted = [faults, &RECOVERED].concat();
        let once = |part: &&str| lines.iter().filter(|line| line.contains(part)).count() == 1;
        assert!(
            lines.len() == wanted.len() && wanted.iter().all(once),
            "{wanted:#?}: {lines:#?}"
        );
    }
}

/// Waits until no file is in a spool directory. If the database was slow at the end of the writer, its stop record is
/// there, and the next writer stores it.
async fn wait_for_empty_spool(url: &str, spool: &Path) {
    wait_for("an empty spool directory", async || {
        if std::fs::read_dir(spool).unwrap().count() == 0 {
            return true;
        }
        let next = Scenario::with_spool(url, spool, Durability::Spill);
        assert_eq!(next.guard.shutdown(TIMEOUT).await.lost, 0);
        false
    })
    .await;
}

/// Breaks and fixes a database with SQL while a writer uses it.
async fn assert_recovers_when_fixed(db: &TestDb, breaks: &str, fixes: &str, saying: &[&str]) {
    let mut scenario = Scenario::start(&db.url);
    scenario.assert_commits().await;
    db.sql(breaks).await.unwrap();
    scenario.assert_fails(saying).await;
    db.sql(fixes).await.unwrap();
    scenario.assert_recovers(db, &["is misconfigured"]).await;
}

/// The same, but breaks the database before the first entry.
async fn assert_recovers_when_broken_at_the_start(db: &TestDb, breaks: &str, fixes: &str, saying: &[&str]) {
    db.sql(breaks).await.unwrap();
    let mut scenario = Scenario::start(&db.url);
    scenario.assert_fails(saying).await;
    db.sql(fixes).await.unwrap();
    scenario.assert_recovers(db, &["is misconfigured"]).await;
}

const NO_TABLE: [&str; 2] = [
    "ALTER TABLE audit_logs RENAME TO hidden",
    "ALTER TABLE hidden RENAME TO audit_logs",
];
const NO_COLUMN: [&str; 2] = [
    "ALTER TABLE audit_logs RENAME COLUMN trace_id TO hidden",
    "ALTER TABLE audit_logs RENAME COLUMN hidden TO trace_id",
];
const MIGRATE: [&str; 2] = ["is misconfigured", "run the migrations: `auditlog migrate`"];

on_both! {
    async fn the_writer_recovers_from_a_renamed_table(db: TestDb) {
        assert_recovers_when_fixed(&db, NO_TABLE[0], NO_TABLE[1], &MIGRATE).await;
    }

    async fn the_writer_recovers_from_a_table_missing_at_the_start(db: TestDb) {
        assert_recovers_when_broken_at_the_start(&db, NO_TABLE[0], NO_TABLE[1], &MIGRATE).await;
    }

    async fn the_writer_recovers_from_a_trigger_that_skips_every_row(db: TestDb) {
        let [breaks, fixes] = match db.is_postgres() {
            true => [
                "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
                 CREATE TRIGGER skip BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION skip()",
                "DROP TRIGGER skip ON audit_logs",
            ],
            false => [
                "CREATE TRIGGER skip BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(IGNORE); END",
                "DROP TRIGGER skip",
            ],
        };
        let saying = ["is misconfigured", "a trigger or rule of audit_logs skipped the row"];
        assert_recovers_when_fixed(&db, breaks, fixes, &saying).await;
    }

    async fn the_writer_recovers_from_a_renamed_column(db: TestDb) {
        assert_recovers_when_fixed(&db, NO_COLUMN[0], NO_COLUMN[1], &MIGRATE).await;
    }

    async fn the_writer_recovers_from_a_column_missing_at_the_start(db: TestDb) {
        assert_recovers_when_broken_at_the_start(&db, NO_COLUMN[0], NO_COLUMN[1], &MIGRATE).await;
    }
}

/// The server that tests with roles and passwords share.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]).unwrap());

/// A database on a server, and a login that may write to it.
struct Application {
    db: TestDb,
    role: String,
    /// The URL as that role.
    url: String,
}

impl Application {
    async fn on(server: &Server) -> Self {
        let db = TestDb::on(server);
        let name = db.url.rsplit('/').next().unwrap().to_owned();
        let role = format!("app_{name}");
        db.sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'hush-1'; GRANT audit_writer TO {role}"
        ))
        .await
        .unwrap();
        let url = server.url_as(&role, "hush-1", &name);
        Self { db, role, url }
    }

    /// Ends the connections of the role, and waits until they have ended.
    async fn disconnect(&self) {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 10000))::text AS value FROM pg_stat_activity WHERE usename = '{}'",
            self.role
        );
        assert_ne!(self.db.text(&end).await, "0", "it had connections");
    }

    /// How many connections the role has.
    async fn connections(&self) -> String {
        let count = format!(
            "SELECT count(*)::text AS value FROM pg_stat_activity WHERE usename = '{}'",
            self.role
        );
        self.db.text(&count).await
    }

    /// Limits the connections that the role may have; -1 for no limit.
    async fn limit_connections(&self, limit: i32) {
        let sql = format!("ALTER ROLE {} CONNECTION LIMIT {limit}", self.role);
        self.db.sql(&sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_revoked_grant() {
    let app = Application::on(&SERVER).await;
    let mut scenario = Scenario::start(&app.url);
    scenario.assert_commits().await;
    app.db
        .sql(&format!("REVOKE audit_writer FROM {}", app.role))
        .await
        .unwrap();
    scenario
        .assert_fails(&["is misconfigured", "GRANT audit_writer"])
        .await;
    app.db
        .sql(&format!("GRANT audit_writer TO {}", app.role))
        .await
        .unwrap();
    scenario.assert_recovers(&app.db, &["permission denied"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_changed_password() {
    let app = Application::on(&SERVER).await;
    let mut scenario = Scenario::start(&app.url);
    scenario.assert_commits().await;
    app.db
        .sql(&format!("ALTER ROLE {} PASSWORD 'hush-2'", app.role))
        .await
        .unwrap();
    app.disconnect().await;
    scenario
        .assert_fails(&["is misconfigured", "check the user and the password"])
        .await;
    let logged = captured_logs::of(&scenario.database).join("\n");
    assert!(!logged.contains("hush"), "{logged}");
    app.db
        .sql(&format!("ALTER ROLE {} PASSWORD 'hush-1'", app.role))
        .await
        .unwrap();
    scenario
        .assert_recovers(&app.db, &["password authentication failed"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_server_without_free_connections() {
    // Few connections for users other than superusers.
    let server = Server::start(&[("max_connections", "8"), ("superuser_reserved_connections", "5")]).unwrap();
    let app = Application::on(&server).await;
    let mut scenario = Scenario::start(&app.url);
    scenario.assert_commits().await;
    app.disconnect().await;
    let others = Database::from_url(&app.url).unwrap();
    let mut held = Vec::new();
    // The writer may still hold one, to create the upcoming partitions.
    wait_for("all connections", async || {
        let before = app.connections().await;
        match others.connection().await {
            Ok(connection) => held.push(connection),
            Err(_) => {
                return [before, app.connections().await]
                    .iter()
                    .all(|count| *count == held.len().to_string());
            }
        }
        false
    })
    .await;
    assert!(!held.is_empty());
    scenario
        .assert_fails(&["does not accept entries", "raise max_connections"])
        .await;
    // All become free at once, or a second connection of the writer could be refused after the first is accepted.
    app.limit_connections(0).await;
    drop((held, others));
    wait_for("the connections to end", async || app.connections().await == "0").await;
    app.limit_connections(-1).await;
    scenario
        .assert_recovers(&app.db, &["does not accept entries"])
        .await;
}

/// Two faults, one after the other: each is logged.
#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_missing_directory_of_its_sqlite_file() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("var");
    let db = TestDb::at(format!("sqlite://{}", missing.join("audit.db").display()));
    let mut scenario = Scenario::start(&db.url);
    scenario
        .assert_fails(&["is misconfigured", "does its directory exist"])
        .await;
    std::fs::create_dir(&missing).unwrap();
    scenario.assert_fails(&MIGRATE).await;
    db.database.migrate().await.unwrap();
    scenario
        .assert_recovers(&db, &["does its directory exist", "auditlog migrate"])
        .await;
}
