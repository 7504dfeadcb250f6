//! The file of an export: whole, for its owner, and under its name only when it is complete.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{checked_manifest, files_of, with_events, without_open_transactions};
use crate::fixture::{CliFixture, output_of};
use crate::matrix::Session;

#[test]
fn a_file_has_its_manifest_and_its_owner_alone_may_read_it() {
    for cli in CliFixture::on_both().map(with_events) {
        let (code, out, err) = cli.run(&["export", "--out", "rows.ndjson", "ip:0.0.0.0/0"]);
        assert_eq!((code, &*without_open_transactions(&err)), (0, ""));
        assert!(
            out.starts_with("exported ") && out.contains(" entries to rows.ndjson ("),
            "{out}"
        );
        assert_eq!(
            files_of(&cli, "rows"),
            ["rows.ndjson", "rows.ndjson.manifest.json"]
        );
        for name in files_of(&cli, "rows") {
            let mode = std::fs::metadata(cli.dir.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let manifest = checked_manifest(&cli.dir.path().join("rows.ndjson"));
        assert!(
            manifest["query"].as_str().unwrap().starts_with("ip:0.0.0.0/0"),
            "{manifest}"
        );
        let database = manifest["database"].as_str().unwrap();
        assert!(database.starts_with("PostgreSQL system ") || database.starts_with("SQLite file "));
    }
}

#[test]
fn an_existing_file_is_replaced_only_with_force_and_nothing_but_a_file() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let at = |name: &str| cli.dir.path().join(name);
    std::fs::write(at("kept"), "mine").unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    std::os::unix::fs::symlink("kept", at("link")).unwrap();
    let (code, _, err) = cli.run(&["export", "--out", "kept"]);
    assert!(
        code == 3 && err.contains("kept exists") && err.contains("--force"),
        "{err}"
    );
    for name in ["dir", "link"] {
        let (code, _, err) = cli.run(&["export", "--force", "--out", name]);
        assert!(code == 3 && err.contains("no regular file"), "{err}");
    }
    assert_eq!(std::fs::read(at("kept")).unwrap(), b"mine");
    let (code, _, err) = cli.run(&["export", "--force", "--out", "kept"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(checked_manifest(&at("kept"))["rows"], 1);
    assert_eq!(files_of(&cli, "kept"), ["kept", "kept.manifest.json"]);
}

#[test]
fn a_full_disk_leaves_no_file() {
    let cli = with_events(CliFixture::new());
    let export = |blocks: &str, file: &str| {
        let script = format!("ulimit -f {blocks} && exec \"$AUDITLOG\" export --no-record --out {file}");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script])
            .env("AUDITLOG", env!("CARGO_BIN_EXE_auditlog"))
            .env("AUDIT_DATABASE_URL", "sqlite://audit.db")
            .current_dir(&cli.dir);
        output_of(shell.output().unwrap())
    };
    let (code, _, err) = export("100", "full.ndjson");
    assert!(code == 3 && err.contains("full.ndjson: File too large"), "{err}");
    assert!(files_of(&cli, "full").is_empty());
    assert_eq!(export("unlimited", "whole.ndjson").0, 0);
    checked_manifest(&cli.dir.path().join("whole.ndjson"));
}

/// Waits until something is so, however slow the machine is.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The set of signals that a process ignores ("SigIgn") or handles ("SigCgt").
fn signals(process: &str, set: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// The signals that end a command, with the exit codes that a shell shows. `nohup` ignores the last one.
fn ending_signals() -> impl Iterator<Item = (Signal, i32)> {
    let all = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
    all.into_iter()
        .filter(|(signal, _)| signals("self", "SigIgn") >> (signal.as_raw() - 1) & 1 == 0)
}

/// An export that waits for the lock of a session, after it has created its file.
fn waiting_export(cli: &CliFixture, command: &mut Command) -> (Session, Child) {
    let mut holder = Session::open(cli.postgres.as_ref().unwrap().url());
    holder.batch("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("no file", || {
        files_of(cli, "rows.ndjson.manifest.json.").len() == 1
    });
    (holder, child)
}

#[test]
fn a_signal_leaves_no_file() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    for (signal, code) in ending_signals() {
        let mut export = cli.command(&["export", "--no-record", "--out", "rows.ndjson"]);
        let (_holder, mut child) = waiting_export(&cli, &mut export);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(files_of(&cli, "rows.ndjson").is_empty());
    }
}

#[test]
fn a_signal_during_a_statement_of_sqlite_leaves_no_file() {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let path = cli.dir.path().join("audit.db");
    let mut holder = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    for (signal, code) in ending_signals() {
        // The record of the export waits for it.
        holder.batch_execute("BEGIN IMMEDIATE").unwrap();
        let child = cli.spawn(&["export", "--out", "rows.ndjson"]);
        let bit = 1 << (signal.as_raw() - 1);
        wait_until("no handler", || {
            signals(&child.id().to_string(), "SigCgt") & bit != 0
        });
        send(&child, signal);
        holder.batch_execute("ROLLBACK").unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &*err),
            (Some(code), "auditlog: interrupted, rows.ndjson was not written\n")
        );
        assert!(files_of(&cli, "rows.ndjson").is_empty());
    }
}

#[test]
fn a_signal_that_is_to_be_ignored_does_not_end_an_export() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let script = "trap '' INT HUP; exec \"$0\" export --no-record --out rows.ndjson";
    let mut export = Command::new("sh");
    export.args(["-c", script, env!("CARGO_BIN_EXE_auditlog")]);
    export.current_dir(&cli.dir);
    export.env("DATABASE_URL", cli.postgres.as_ref().unwrap().url());
    let (mut holder, child) = waiting_export(&cli, &mut export);
    send(&child, Signal::INT);
    send(&child, Signal::HUP);
    holder.batch("ROLLBACK");
    let (code, out, err) = output_of(child.wait_with_output().unwrap());
    assert!(code == 0 && out.starts_with("exported 0 entries"), "{out}{err}");
}

#[test]
fn a_signal_ends_an_export_to_a_pipe_that_nobody_reads() {
    use std::io::{BufRead, BufReader};
    let cli = with_events(CliFixture::new());
    for (signal, code) in ending_signals() {
        let mut child = cli.spawn(&["export", "--no-record"]);
        // The pipe holds less than the rest.
        let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        send(&child, signal);
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(ended.signal(), Some(code - 128));
    }
}

#[test]
fn one_export_at_a_time_writes_a_file() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let arguments = ["export", "--no-record", "--out", "rows.ndjson"];
    let (mut holder, child) = waiting_export(&cli, &mut cli.command(&arguments));
    for more in [&[][..], &["--force"]] {
        let (code, _, err) = cli.run(&[&arguments[..], more].concat());
        assert!(
            code == 3 && err.contains("another process is writing this file"),
            "{err}"
        );
    }
    holder.batch("ROLLBACK");
    assert_eq!(output_of(child.wait_with_output().unwrap()).0, 0);
    checked_manifest(&cli.dir.path().join("rows.ndjson"));
}

#[test]
fn a_file_that_appears_meanwhile_keeps_its_manifest() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let arguments = ["export", "--no-record", "--out", "rows.ndjson"];
    let (mut holder, child) = waiting_export(&cli, &mut cli.command(&arguments));
    let at = |name: &str| cli.dir.path().join(name);
    std::fs::write(at("rows.ndjson"), "mine").unwrap();
    std::fs::write(at("rows.ndjson.manifest.json"), "of mine").unwrap();
    holder.batch("ROLLBACK");
    let (code, _, err) = output_of(child.wait_with_output().unwrap());
    assert!(code == 3 && err.contains("rows.ndjson exists"), "{err}");
    assert_eq!(std::fs::read(at("rows.ndjson")).unwrap(), b"mine");
    assert_eq!(
        std::fs::read(at("rows.ndjson.manifest.json")).unwrap(),
        b"of mine"
    );
    assert_eq!(files_of(&cli, "rows").len(), 2);
}

#[test]
fn what_cannot_be_a_name_or_is_no_manifest_is_refused_before_anything_is_read() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let long = "x".repeat(230);
    std::fs::write(cli.dir.path().join("a.manifest.json"), "mine").unwrap();
    for (name, part) in [
        ("absent/", "is not the name of a file"),
        ("absent/.", "is not the name of a file"),
        ("..", "is not the name of a file"),
        (&long, "File name too long"),
        ("a", "a.manifest.json exists and is no manifest"),
    ] {
        let (code, out, err) = cli.run(&["export", "--out", name]);
        assert!([2, 3].contains(&code) && err.contains(part), "{name}: {err}");
        assert_eq!(out, "");
    }
    assert_eq!(files_of(&cli, "").len(), files_of(&cli, "audit.db").len() + 1);
    assert_eq!(cli.run(&["export", "--force", "--out", "a"]).0, 0);
    checked_manifest(&cli.dir.path().join("a"));
}

#[test]
fn an_export_ends_quietly_when_nobody_reads_it() {
    use std::io::{BufRead, BufReader, Read};
    let cli = with_events(CliFixture::new());
    let mut child = cli.spawn(&["export", "--no-record"]);
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("{\"id\":"), "{first}");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*err), (Some(0), ""));
}

#[test]
fn an_export_is_recorded_before_anything_is_read() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let mut export = cli.command(&["export", "meta.password:hush"]);
        assert_eq!(output_of(export.env("USER", "carol").output().unwrap()).0, 0);
        let (_, out, _) = cli.run(&["list", "--no-record", "--json", "action:audit.exported"]);
        assert!(
            out.lines().count() == 1 && out.contains("carol") && !out.contains("hush"),
            "{out}"
        );
        assert_eq!(cli.run(&["export", "--no-record"]).0, 0);
        let (_, out, _) = cli.run(&["list", "--no-record", "action:audit.exported"]);
        assert_eq!(out.lines().count(), 2);
    }
}
