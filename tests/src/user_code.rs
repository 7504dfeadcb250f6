//! Application code that the writer calls, or that calls the writer in unusual contexts, stops neither the
//! writer nor the process, and runs without a lock of the writer.
//!
//! Each scenario is a separate process (`app/user_code.rs`) that aborts instead of hanging.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{AuditEntry, Delivery, Durability, RetryPolicy};
use tempfile::TempDir;

use crate::process::lines;
use crate::support::{TIMEOUT, TestDb, on_both, wait_for};

fn command(scenario: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
    command.args(["user-code", scenario]).env("RUST_BACKTRACE", "0");
    for name in [
        "DATABASE_URL",
        "AUDIT_DATABASE_URL",
        "AUDIT_LOG",
        "AUDIT_SPOOL_DIR",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command
}

/// Runs a scenario, which must succeed, and returns the lines that it printed.
fn run(scenario: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let output: Output = command(scenario, environment).output().unwrap();
    assert!(output.status.success(), "{scenario}: {output:?}");
    lines(&output.stdout)
}

#[test]
fn a_shutdown_ends_although_on_loss_writes_entries() {
    assert_eq!(run("on-loss-writes", &[]), ["called", "all settled", "true"]);
}

#[test]
fn a_write_does_not_wait_for_on_loss() {
    let late = "dropped: the writer was shut down";
    assert_eq!(run("on-loss-waits-for-a-write", &[]), [late, "ended"]);
}

#[test]
fn a_writer_survives_an_on_loss_that_panics() {
    assert_eq!(run("on-loss-panics", &[]), ["10 committed", "90 lost"]);
}

#[test]
fn a_logger_may_write_entries_from_the_first_call_on() {
    let disabled = ["disabled", "0 pending"];
    assert_eq!(run("logger-writes", &[])[..2], disabled);
    let unusable = run("logger-writes", &[("DATABASE_URL", "mysql://localhost/db")]);
    assert!(
        unusable[0].starts_with("dropped: the database cannot be used"),
        "{unusable:?}"
    );
    let out_of_reach = run(
        "logger-writes",
        &[("DATABASE_URL", "postgres://u@127.0.0.1:1/db")],
    );
    assert_eq!(out_of_reach, ["pending", "0 pending", "true"]);
}

#[test]
fn a_writer_survives_a_logger_that_panics() {
    assert_eq!(run("logger-panics", &[]), ["committed", "0 pending"]);
}

#[tokio::test]
async fn a_writer_survives_a_logger_that_panics_within_the_driver_of_postgresql() {
    let db = TestDb::postgres().await;
    let printed = run("driver-logger-panics", &[("DATABASE_URL", &db.url)]);
    assert_eq!(printed, ["committed", "0 lost, 0 unknown", "0 panics left"]);
}

#[test]
fn a_flush_and_a_shutdown_end_although_on_loss_blocks() {
    assert_eq!(run("on-loss-blocks", &[]), ["true", "true"]);
}

#[test]
fn a_callback_that_awaits_its_own_writer_gets_an_answer_at_once() {
    assert_eq!(run("on-loss-waits-for-itself", &[]), ["true"]);
}

#[test]
fn an_installed_writer_declares_the_entries_that_no_thread_could_be_started_for() {
    let url = [("DATABASE_URL", "sqlite::memory:")];
    let expected = ["7 lost", "committed", "7 lost", "1"];
    assert_eq!(run("no-thread-then-installed", &url), expected);
    let without = ["0 lost", "committed", "0 lost", "0"];
    assert_eq!(run("no-thread-without-entries-then-installed", &url), without);
}

#[test]
fn a_writer_survives_a_waker_that_panics() {
    let expected = [&["committed"; 9][..], &["9 committed"]].concat();
    assert_eq!(run("waker-panics", &[]), expected);
}

on_both! {
    async fn a_logger_may_write_entries_beside_a_database_that_works(db: TestDb) {
        let printed = run("logger-writes", &[("DATABASE_URL", &db.url)]);
        assert_eq!(printed[..2], ["committed", "0 pending"]);
        assert!(db.rows().await.iter().any(|row| row.action == "app.first"));
    }

    async fn an_entry_is_written_in_the_destructor_of_a_thread_local(db: TestDb) {
        let printed = run("destructor", &[("DATABASE_URL", &db.url)]);
        assert_eq!(printed, ["committed", "5 committed"]);
        assert_eq!(db.rows().await.iter().filter(|row| row.action == "app.destructor").count(), 4);
    }

    async fn an_entry_is_written_in_a_panic_hook(db: TestDb) {
        assert_eq!(run("panic-hook", &[("DATABASE_URL", &db.url)]), ["3 committed"]);
        assert!(db.rows().await.iter().all(|row| row.action == "app.panic"));
    }

    async fn an_entry_is_dropped_and_counted_while_no_thread_can_be_started(db: TestDb) {
        let printed = run("no-thread", &[("DATABASE_URL", &db.url)]);
        assert!(printed[0].starts_with("dropped: the writer's thread could not be started"), "{printed:?}");
        assert_eq!(printed[1..], ["committed", "true"]);
        assert!(db.count().await >= 1, "the start was retried");
    }

    async fn the_trail_works_once_a_file_descriptor_is_free_again(db: TestDb) {
        let printed = run("no-file", &[("DATABASE_URL", &db.url)]);
        assert_eq!(printed[1..], ["committed", "true"], "{printed:?}");
        assert!(db.count().await >= 1);
    }

    async fn the_first_call_reads_and_writes_nothing_on_the_thread_of_its_caller(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let spool = dir.path().join("spool");
        let environment = [("DATABASE_URL", &*db.url), ("AUDIT_SPOOL_DIR", spool.to_str().unwrap())];
        let printed = run("first-call", &environment);
        let bytes: u64 = printed[0].parse().unwrap();
        // A wake-up is eight bytes, a page of a spool file 4,096.
        assert!(bytes < 256, "{bytes} bytes were read or written");
        assert_eq!(printed[1], "committed");
        assert!(spool.exists(), "another thread opened the spool");
    }

    async fn the_longest_durations_do_not_end_the_writer(db: TestDb) {
        for policy in longest() {
            let dir = TempDir::new().unwrap();
            for durability in [Durability::Memory, Durability::Spill(dir.path().to_owned())] {
                let builder = db.builder().retry(policy).durability(durability);
                let (writer, guard) = builder.start().unwrap();
                assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed, "{policy:?}");
                let report = guard.shutdown(TIMEOUT).await;
                assert_eq!((report.committed, report.unknown), (1, 0), "{policy:?}");
            }
        }
    }
}

/// Policies with the longest duration in one field, and in all fields.
fn longest() -> [RetryPolicy; 5] {
    let with = |set: fn(&mut RetryPolicy)| {
        let mut policy = RetryPolicy::default();
        policy.first_pause = Duration::from_millis(5);
        policy.longest_pause = Duration::from_millis(50);
        set(&mut policy);
        policy
    };
    [
        with(|policy| policy.attempt_timeout = Duration::MAX),
        with(|policy| policy.first_pause = Duration::MAX),
        with(|policy| policy.longest_pause = Duration::MAX),
        with(|policy| policy.spill_after = Duration::MAX),
        with(|policy| {
            policy.attempt_timeout = Duration::MAX;
            policy.first_pause = Duration::MAX;
            policy.longest_pause = Duration::MAX;
            policy.spill_after = Duration::MAX;
        }),
    ]
}

#[tokio::test]
async fn a_writer_with_the_longest_durations_survives_an_outage() {
    let policies = longest();
    for (nth, policy) in policies.into_iter().enumerate() {
        let database = MemoryDatabase::new();
        let builder = database
            .writer()
            .retry(policy)
            .receipt_timeout(Duration::from_millis(20));
        let (writer, guard) = builder.start().unwrap();
        database.fail(Failure::Unreachable);
        drop(writer.write(AuditEntry::new("x")));
        wait_for("an attempt", async || database.attempts() > 0).await;
        assert_eq!(
            writer.write(AuditEntry::new("x")).await,
            Delivery::Pending,
            "{policy:?}"
        );
        database.recover();
        // With an endless pause the writer waits until its shutdown.
        let waits = nth + 1 == policies.len();
        let report = guard
            .shutdown(if waits { Duration::from_millis(20) } else { TIMEOUT })
            .await;
        assert_eq!(report.pending, 0, "{policy:?}");
        if !waits {
            assert_eq!((report.committed, report.unknown), (2, 0), "{policy:?}");
        }
    }
}

/// The environment names a pipe as certificate: reading it blocks until something is written.
#[test]
fn the_first_call_returns_while_the_start_is_blocked() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("root.crt");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let url = format!(
        "postgres://u@127.0.0.1:1/db?sslmode=verify-full&sslrootcert={}",
        pipe.display()
    );
    let mut child = command("blocked-start", &[("DATABASE_URL", &url)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(printed.next().as_deref(), Some("returned"));
    // Opened for reading and writing, so that opening does not wait for the other end.
    let both_ends = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    std::io::Write::write_all(&mut &both_ends, b"no certificate").unwrap();
    drop(both_ends);
    assert!(child.wait().unwrap().success());
    let delivery = printed.next().unwrap();
    assert!(
        delivery.starts_with("dropped: the database cannot be used") || delivery == "pending",
        "{delivery}"
    );
}
