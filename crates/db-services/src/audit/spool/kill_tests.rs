//! Processes that are killed, and processes that share a directory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use audit_core::spool::{Batch, StoreError};
use db_schema::NewAuditLog;
use diesel::prelude::*;
use tempfile::TempDir;

use super::file::{SpoolFile, batch};
use super::{SpoolState, codec, status};
use crate::audit::{AuditEntry, AuditWriter, Durability};
use crate::client::Database;

/// Names the directory of a test that runs again in a process of its own.
const DIR: &str = "AUDIT_TEST_SPOOL_DIR";

/// Runs a test of this program again, in a process of its own.
fn run_again(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("audit::spool::kill_tests::{test}")])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The directory, in the process of its own.
fn dir() -> Option<std::path::PathBuf> {
    std::env::var_os(DIR).map(Into::into)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn single(n: usize) -> Batch<Vec<u8>> {
    let row = NewAuditLog::from(AuditEntry::new("small").resource("number", n.to_string()));
    batch(codec::encode(std::iter::once(&row)))
}

/// More batches than a statement of SQLite may have values: with 32,767 of them the replay never ended.
#[test]
fn a_writer_that_is_killed_replays_50_000_small_batches_once_each() {
    const BATCHES: i64 = 50_000;
    let url = |dir: &Path| format!("sqlite://{}", dir.join("audit.db").display());
    if let Some(dir) = dir() {
        return runtime().block_on(async {
            let database = Database::from_url(&url(&dir)).unwrap();
            let builder = AuditWriter::builder(database).durability(Durability::Spill(dir.join("spool")));
            let (_writer, _guard) = builder.start().unwrap();
            // Until it is killed.
            std::future::pending::<()>().await;
        });
    }
    let dir = TempDir::new().unwrap();
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let database = Database::from_url(&url(dir.path())).unwrap();
    runtime().block_on(async { database.migrate().await.unwrap() });
    let mut file = SpoolFile::create(&spool, "00000000-old", &database.spool_target()).unwrap();
    let batches: Vec<_> = (0..BATCHES).map(|n| single(n as usize)).collect();
    file.commit(&batches, &[]).unwrap();
    drop(file);
    let mut conn = SqliteConnection::establish(&dir.path().join("audit.db").to_string_lossy()).unwrap();
    diesel::sql_query("PRAGMA busy_timeout = 5000")
        .execute(&mut conn)
        .unwrap();
    let mut stored = || {
        let rows: (i64, i64) = diesel::select((
            diesel::dsl::sql::<diesel::sql_types::BigInt>("(SELECT count(*) FROM audit_logs)"),
            diesel::dsl::sql::<diesel::sql_types::BigInt>(
                "(SELECT count(DISTINCT resource_id) FROM audit_logs WHERE action = 'small')",
            ),
        ))
        .get_result(&mut conn)
        .unwrap();
        assert_eq!(rows.0, rows.1, "each once");
        rows.1
    };
    let is_empty = || {
        let left = status(&spool).unwrap();
        let is_damaged = |file: &super::SpoolStatus| file.state == SpoolState::Damaged;
        assert!(!left.iter().any(is_damaged), "a kill damages no file");
        left.into_iter()
            .all(|file| matches!(file.state, SpoolState::Waiting { entries: 0, .. }))
    };
    for until in [1, BATCHES / 3, BATCHES * 2 / 3, BATCHES] {
        let mut writer = run_again(
            "a_writer_that_is_killed_replays_50_000_small_batches_once_each",
            dir.path(),
        );
        while stored() < until || (until == BATCHES && !is_empty()) {
            assert_eq!(writer.try_wait().unwrap(), None, "it goes on until killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    assert_eq!(stored(), BATCHES);
    assert!(is_empty());
}

/// A writer's file is open in SQLite and locked: another writer of the same process must not open it.
#[test]
fn a_file_in_use_by_this_process_is_left_alone_by_its_other_writers() {
    use audit_core::spool::{Adoption, Store};
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "used", "here").unwrap();
    file.commit(&[single(1)], &[]).unwrap();
    let mut other = super::store::Directory::new(dir.path(), None);
    assert!(matches!(
        other.adopt("used.spool", Some("here")),
        Ok(Adoption::InUse)
    ));
    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(file.commit(&[single(2)], &[]), Err(StoreError::Gone(_))));
}
