//! A directory, a database, and the command that runs there.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use db_test::Postgres;
use tempfile::TempDir;

/// The writer of [`CliFixture::with_missing_entries`], as SQL.
pub(crate) const MISSING_WRITER: &str = "x'0123456789abcdef0123456789abcdef'";

/// The working directory and the environment of the command: an empty PostgreSQL database, or SQLite in the
/// directory.
pub(crate) struct CliFixture {
    pub(crate) dir: TempDir,
    pub(crate) postgres: Option<Postgres>,
}

impl CliFixture {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            postgres: None,
        }
    }

    pub(crate) fn on_postgres() -> Self {
        Self {
            postgres: Some(Postgres::empty().unwrap_or_else(|error| panic!("{error}"))),
            ..Self::new()
        }
    }

    /// An SQLite trail in which two entries of a writer are missing.
    pub(crate) fn with_missing_entries() -> Self {
        let cli = Self::new();
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let writer = MISSING_WRITER;
        cli.execute_sqlite(&format!(
            "INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('a', {writer}, 1), ('b', {writer}, 4);
             INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.writer_stopped', {writer}, '{{\"last_seq\": 4}}')"
        ));
        cli
    }

    pub(crate) fn on_both() -> [Self; 2] {
        [Self::new(), Self::on_postgres()]
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command.args(arguments).current_dir(&self.dir);
        for name in ["AUDIT_DATABASE_URL", "DATABASE_URL", "AUDIT_HASH_KEY", "RUST_LOG"] {
            command.env_remove(name);
        }
        if let Some(postgres) = &self.postgres {
            command.env("DATABASE_URL", postgres.url());
        }
        command
    }

    /// Runs the command. Returns its exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        output_of(self.command(arguments).output().unwrap())
    }

    /// Starts the command with a pipe for each of its streams.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
        let mut child = self.spawn(arguments);
        child.stdin.take().unwrap().write_all(input).unwrap();
        output_of(child.wait_with_output().unwrap())
    }

    /// The rows as JSON, the newest first.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        let (code, out, err) = self.run(&["list", "--no-record", "--json", "-n", "10000"]);
        assert_eq!(code, 0, "{err}");
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs SQL on PostgreSQL.
    pub(crate) fn execute(&self, sql: &str) {
        let url = self.postgres.as_ref().unwrap().url();
        let database = db_services::client::Database::from_url(url).unwrap();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let mut conn = database.connection().await.unwrap();
                let db_services::client::Connection::Postgres(conn) = &mut conn else {
                    panic!("not PostgreSQL")
                };
                diesel_async::SimpleAsyncConnection::batch_execute(conn, sql)
                    .await
                    .unwrap();
            });
    }

    /// Runs SQL on SQLite.
    pub(crate) fn execute_sqlite(&self, sql: &str) {
        use diesel::Connection;
        use diesel::connection::SimpleConnection;
        let path = self.dir.path().join("audit.db");
        diesel::SqliteConnection::establish(&path.display().to_string())
            .unwrap()
            .batch_execute(sql)
            .unwrap();
    }
}

/// The exit code, standard output and standard error of a process.
pub(crate) fn output_of(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
