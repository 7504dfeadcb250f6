//! Is a database that is not set up somebody's task, and nobody's loss?
//!
//! Each test breaks a real database in one way, writes on, mends it, and writes on. Every entry must
//! then be there once, without a row in quarantine, and the log must have said what to do: one line
//! for each change of state.

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

use crate::log_lines;
use crate::small_disk::{SmallDisk, ran_in_a_name_space};
use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for, writer_to};

/// What the end of a fault looks like in the log.
const RECOVERED: [&str; 3] = ["go to the spool", "accepts entries again, after", "is replayed"];

/// Tries again sooner than by default, and spills soon, but not because a busy machine is slow to commit.
fn policy() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(5);
    policy.longest_pause = Duration::from_millis(50);
    policy.spill_after = Duration::from_secs(1);
    policy
}

/// A writer whose database fails.
struct Trial {
    writer: AuditWriter,
    guard: WriterGuard,
    spool: PathBuf,
    _spool: Option<TempDir>,
    /// Its name in the log.
    database: String,
    given: usize,
    /// The lines that it logged before its database failed: one that is slow under load may use its spool.
    earlier_lines: usize,
}

impl Trial {
    fn start(url: &str) -> Self {
        let spool = TempDir::new().unwrap();
        let trial = Self::with_spool(url, spool.path(), Durability::Spill);
        Self {
            _spool: Some(spool),
            ..trial
        }
    }

    fn with_spool(url: &str, spool: &Path, durability: fn(PathBuf) -> Durability) -> Self {
        log_lines::keep();
        let (database, spool) = (Database::from_url(url).unwrap(), spool.to_owned());
        let name = database.to_string();
        let (writer, guard) = writer_to(database)
            .durability(durability(spool.clone()))
            .retry(policy())
            .start()
            .unwrap();
        Self {
            writer,
            guard,
            spool,
            _spool: None,
            database: name,
            given: 0,
            earlier_lines: 0,
        }
    }

    /// The next entries, numbered on.
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
        log_lines::of(&self.database).split_off(self.earlier_lines)
    }

    /// Writes entries while the database works.
    async fn commits(&mut self) {
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

    /// Writes on although the database is broken, until the log says so and a few attempts have
    /// failed.
    async fn fails(&mut self, saying: &[&str]) {
        assert_eq!(self.write(300).await, Delivery::Spooled);
        log_lines::wait_for(&self.database, saying).await;
        let before = self.writer.stats().retries;
        wait_for("further attempts", async || {
            self.writer.stats().retries > before + 3
        })
        .await;
        for entry in self.next(10) {
            drop(self.writer.write(entry));
        }
    }

    /// Writes on after the database was mended; everything must arrive. The log must hold one line for
    /// each of these faults, one for each change at their end, and no other.
    async fn recovers(mut self, db: &TestDb, faults: &[&str]) {
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
        assert_eq!(
            std::fs::read_dir(&self.spool).unwrap().count(),
            0,
            "the spool is empty"
        );

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

/// Breaks and mends a database with SQL, with entries in it and before the first.
async fn broken_and_mended(db: &TestDb, breaks: &str, mends: &str, saying: &[&str]) {
    let mut trial = Trial::start(&db.url);
    trial.commits().await;
    db.sql(breaks).await.unwrap();
    trial.fails(saying).await;
    db.sql(mends).await.unwrap();
    trial.recovers(db, &["is misconfigured"]).await;
}

/// The same, broken before the first entry.
async fn broken_from_the_outset(db: &TestDb, breaks: &str, mends: &str, saying: &[&str]) {
    db.sql(breaks).await.unwrap();
    let mut trial = Trial::start(&db.url);
    trial.fails(saying).await;
    db.sql(mends).await.unwrap();
    trial.recovers(db, &["is misconfigured"]).await;
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
    async fn a_table_that_goes(db: TestDb) {
        broken_and_mended(&db, NO_TABLE[0], NO_TABLE[1], &MIGRATE).await;
    }

    async fn a_table_that_was_never_there(db: TestDb) {
        broken_from_the_outset(&db, NO_TABLE[0], NO_TABLE[1], &MIGRATE).await;
    }

    async fn a_trigger_that_skips_every_row(db: TestDb) {
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
        broken_and_mended(&db, breaks, fixes, &saying).await;
    }

    async fn a_column_that_goes(db: TestDb) {
        broken_and_mended(&db, NO_COLUMN[0], NO_COLUMN[1], &MIGRATE).await;
    }

    async fn a_column_that_was_never_there(db: TestDb) {
        broken_from_the_outset(&db, NO_COLUMN[0], NO_COLUMN[1], &MIGRATE).await;
    }
}

/// A server with roles and passwords, for all tests of this module that leave it running.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]).unwrap());

/// A database on a server, and a login of its own that may write there.
struct App {
    db: TestDb,
    role: String,
    /// The URL as that role.
    url: String,
}

impl App {
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
async fn a_grant_that_is_revoked() {
    let app = App::on(&SERVER).await;
    let mut trial = Trial::start(&app.url);
    trial.commits().await;
    app.db
        .sql(&format!("REVOKE audit_writer FROM {}", app.role))
        .await
        .unwrap();
    trial.fails(&["is misconfigured", "GRANT audit_writer"]).await;
    app.db
        .sql(&format!("GRANT audit_writer TO {}", app.role))
        .await
        .unwrap();
    trial.recovers(&app.db, &["permission denied"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_changed_under_way() {
    let app = App::on(&SERVER).await;
    let mut trial = Trial::start(&app.url);
    trial.commits().await;
    app.db
        .sql(&format!("ALTER ROLE {} PASSWORD 'hush-2'", app.role))
        .await
        .unwrap();
    app.disconnect().await;
    trial
        .fails(&["is misconfigured", "check the user and the password"])
        .await;
    let logged = log_lines::of(&trial.database).join("\n");
    assert!(!logged.contains("hush"), "{logged}");
    app.db
        .sql(&format!("ALTER ROLE {} PASSWORD 'hush-1'", app.role))
        .await
        .unwrap();
    trial.recovers(&app.db, &["password authentication failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_connections_are_used_up() {
    const OTHERS_CONNECTIONS: usize = 3;
    // Superusers keep the rest.
    let server = Server::start(&[("max_connections", "8"), ("superuser_reserved_connections", "5")]).unwrap();
    let app = App::on(&server).await;
    let mut trial = Trial::start(&app.url);
    trial.commits().await;
    app.disconnect().await;
    let others = Database::from_url(&app.url).unwrap();
    let mut held = Vec::new();
    // The writer may still hold one, to create the upcoming partitions.
    wait_for("all connections", async || {
        held.extend(others.connection().await);
        held.len() == OTHERS_CONNECTIONS
    })
    .await;
    trial
        .fails(&["does not accept entries", "raise max_connections"])
        .await;
    // All become free at once, or a second connection of the writer could be refused after the first is accepted.
    app.limit_connections(0).await;
    drop((held, others));
    wait_for("the connections to end", async || app.connections().await == "0").await;
    app.limit_connections(-1).await;
    trial.recovers(&app.db, &["does not accept entries"]).await;
}

/// The server itself runs out of disk. Whether it only refuses, or goes down because it cannot write
/// its log either, is the same to the writer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full() {
    let disk = SmallDisk::mount(192);
    let small_log = [("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
    let server = Server::start_in(disk.path(), &small_log).unwrap();
    let db = TestDb::on(&server);
    let mut trial = Trial::start(&db.url);
    trial.commits().await;
    // A file of the log that is still empty: the table is the first to run out of room.
    db.sql("CHECKPOINT; SELECT pg_switch_wal()").await.unwrap();
    // Which is made by the first that is logged in it.
    db.sql("SELECT txid_current()").await.unwrap();
    disk.fill_but(64 << 10);
    trial
        .fails(&[
            "does not accept entries",
            "No space left on device",
            "free space on the server's disk",
        ])
        .await;
    disk.free();
    server.start_again().unwrap();
    trial.recovers(&db, &["does not accept entries"]).await;
}

/// An SQLite database in a directory of a small disk, migrated, with no connection left open.
async fn sqlite_on(disk: &SmallDisk) -> TestDb {
    let url = format!("sqlite://{}", disk.path().join("audit.db").display());
    TestDb::at(url.clone()).database.migrate().await.unwrap();
    TestDb::at(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_whose_disk_is_full() {
    if ran_in_a_name_space("set_up_faults::an_sqlite_file_whose_disk_is_full") {
        return;
    }
    let disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    let mut trial = Trial::start(&db.url);
    trial.commits().await;
    disk.fill_but(0);
    trial
        .fails(&["does not accept entries", "free space on the disk"])
        .await;
    disk.free();
    trial.recovers(&db, &["database or disk is full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_whose_disk_is_full_before_it_is_opened() {
    if ran_in_a_name_space("set_up_faults::an_sqlite_file_whose_disk_is_full_before_it_is_opened") {
        return;
    }
    let disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    disk.fill_but(0);
    let mut trial = Trial::start(&db.url);
    // SQLite cannot even make the files beside it.
    trial
        .fails(&["does not accept entries", "see whether the disk is full"])
        .await;
    disk.free();
    trial.recovers(&db, &["does not accept entries"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_that_may_not_be_written() {
    if ran_in_a_name_space("set_up_faults::an_sqlite_file_that_may_not_be_written") {
        return;
    }
    let mut disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    disk.forbid_writing();
    let mut trial = Trial::start(&db.url);
    trial
        .fails(&["is misconfigured", "make the file and its directory writable"])
        .await;
    disk.allow_writing();
    trial.recovers(&db, &["is misconfigured"]).await;
}

/// Two faults, one behind the other: each is said when it is met.
#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_whose_directory_is_missing() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("var");
    let db = TestDb::at(format!("sqlite://{}", place.join("audit.db").display()));
    let mut trial = Trial::start(&db.url);
    trial
        .fails(&["is misconfigured", "does its directory exist"])
        .await;
    std::fs::create_dir(&place).unwrap();
    trial.fails(&MIGRATE).await;
    db.database.migrate().await.unwrap();
    trial
        .recovers(&db, &["does its directory exist", "auditlog migrate"])
        .await;
}

/// First the spool's disk is full: entries reach the database all the same. Then that fails as well:
/// they wait in memory. Once there is room they go to the spool, and from there to the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_whose_disk_is_full() {
    if ran_in_a_name_space("set_up_faults::a_spool_whose_disk_is_full") {
        return;
    }
    for durability in [Durability::Spill, Durability::WriteAhead] {
        let (disk, db) = (SmallDisk::mount(8), TestDb::sqlite().await);
        let mut trial = Trial::with_spool(&db.url, disk.path(), durability);
        disk.fill_but(0);
        // Many: a few would fit into the room that the file has already.
        assert_eq!(trial.write(1_000).await, Delivery::Committed);
        db.sql(NO_TABLE[0]).await.unwrap();
        let waiting = trial.next(1_000);
        drop(trial.writer.write_all(waiting));
        let spool_fault = [
            "does not take entries, they wait in memory",
            "free space on its disk",
        ];
        log_lines::wait_for(&trial.database, &spool_fault).await;
        log_lines::wait_for(&trial.database, &MIGRATE).await;
        let stats = trial.writer.stats();
        assert_eq!((stats.spooled, stats.queued, stats.dropped), (0, 1_000, 0));
        disk.free();
        wait_for("the spool", async || trial.writer.stats().spooled == 1_000).await;
        assert!(trial.write(10).await.is_durable());
        db.sql(NO_TABLE[1]).await.unwrap();
        trial
            .recovers(&db, &[MIGRATE[0], spool_fault[0], "takes entries again"])
            .await;
    }
}
