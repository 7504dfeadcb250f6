//! A killed process (SIGKILL) loses no entry whose receipt resolved as durable.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use db_services::audit::Durability;
use db_services::audit::spool::{self, SpoolState};
use db_services::client::Database;
use db_test::{Server, wait_for};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use tempfile::TempDir;

use crate::support::{TestDb, writer_to};

/// How often the process is killed with the database in one state.
const ROUNDS: usize = 10;

/// Runs the application until it has printed this number of lines, kills it, and returns the ids that it
/// printed.
fn write_until_killed(url: &str, dir: &Path, lines: usize, meanwhile: impl Fn(usize)) -> Vec<String> {
    let mut app = Command::new(env!("CARGO_BIN_EXE_app"))
        .arg("write-ahead")
        .arg(dir)
        .env("AUDIT_DATABASE_URL", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(app.stdout.take().unwrap()).lines();
    let mut ids = Vec::new();
    while ids.len() < lines {
        ids.push(
            output
                .next()
                .expect("the application runs until it is killed")
                .unwrap(),
        );
        meanwhile(ids.len());
    }
    app.kill().unwrap();
    // The pipe may contain more lines; the last one may be incomplete.
    ids.extend(output.map_while(Result::ok).filter(|line| line.len() == 36));
    app.wait().unwrap();
    ids
}

/// A random number from 1 to `max`.
fn random(max: usize) -> usize {
    1 + uuid::Uuid::new_v4().as_u128() as usize % max
}

#[derive(QueryableByName)]
struct IdCount {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

async fn rows_by_id(database: &Database) -> HashMap<String, i64> {
    let mut conn = database.connection().await.unwrap();
    let found: Vec<IdCount> = match &mut conn {
        db_services::client::Connection::Postgres(conn) => {
            diesel::sql_query("SELECT id::text AS id, count(*) AS rows FROM audit_logs GROUP BY id").load(conn).await.unwrap()
        }
        db_services::client::Connection::Sqlite(conn) => diesel::sql_query(
            "SELECT lower(substr(hex(id),1,8)||'-'||substr(hex(id),9,4)||'-'||substr(hex(id),13,4)||'-'||substr(hex(id),17,4)||'-'||substr(hex(id),21)) AS id, \
             count(*) AS rows FROM audit_logs GROUP BY id",
        )
        .load(conn)
        .await
        .unwrap(),
    };
    found.into_iter().map(|row| (row.id, row.rows)).collect()
}

/// Starts a writer with the spool directory, waits until it is replayed, and asserts that every id is stored
/// once.
async fn assert_all_stored_once(url: &str, dir: &Path, printed: &[String]) {
    let database = Database::from_url(url).unwrap();
    let (_writer, _guard) = writer_to(database.clone())
        .durability(Durability::Spill(dir.to_owned()))
        .start()
        .unwrap();
    wait_for("the replay", async || {
        let is_pending = |state: &SpoolState| !matches!(state, SpoolState::Waiting { entries: 0, .. });
        spool::status(dir)
            .unwrap()
            .iter()
            .all(|file| !is_pending(&file.state))
    })
    .await;
    let rows = rows_by_id(&database).await;
    let wrong: Vec<_> = printed.iter().filter(|id| rows.get(*id) != Some(&1)).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} are not stored exactly once",
        wrong.len(),
        printed.len()
    );
    assert!(rows.values().all(|rows| *rows == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_acknowledged_entry_on_postgres() {
    let server = Server::start(&[]).unwrap();
    let url = server.migrated().unwrap();
    let dir = TempDir::new().unwrap();
    let mut printed = Vec::new();
    for _ in 0..ROUNDS {
        printed.extend(write_until_killed(&url, dir.path(), random(3_000), |_| {}));
    }
    for _ in 0..ROUNDS {
        let restart_at = random(500);
        printed.extend(write_until_killed(
            &url,
            dir.path(),
            restart_at + random(1_000),
            |lines| {
                if lines == restart_at {
                    server.restart_immediate().unwrap();
                }
            },
        ));
    }
    server.stop_immediate().unwrap();
    for _ in 0..ROUNDS {
        printed.extend(write_until_killed(&url, dir.path(), random(3_000), |_| {}));
    }
    server.start_again().unwrap();
    assert_all_stored_once(&url, dir.path(), &printed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_acknowledged_entry_on_sqlite() {
    let db = TestDb::sqlite().await;
    let dir = TempDir::new().unwrap();
    let mut printed = Vec::new();
    for _ in 0..ROUNDS {
        printed.extend(write_until_killed(&db.url, dir.path(), random(1_000), |_| {}));
    }
    assert_all_stored_once(&db.url, dir.path(), &printed).await;
}
