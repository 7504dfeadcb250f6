//! `auditlog tail`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use db_test::{Network, Proxy};
use serde_json::Value;

use crate::fixture::CliFixture;
use crate::matrix::{Session, server};

/// The longest wait for a line, on a machine under load.
const LIMIT: Duration = Duration::from_secs(60);

/// A command that runs, and its lines as they come.
struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    fn start(cli: &CliFixture, arguments: &[&str]) -> Self {
        let mut child = cli.spawn(arguments);
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    fn next(&self) -> Value {
        let line = self.out.recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|_| panic!("no line; {:?}", self.err.try_iter().collect::<Vec<_>>()));
        serde_json::from_str(&line).unwrap()
    }

    fn next_action(&self) -> String {
        self.next()["action"].as_str().unwrap().to_owned()
    }

    fn wait_for_note(&self, text: &str) {
        while !self.err.recv_timeout(LIMIT).unwrap().contains(text) {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn write(cli: &CliFixture, action: &str) {
    let (code, _, err) = cli.run(&["write", "--action", action]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn the_newest_entries_are_shown_with_the_oldest_first() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let (code, out, err) = cli.run(&["tail", "--json", "-n", "2"]);
        assert_eq!((code, &*err), (0, ""));
        let (_, listed, _) = cli.run(&["list", "--no-record", "--json", "-n", "2"]);
        let mut listed: Vec<_> = listed.lines().collect();
        listed.reverse();
        assert_eq!(out.lines().collect::<Vec<_>>(), listed);
        let (_, plain, _) = cli.run(&["tail", "-n", "1"]);
        let (_, table, _) = cli.run(&["list", "-n", "1"]);
        assert_eq!(plain.lines().last(), table.lines().last());
        let (_, records, _) = cli.run(&["list", "--no-record", "--json", "action:audit.viewed"]);
        assert_eq!(records.lines().count(), 3, "{records}");
    }
}

#[test]
fn an_entry_appears_when_it_is_committed_and_once() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        write(&cli, "first");
        let tail = Running::start(&cli, &["tail", "-f", "--json", "-n", "5"]);
        assert_eq!(tail.next_action(), "first");
        for action in ["second", "third"] {
            write(&cli, action);
            assert_eq!(tail.next_action(), action);
        }
    }
}

/// An entry is identified by its id and its time.
#[test]
fn an_entry_with_the_id_of_one_that_was_shown_appears() {
    let cli = CliFixture::new();
    let insert = |action: &str, time: u32| {
        cli.execute_sqlite(&format!(
            "INSERT INTO audit_logs (id, action, created_at) VALUES (x'00112233445566778899aabbccddeeff', '{action}', {time})"
        ));
    };
    assert_eq!(cli.run(&["migrate"]).0, 0);
    insert("first", 1);
    let tail = Running::start(&cli, &["tail", "-f", "--json", "-n", "5", "--no-record"]);
    assert_eq!(tail.next_action(), "first");
    insert("second", 2);
    write(&cli, "third");
    assert_eq!(tail.next_action(), "second");
    assert_eq!(tail.next_action(), "third");
}

#[test]
fn an_entry_that_was_committed_late_appears() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let mut late = Session::open(cli.postgres.as_ref().unwrap().url());
    late.batch("BEGIN; INSERT INTO audit_logs (action) VALUES ('late')");
    let tail = Running::start(&cli, &["tail", "-f", "--json", "-n", "0"]);
    // Until it follows, entries may be older than its position.
    write(&cli, "early");
    let mut written = 1;
    while tail.out.recv_timeout(Duration::from_millis(1_500)).is_err() {
        assert!(written < 40, "it does not follow");
        written += 1;
        write(&cli, "early");
    }
    late.batch("COMMIT");
    while tail.next_action() != "late" {}
}

/// It takes a minute: how long a transaction must be open.
#[test]
fn a_transaction_that_is_open_for_long_is_named_once_to_every_login() {
    let url = server().migrated().unwrap();
    Session::open(&url).batch(
        "INSERT INTO audit_logs (action) VALUES ('first'); \
         DO $$ BEGIN CREATE ROLE tailing_auditor LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT audit_auditor TO tailing_auditor",
    );
    // It may not see when the transactions of others began.
    let auditor = server().url_as("tailing_auditor", "pw", url.rsplit_once('/').unwrap().1);
    let mut late = Session::open(&url);
    late.batch("BEGIN; INSERT INTO audit_logs (action) VALUES ('late')");
    let cli = CliFixture::new();
    let tails = [(&url, "open since "), (&auditor, "open for more than a minute")].map(|(url, text)| {
        let arguments = [
            "--database-url",
            url,
            "tail",
            "-f",
            "--json",
            "-n",
            "1",
            "--no-record",
        ];
        (Running::start(&cli, &arguments), text)
    });
    for (tail, text) in &tails {
        assert_eq!(tail.next_action(), "first");
        let note = loop {
            let line = tail.err.recv_timeout(LIMIT + LIMIT).unwrap();
            if line.contains("a transaction has been open") {
                break line;
            }
        };
        assert!(note.contains(text), "{note}");
    }
    late.batch("COMMIT");
    for (tail, _) in &tails {
        assert_eq!(tail.next_action(), "late");
        assert_eq!(tail.err.try_iter().count(), 0, "it is named once");
    }
}

#[test]
fn a_lost_connection_loses_and_repeats_no_entry() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    write(&cli, "first");
    let proxy = Proxy::to(cli.postgres.as_ref().unwrap().url()).unwrap();
    let arguments = ["--database-url", proxy.url(), "tail", "-f", "--json"];
    let tail = Running::start(&cli, &arguments);
    assert_eq!(tail.next_action(), "first");
    proxy.set(Network::Cut).unwrap();
    write(&cli, "second");
    tail.wait_for_note("trying again");
    proxy.set(Network::Passes).unwrap();
    assert_eq!(tail.next_action(), "second");
    tail.wait_for_note("connected again");
    let mut admin = Session::open(cli.postgres.as_ref().unwrap().url());
    admin.number(
        "SELECT count(pg_terminate_backend(pid)) AS value FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    write(&cli, "third");
    assert_eq!(tail.next_action(), "third");
}

#[test]
fn a_position_that_a_restore_has_made_worthless_ends_it() {
    let cli = CliFixture::new();
    write(&cli, "first");
    write(&cli, "second");
    let mut tail = Running::start(&cli, &["tail", "-f", "--json", "-n", "1", "--no-record"]);
    assert_eq!(tail.next_action(), "second");
    cli.execute_sqlite(
        "DROP TRIGGER audit_feed_order_no_delete; DELETE FROM audit_feed_order WHERE seq = (SELECT max(seq) FROM audit_feed_order)",
    );
    assert_eq!(tail.child.wait().unwrap().code(), Some(3));
    tail.wait_for_note("an older copy was restored");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_although_nothing_happens() {
    let cli = CliFixture::new();
    write(&cli, "first");
    let mut child = cli.spawn(&["tail", "-f", "--json"]);
    let mut out: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*err), (Some(0), ""));
}
