//! The maintenance commands: partitions, retention, holds and restore.

mod holds;
#[cfg(target_os = "linux")]
mod memory;
mod partitions;
mod retention;

use std::path::Path;
use std::process::Command;

use db_test::Postgres;
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

use crate::fixture::output_of;

/// A migrated PostgreSQL database, and a working directory.
struct MaintenanceFixture {
    dir: TempDir,
    postgres: Postgres,
}

impl MaintenanceFixture {
    fn new() -> Self {
        let postgres = Postgres::migrated().unwrap_or_else(|error| panic!("{error}"));
        Self {
            dir: tempfile::tempdir().unwrap(),
            postgres,
        }
    }

    /// With three rows in the current month and in each of this many months before it.
    async fn aged(months: i32) -> Self {
        let fixture = Self::new();
        fixture
            .sql(&format!(
                "SELECT audit_logs_ensure_partitions(now() - interval '{months} months', now()); \
                 INSERT INTO audit_logs (created_at, action, tenant_id) \
                 SELECT date_trunc('month', now()) - m * interval '1 month' + n * interval '1 second', 'row', 'tenant' || m \
                 FROM generate_series(0, {months}) m, generate_series(1, 3) n"
            ))
            .await;
        fixture
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command
            .args(arguments.split(' '))
            .current_dir(&self.dir)
            .env_remove("RUST_LOG")
            .env_remove("AUDIT_DATABASE_URL");
        command.env("DATABASE_URL", self.postgres.url());
        command
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        output_of(self.command(arguments).output().unwrap())
    }

    fn run_ok(&self, arguments: &str) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments}: {out}{err}");
        out
    }

    async fn sql(&self, sql: &str) {
        let mut conn = AsyncPgConnection::establish(self.postgres.url()).await.unwrap();
        conn.batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn text(&self, sql: &str) -> String {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            value: String,
        }
        let mut conn = AsyncPgConnection::establish(self.postgres.url()).await.unwrap();
        diesel::sql_query(sql)
            .get_result::<Row>(&mut conn)
            .await
            .unwrap()
            .value
    }

    /// The names of the archives' files that have this ending.
    fn files(&self, ending: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("kept")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).collect()
    }
}

const EVERY_ROW: &str =
    "SELECT md5(string_agg(row_to_json(a)::text, '' ORDER BY created_at, id)) AS value FROM audit_logs a";

/// A member of audit_maintainer is not the owner and cannot read any row.
#[tokio::test]
async fn a_maintainer_can_run_every_maintenance_command() {
    let cli = MaintenanceFixture::aged(14).await;
    let run = |arguments: &str| {
        let url = format!("{}?options=-c%20role%3Daudit_maintainer", cli.postgres.url());
        output_of(cli.command(arguments).env("DATABASE_URL", url).output().unwrap())
    };
    for arguments in [
        "partitions list",
        "partitions ensure",
        "partitions move-default",
        "retention plan --keep 13months",
        "retention ledger",
        "hold list",
    ] {
        let (code, _, err) = run(arguments);
        assert_eq!(code, 0, "{arguments}: {err}");
    }
    let (code, _, err) = run("retention apply --keep 13months --archive kept --yes");
    assert!(code == 3 && err.contains("cannot see all of them"), "{err}");
    let (code, out, err) = run("retention apply --keep 13months --yes");
    assert!(code == 0 && out.starts_with("dropped 20"), "{out}{err}");
}

#[test]
fn maintenance_of_sqlite_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &str, url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command
            .args(arguments.split(' '))
            .args(["--database-url", url])
            .current_dir(&dir);
        output_of(command.output().unwrap())
    };
    for arguments in [
        "partitions list",
        "retention plan --keep 13months",
        "retention apply --keep 13months --yes",
        "hold list",
    ] {
        for url in ["sqlite://audit.db", "sqlite::memory:"] {
            let (code, _, err) = run(arguments, url);
            assert!(
                code == 3 && err.contains("SQLite has no partitions") && err.contains("move the file away"),
                "{arguments}: {err}"
            );
        }
    }
    assert!(
        !Path::new(&dir.path().join("audit.db")).exists(),
        "the command created the file"
    );
}

#[test]
fn maintenance_of_an_unmigrated_database_is_an_error_with_a_hint() {
    let cli = MaintenanceFixture {
        postgres: Postgres::empty().unwrap(),
        dir: tempfile::tempdir().unwrap(),
    };
    let (code, _, err) = cli.run("retention plan --keep 13months");
    assert!(code == 3 && err.contains("auditlog migrate"), "{err}");
}
