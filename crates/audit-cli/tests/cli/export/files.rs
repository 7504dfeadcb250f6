//! The file of an export: whole, for its owner, and under its name only when it is complete.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{checked_manifest, files_of, with_events};
use crate::fixture::{CliFixture, output_of};

#[test]
fn a_file_has_its_manifest_and_its_owner_alone_may_read_it() {
    for cli in CliFixture::on_both().map(with_events) {
        let (code, out, err) = cli.run(&["export", "--out", "rows.ndjson", "ip:0.0.0.0/0"]);
        assert_eq!((code, &*err), (0, ""));
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
            .current_dir(&cli.dir);
        output_of(shell.output().unwrap())
    };
    let (code, _, err) = export("100", "full.ndjson");
    assert!(code == 3 && err.contains("full.ndjson: File too large"), "{err}");
    assert!(files_of(&cli, "full").is_empty());
    assert_eq!(export("unlimited", "whole.ndjson").0, 0);
    checked_manifest(&cli.dir.path().join("whole.ndjson"));
}

#[test]
fn a_signal_leaves_no_file() {
    use std::time::{Duration, Instant};
    // It waits for the lock of another session, after it has created its file.
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    for (signal, code) in [
        (rustix::process::Signal::INT, 130),
        (rustix::process::Signal::TERM, 143),
    ] {
        let url = cli.postgres.as_ref().unwrap().url().to_owned();
        let mut holder = crate::matrix::Session::open(&url);
        holder.batch("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE");
        let mut child = cli.spawn(&["export", "--no-record", "--out", "rows.ndjson"]);
        let begun = Instant::now();
        while files_of(&cli, "rows.ndjson").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no file");
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(files_of(&cli, "rows.ndjson").is_empty());
        holder.batch("ROLLBACK");
    }
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
