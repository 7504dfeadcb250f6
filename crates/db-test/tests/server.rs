//! Servers stop, crash and restart as a test asks, and leave nothing behind.

// Test support reports an error by panicking.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use db_test::{Server, wait_for};
use rustix::process::{Pid, Signal};
use support::{connect, server, text};
use tokio_postgres::error::SqlState;

/// The data directory of a running server, and its process id.
async fn data_and_process(url: &str) -> (PathBuf, String) {
    let data = PathBuf::from(text(&connect(url).await.unwrap(), "SHOW data_directory").await);
    let pid = std::fs::read_to_string(data.join("postmaster.pid"))
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert!(
        runs(&pid),
        "the process is not visible: the test would show nothing"
    );
    (data, pid)
}

/// For signals without the program `kill`, which a minimal system lacks.
fn process(pid: &str) -> Pid {
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

fn runs(pid: &str) -> bool {
    rustix::process::test_kill_process(process(pid)).is_ok()
}

/// The directory of the socket in a URL.
fn home(url: &str) -> PathBuf {
    let config: tokio_postgres::Config = url.parse().unwrap();
    match config.get_hosts() {
        [tokio_postgres::config::Host::Unix(dir)] => dir.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn committed_rows_survive_each_kind_of_stop() {
    let server = server();
    let url = server.migrated().unwrap();
    let before = connect(&url).await.unwrap();
    assert_eq!(text(&before, "SELECT count(*)::text FROM audit_logs").await, "0");
    before
        .batch_execute("CREATE TABLE kept AS SELECT 'crash' AS why")
        .await
        .unwrap();

    server.restart_immediate().unwrap();
    assert!(
        before.batch_execute("SELECT 1").await.is_err(),
        "a connection outlived its server"
    );
    let between = connect(&url).await.unwrap();
    assert_eq!(text(&between, "SELECT why FROM kept").await, "crash");
    between
        .batch_execute("UPDATE kept SET why = 'stop'")
        .await
        .unwrap();

    server.stop_fast().unwrap();
    server.start_again().unwrap();
    assert_eq!(
        text(&connect(&url).await.unwrap(), "SELECT why FROM kept").await,
        "stop"
    );
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_until_it_is_started_again() {
    let server = server();
    let url = server.url("postgres");
    for stop in [Server::stop_immediate, Server::stop_fast] {
        let client = connect(&url).await.unwrap();
        stop(&server).unwrap();
        stop(&server).unwrap();
        assert!(connect(&url).await.is_err());
        assert!(client.batch_execute("SELECT 1").await.is_err());
        server.start_again().unwrap();
        let client = connect(&url).await.unwrap();
        server.start_again().unwrap();
        assert_eq!(
            text(&client, "SELECT 'the same'").await,
            "the same",
            "a running server is not restarted"
        );
    }
}

#[tokio::test]
async fn a_server_that_ended_by_itself_starts_again() {
    let server = server();
    let url = server.url("postgres");
    let (_, pid) = data_and_process(&url).await;
    rustix::process::kill_process(process(&pid), Signal::INT).unwrap();
    wait_for("the end of the server", async || {
        connect(&url).await.is_err_and(|error| error.code().is_none())
    })
    .await;
    server.start_again().unwrap();
    assert!(connect(&url).await.is_ok());
}

#[tokio::test]
async fn settings_of_a_test_override_the_defaults() {
    let server = Server::start(&[("fsync", "on"), ("full_page_writes", "on"), ("work_mem", "3MB")]).unwrap();
    let client = connect(&server.url("postgres")).await.unwrap();
    for (setting, value) in [("fsync", "on"), ("full_page_writes", "on"), ("work_mem", "3MB")] {
        assert_eq!(
            text(&client, &format!("SHOW {setting}")).await,
            value,
            "{setting}"
        );
    }
    server.restart_immediate().unwrap();
    let client = connect(&server.url("postgres")).await.unwrap();
    assert_eq!(
        text(&client, "SHOW work_mem").await,
        "3MB",
        "also after a restart"
    );
}

#[test]
fn an_error_names_a_setting_that_does_not_exist() {
    let error = Server::start(&[("no_such_setting", "1")])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn roles_other_than_the_superuser_need_their_password() {
    let server = server();
    let admin = connect(&server.url("postgres")).await.unwrap();
    assert_eq!(text(&admin, "SHOW fsync").await, "off");
    admin
        .batch_execute("CREATE ROLE app LOGIN PASSWORD 'o/l:d@'")
        .await
        .unwrap();
    let old = server.url_as("app", "o/l:d@", "postgres");
    assert_eq!(
        text(&connect(&old).await.unwrap(), "SELECT current_user::text").await,
        "app"
    );

    admin
        .batch_execute("ALTER ROLE app PASSWORD 'new'")
        .await
        .unwrap();
    let refused = connect(&old).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    assert!(connect(&server.url_as("app", "new", "postgres")).await.is_ok());
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process_and_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]).unwrap();
    let url = server.url("postgres");
    let (data, pid) = data_and_process(&url).await;
    assert_eq!(data, dir.path().join("data"));
    assert!(home(&url).exists());
    drop(server);
    assert!(!runs(&pid) && !data.exists() && !home(&url).exists());
    assert!(dir.path().exists(), "the directory is the caller's");
}

#[test]
fn an_existing_data_directory_is_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data/precious");
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(&file, "").unwrap();
    let error = Server::start_in(dir.path(), &[]).err().unwrap().to_string();
    assert!(error.contains("data directory"), "{error}");
    assert!(file.exists());
}

#[tokio::test]
async fn a_server_ends_when_its_test_process_is_killed() {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", "echo $DATABASE_URL; cat"])
        .env_remove("TEST_DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let (_, pid) = data_and_process(url.trim()).await;
    let home: &Path = &home(url.trim());
    assert!(home.exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_for("the end of the server", async || !runs(&pid) && !home.exists()).await;
}
