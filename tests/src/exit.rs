//! What is lost, and what is seen, when a process ends on a signal, by exiting or by aborting?

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use db_services::audit::{Durability, Verdict, WriterAccount, verify_writers};
use db_services::client::Database;
use db_test::{Network, Proxy, wait_for};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::support::{TestDb, on_both, writer_to};

const ENDS: [&str; 2] = ["exit", "abort"];

/// A process that does not outlive a test that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is what is hoped for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> (Process, BufReader<ChildStdout>) {
    let mut child = command
        .env_remove("AUDIT_DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (Process(child), output)
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Runs the application until it is about to write more entries, while its database hangs.
fn about_to_leave(
    end: &str,
    entries: usize,
    proxy: &Proxy,
    spool: Option<&Path>,
) -> (Process, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
    let (mut app, mut output) = spawn(
        command
            .args(["leave", end, &entries.to_string()])
            .args(spool)
            .env("DATABASE_URL", proxy.url()),
    );
    assert_eq!(line(&mut output), "committed");
    proxy.set(Network::Hangs).unwrap();
    app.0.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    (app, output)
}

/// Runs the application until it has ended in this way while its database hung; gives what it printed.
fn leave(end: &str, entries: usize, proxy: &Proxy, spool: Option<&Path>) -> Vec<String> {
    let (mut app, output) = about_to_leave(end, entries, proxy, spool);
    let said = output.lines().map(Result::unwrap).collect();
    let status = app.0.wait().unwrap();
    assert_eq!(status.code(), (end == "exit").then_some(7), "{status}");
    said
}

async fn account(db: &TestDb) -> WriterAccount {
    verify_writers(&mut db.connection().await)
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_held_is_lost_and_the_unclean_end_is_visible() {
    for end in ENDS {
        let db = TestDb::postgres().await;
        let proxy = Proxy::to(&db.url).unwrap();
        leave(end, 1_000, &proxy, None);
        assert_eq!(db.count().await, 1, "{end}: the thousand that were queued");
        let account = account(&db).await;
        assert_eq!(
            (account.verdict, account.stored, account.missing),
            (Verdict::Open, 1, 0),
            "{end}"
        );
        assert_eq!(
            account.accepted_unknown_at_most,
            Some(5_000),
            "{end}: a thousand is within it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_an_aborted_process_did_not_declare_are_not_in_the_bound() {
    let db = TestDb::postgres().await;
    let proxy = Proxy::to(&db.url).unwrap();
    // Its queue holds 5,000.
    leave("abort", 20_000, &proxy, None);
    assert_eq!(db.count().await, 1, "20,000 entries have no row");
    let account = account(&db).await;
    assert_eq!(
        (account.verdict, account.missing, account.declared_lost),
        (Verdict::Open, 0, 0)
    );
    assert_eq!(
        account.accepted_unknown_at_most,
        Some(5_000),
        "those that the queue accepted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_ahead_is_there_after_the_next_start() {
    for end in ENDS {
        let (db, dir) = (TestDb::postgres().await, TempDir::new().unwrap());
        let proxy = Proxy::to(&db.url).unwrap();
        let safe = leave(end, 1_000, &proxy, Some(dir.path()));
        assert_eq!(safe.len(), 1_000, "{end}: all were acknowledged");
        assert_eq!(db.count().await, 1, "{end}: and none was in the database");
        proxy.set(Network::Passes).unwrap();
        let (_writer, _guard) = writer_to(Database::from_url(proxy.url()).unwrap())
            .durability(Durability::WriteAhead(dir.path().to_owned()))
            .start()
            .unwrap();
        wait_for("the replay", async || db.count().await == 1_001).await;
        let rows = db.rows().await;
        let ids: BTreeSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
        assert!(
            rows.len() == 1_001 && safe.iter().all(|id| ids.contains(id)),
            "{end}"
        );
        assert_eq!(
            account(&db).await.verdict,
            Verdict::Open,
            "{end}: its end was unclean all the same"
        );
    }
}

/// Not by the program `kill`: a minimal system has none.
fn send(signal: Signal, Process(child): &Process) {
    let pid = Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_process_writes_what_it_held_once_it_goes_on() {
    let db = TestDb::postgres().await;
    let proxy = Proxy::to(&db.url).unwrap();
    let (mut app, mut output) = about_to_leave("flush", 1_000, &proxy, None);
    wait_for("a batch on its way", async || proxy.seen().held > 0).await;
    send(Signal::STOP, &app);
    // Meanwhile its connections die, and what was on its way with them.
    proxy.set(Network::Cut).unwrap();
    proxy.set(Network::Passes).unwrap();
    assert_eq!(db.count().await, 1);
    send(Signal::CONT, &app);
    assert_eq!(line(&mut output), "1001 committed", "and flushing waited for it");
    assert_eq!(app.0.wait().unwrap().code(), Some(7));
    assert_eq!(db.count().await, 1_001, "an exit after a flush loses nothing");
}

on_both! {
    async fn a_server_that_is_told_to_end_commits_everything(db: TestDb) {
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
            let before = db.count().await;
            let mut command = Command::new(env!("CARGO_BIN_EXE_graceful_shutdown"));
            let (mut server, mut output) = spawn(command.env("DATABASE_URL", &db.url));
            let said = line(&mut output);
            let address = said.strip_prefix("listening on ").unwrap_or_else(|| panic!("{said}"));
            // The clients stay connected: nobody but the signal ends this.
            let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
            for client in &mut clients {
                client.write_all("login alice\nlogout alice\nopen\n".repeat(50).as_bytes()).unwrap();
                let mut answers = String::new();
                let answered = BufReader::new(&*client).take(50 * 27).read_to_string(&mut answers).unwrap();
                assert_eq!((answered, &answers[..27]), (50 * 27, "hello alice\nbye alice\nwho?\n"));
            }
            send(signal, &server);
            let rest: Vec<String> = output.lines().map(Result::unwrap).collect();
            assert_eq!(rest, [format!("ending on {name}"), "600 committed, 0 spooled, 0 lost".to_owned()]);
            assert!(server.0.wait().unwrap().success());
            assert_eq!(db.count().await, before + 600);
            let account = account(&db).await;
            assert_eq!((account.verdict, account.stored), (Verdict::Complete, 600));
            assert_eq!(account.service.as_deref(), Some("doorkeeper"));
        }
    }
}
