//! The server, a database, and the files that the verbs need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use db_test::Server;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Ran, Verb};
use crate::fixture::CliFixture;
use crate::spool::leave_a_spool;

/// A row in this month and in each of this many months before it.
fn rows_of(months: u32) -> String {
    format!(
        "SELECT audit_logs_ensure_partitions(now() - interval '{months} months', now()); \
         INSERT INTO audit_logs (created_at, action, tenant_id) SELECT now() - m * interval '1 month', 'row', 't' \
         FROM generate_series(0, {months}) m"
    )
}

/// The server of these tests. A login `nobody` has no right; its password is `pw`.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Server::start(&[("max_connections", "400")]).unwrap_or_else(|error| panic!("{error}"));
        Session::open(&server.url("postgres")).batch("CREATE ROLE nobody LOGIN PASSWORD 'pw'");
        server
    })
}

/// The files that the verbs need: lines, a log of CloudTrail, a spool, a quarantine, an archive.
fn files() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let cli = CliFixture::new();
        let at = |name: &str| cli.dir.path().join(name);
        let line = |nth| {
            format!(r#"{{"action":"a","id":"00000000-0000-0000-0000-00000000000{nth}","created_at":"2026-11-01T12:00:00Z"}}"#)
        };
        std::fs::write(at("lines.ndjson"), format!("{}\n{}\n", line(1), line(2))).unwrap();
        let event = r#"{"eventID":"5ec0c7e5-7f9d-4c4c-8b9e-2f7a0e6d8e01","eventTime":"2026-10-10T11:42:18Z",
            "eventSource":"s3.amazonaws.com","eventName":"GetObject"}"#;
        std::fs::write(at("log.json"), format!("{{\"Records\":[{event}]}}")).unwrap();
        quarantine_and_spool(&cli);
        archive_a_month(&cli);
        ["lines.ndjson", "log.json", "spool", "kept"]
            .iter()
            .flat_map(|name| contents(cli.dir.path(), Path::new(name)))
            .collect()
    })
}

/// Three entries in a quarantine, and three in a spool.
fn quarantine_and_spool(cli: &CliFixture) {
    let spool = cli.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute_sqlite(
        "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'shop.order' BEGIN SELECT RAISE(ABORT, 'rude'); END",
    );
    leave_a_spool(&spool);
    let (code, out, err) = cli.run(&["spool", "--dir", "spool", "replay", "--any-target"]);
    assert!(code == 1 && out.contains("3 quarantined"), "{out}{err}");
    leave_a_spool(&spool);
}

/// An archive of a month that is not due.
fn archive_a_month(cli: &CliFixture) {
    let url = server().migrated().unwrap();
    Session::open(&url).batch(&rows_of(2));
    let apply = "retention apply --keep 1months --force --archive kept --yes";
    let mut command = cli.command(&apply.split(' ').collect::<Vec<_>>());
    let output = command.env("DATABASE_URL", url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The files at a path below a directory.
fn contents(root: &Path, path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    match std::fs::read_dir(root.join(path)) {
        Ok(entries) => entries
            .flat_map(|entry| contents(root, &path.join(entry.unwrap().file_name())))
            .collect(),
        Err(_) => vec![(path.to_owned(), std::fs::read(root.join(path)).unwrap())],
    }
}

/// A database of its own, on the server of these tests. One month is due to be dropped.
pub(crate) struct World {
    pub(crate) url: String,
    /// The number of a hold that no command has released.
    next_hold: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> Self {
        let url = server().migrated().unwrap();
        let holds = "SELECT audit_hold_add('r', 'nobody') FROM generate_series(1, 20)";
        // The one that `show` shows.
        let known = "INSERT INTO audit_logs (id, action, tenant_id) VALUES ('018f3a2e-7b1c-7def-8000-000000000001', 'row', 't')";
        Session::open(&url).batch(&format!("{}; {holds}; {known}", rows_of(14)));
        let next_hold = AtomicUsize::new(1);
        Self { url, next_hold }
    }

    /// The URL for the login `nobody`.
    pub(crate) fn url_of_nobody(&self) -> String {
        server().url_as("nobody", "pw", self.url.rsplit_once('/').unwrap().1)
    }

    /// A command for this verb with this database, in a new directory with its own files.
    pub(crate) fn command(&self, verb: &Verb, url: &str) -> (TempDir, Command) {
        self.command_with(verb.arguments, url)
    }

    /// The same with these arguments, separated by spaces.
    pub(crate) fn command_with(&self, arguments: &str, url: &str) -> (TempDir, Command) {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in files() {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let hold = match arguments.contains("{hold}") {
            true => self.next_hold.fetch_add(1, Ordering::Relaxed),
            false => 0,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command
            .args(arguments.replace("{hold}", &hold.to_string()).split(' '))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("DATABASE_URL", url)
            .env("AUDIT_HASH_KEY", "0123456789abcdef");
        for name in ["AUDIT_DATABASE_URL", "RUST_LOG"] {
            command.env_remove(name);
        }
        (dir, command)
    }

    pub(crate) fn run(&self, verb: &Verb) -> Ran {
        self.run_at(verb, &self.url)
    }

    pub(crate) fn run_at(&self, verb: &Verb, url: &str) -> Ran {
        let (_dir, mut command) = self.command(verb, url);
        Ran::of(&mut command)
    }
}

/// Another session of a database.
pub(crate) struct Session {
    runtime: Runtime,
    conn: AsyncPgConnection,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl Session {
    pub(crate) fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let conn = runtime.block_on(AsyncPgConnection::establish(url)).unwrap();
        Self { runtime, conn }
    }

    pub(crate) fn batch(&mut self, sql: &str) {
        self.runtime
            .block_on(self.conn.batch_execute(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The number `value` that a query returns.
    pub(crate) fn number(&mut self, sql: &str) -> i64 {
        let query = diesel::sql_query(sql).get_result::<Number>(&mut self.conn);
        self.runtime.block_on(query).unwrap().value
    }
}
