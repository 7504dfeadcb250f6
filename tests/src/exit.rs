//! The end of a process by a signal, by exiting or by aborting: what is lost, and what the trail shows.

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

const EXITS: [&str; 2] = ["exit", "abort"];

/// A child process that is killed when its test fails.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Fails if it has ended already, which is the normal case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> (KillOnDrop, BufReader<ChildStdout>) {
    let mut child = command
        .env_remove("AUDIT_DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (KillOnDrop(child), output)
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Starts the application, and lets its database hang before it writes more entries.
fn start_with_hanging_database(
    end: &str,
    entries: usize,
    proxy: &Proxy,
    spool: Option<&Path>,
) -> (KillOnDrop, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
    let (mut app, mut output) = spawn(
        command
            .args(["exit-mode", end, &entries.to_string()])
            .args(spool)
            .env("DATABASE_URL", proxy.url()),
    );
    assert_eq!(line(&mut output), "committed");
    proxy.set(Network::Hangs).unwrap();
    app.0.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    (app, output)
}

/// Runs the application until it ends in this way while its database hangs. Returns its output.
fn run_to_exit(end: &str, entries: usize, proxy: &Proxy, spool: Option<&Path>) -> Vec<String> {
    let (mut app, output) = start_with_hanging_database(end, entries, proxy, spool);
    let lines = output.lines().map(Result::unwrap).collect();
    let status = app.0.wait().unwrap();
    assert_eq!(status.code(), (end == "exit").then_some(7), "{status}");
    lines
}

async fn account(db: &TestDb) -> WriterAccount {
    verify_writers(&mut db.connection().await)
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_in_memory_are_lost_and_the_unclean_end_is_visible() {
    for end in EXITS {
        let db = TestDb::postgres().await;
        let proxy = Proxy::to(&db.url).unwrap();
        run_to_exit(end, 1_000, &proxy, None);
        assert_eq!(db.count().await, 1, "{end}: the thousand queued entries are lost");
        let account = account(&db).await;
        assert_eq!(
            (account.verdict, account.stored, account.missing),
            (Verdict::Open, 1, 0),
            "{end}"
        );
        assert_eq!(
            account.accepted_unknown_at_most,
            Some(5_000),
            "{end}: the bound covers the thousand"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_an_aborted_process_excludes_entries_that_its_queue_refused() {
    let db = TestDb::postgres().await;
    let proxy = Proxy::to(&db.url).unwrap();
    // Its queue holds 5,000.
    run_to_exit("abort", 20_000, &proxy, None);
    assert_eq!(db.count().await, 1, "none of the 20,000 entries is stored");
    let account = account(&db).await;
    assert_eq!(
        (account.verdict, account.missing, account.declared_lost),
        (Verdict::Open, 0, 0)
    );
    assert_eq!(
        account.accepted_unknown_at_most,
        Some(5_000),
        "the entries that the queue accepted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_written_ahead_are_stored_after_the_next_start() {
    for end in EXITS {
        let (db, dir) = (TestDb::postgres().await, TempDir::new().unwrap());
        let proxy = Proxy::to(&db.url).unwrap();
        let safe = run_to_exit(end, 1_000, &proxy, Some(dir.path()));
        assert_eq!(safe.len(), 1_000, "{end}: all were acknowledged");
        assert_eq!(db.count().await, 1, "{end}: none of them was in the database");
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
            "{end}: the end was unclean nevertheless"
        );
    }
}

/// Sends a signal without the program `kill`, which a minimal system lacks.
fn send(signal: Signal, KillOnDrop(child): &KillOnDrop) {
    let pid = Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_writes_its_entries_when_it_continues() {
    let db = TestDb::postgres().await;
    let proxy = Proxy::to(&db.url).unwrap();
    let (mut app, mut output) = start_with_hanging_database("flush", 1_000, &proxy, None);
    wait_for("a batch in flight", async || proxy.seen().held > 0).await;
    send(Signal::STOP, &app);
    // Its connections break meanwhile, and with them what was in flight.
    proxy.set(Network::Cut).unwrap();
    proxy.set(Network::Passes).unwrap();
    assert_eq!(db.count().await, 1);
    send(Signal::CONT, &app);
    assert_eq!(line(&mut output), "1001 committed", "the flush waits for them");
    assert_eq!(app.0.wait().unwrap().code(), Some(7));
    assert_eq!(db.count().await, 1_001, "an exit after a flush loses nothing");
}

on_both! {
    async fn a_server_commits_everything_when_a_signal_ends_it(db: TestDb) {
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
            let before = db.count().await;
            let mut command = Command::new(env!("CARGO_BIN_EXE_graceful_shutdown"));
            let (mut server, mut output) = spawn(command.env("DATABASE_URL", &db.url));
            let printed = line(&mut output);
            let address = printed.strip_prefix("listening on ").unwrap_or_else(|| panic!("{printed}"));
            // The clients stay connected, so only the signal ends the server.
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
