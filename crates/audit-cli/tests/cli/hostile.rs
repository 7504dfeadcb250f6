//! Arguments, files and environments that nobody means to give.

#![cfg(unix)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{CliFixture, output_of};

fn run_os(cli: &CliFixture, arguments: &[&OsStr]) -> (i32, String, String) {
    output_of(cli.command(&[]).args(arguments).output().unwrap())
}

#[test]
fn a_file_name_that_is_no_unicode_is_a_name_like_any_other() {
    let cli = CliFixture::new();
    let odd = OsStr::from_bytes(b"caf\xe9.json");
    let record = r#"{"Records":[{"eventID":"5ec0c7e5-7f9d-4c4c-8b9e-2f7a0e6d8e01",
        "eventTime":"2026-10-10T11:42:18Z","eventSource":"s3.amazonaws.com","eventName":"GetObject"},{}]}"#;
    std::fs::write(cli.dir.path().join(odd), record).unwrap();
    let (code, out, err) = run_os(&cli, &["import".as_ref(), "cloudtrail".as_ref(), odd]);
    assert_eq!(code, 1, "{err}");
    assert!(
        out.starts_with("imported 1 event, 0 already stored, 1 rejected"),
        "{out}"
    );
    assert!(err.contains("caf\u{fffd}.json: record 2"), "{err}");
    let absent = OsStr::from_bytes(b"\xff.ndjson");
    let (code, _, err) = run_os(&cli, &["write".as_ref(), absent]);
    assert!(code == 3 && err.contains("\u{fffd}.ndjson"), "{code} {err}");
    let (code, _, err) = run_os(&cli, &["list".as_ref(), absent]);
    assert!(code == 2 && err.contains("invalid UTF-8"), "{code} {err}");
}

#[test]
fn eight_processes_may_write_to_a_new_file_at_once() {
    for _ in 0..3 {
        let cli = CliFixture::new();
        let start = || cli.spawn(&["write", "--action", "x.y"]);
        let children: Vec<_> = std::iter::repeat_with(start).take(8).collect();
        for child in children {
            let (code, _, err) = output_of(child.wait_with_output().unwrap());
            assert_eq!(code, 0, "{err}");
        }
        assert_eq!(cli.rows().len(), 8);
    }
}

#[test]
fn a_small_file_of_another_program_is_not_changed_by_a_write() {
    let cli = CliFixture::new();
    cli.execute_sqlite("CREATE TABLE theirs (n INTEGER)");
    let before = std::fs::read(cli.dir.path().join("audit.db")).unwrap();
    let (code, _, err) = cli.run(&["write", "--action", "x"]);
    assert!(code == 3 && err.contains("auditlog migrate"), "{code} {err}");
    assert_eq!(std::fs::read(cli.dir.path().join("audit.db")).unwrap(), before);
}

#[test]
fn a_password_in_an_argument_is_never_shown() {
    let cli = CliFixture::new();
    for argument in [
        "--limit=postgres://u:my hush@h/d",
        "--id=POSTGRES://u:my hush@h/d",
        "--bogus=postgres://u:my hush@h/d",
        "postgres://h/d?password=my hush",
        "postgres://h/d?password=a,&hush",
        "postgres://h/d?passwor%64=hush",
        "postgres://u:a\nhush@h/d",
    ] {
        let (code, out, err) = cli.run(&["list", argument]);
        assert_eq!(code, 2, "{err}");
        assert!(
            !out.contains("hush") && !err.contains("hush"),
            "{argument}: {err}"
        );
        let (_, out, err) = cli.run(&["list", "--database-url", argument]);
        assert!(
            !out.contains("hush") && !err.contains("hush"),
            "{argument}: {err}"
        );
    }
    let (_, _, err) = cli.run(&[
        "list",
        "--database-url",
        "postgres://127.0.0.1:1/d?passwor%64=hush",
    ]);
    assert!(err.contains("see the password in --database-url"), "{err}");
}

#[test]
fn the_help_shows_no_value_of_the_environment() {
    let cli = CliFixture::new();
    let mut command = cli.command(&["--color", "always", "spool", "--help"]);
    let output = command
        .env("AUDIT_SPOOL_DIR", "/x\u{1b}]0;t\u{7}\u{202e}")
        .output();
    let (code, out, _) = output_of(output.unwrap());
    assert!(code == 0 && out.contains("AUDIT_SPOOL_DIR"), "{out}");
    assert!(!out.contains("]0;t") && !out.contains('\u{202e}'), "{out:?}");
}

#[test]
fn a_named_pipe_is_refused_and_an_open_one_is_read() {
    let cli = CliFixture::new();
    let pipe = cli.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, _, err) = cli.run(&["import", "cloudtrail", "pipe"]);
    assert!(code == 1 && err.contains("a named pipe"), "{code} {err}");
    for verb in [&["list"][..], &["write", "--action", "x"]] {
        let (code, _, err) = cli.run(&[verb, &["--database-url", "sqlite://pipe"]].concat());
        assert!(code == 2 && err.contains("pipe is not a file"), "{code} {err}");
    }
}

#[test]
fn records_of_a_silent_pipe_are_stored_within_seconds() {
    use std::io::Write;
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let mut command = cli.command(&["import", "cloudtrail", "/dev/stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let record = r#"{"eventID":"5ec0c7e5-7f9d-4c4c-8b9e-2f7a0e6d8e01","eventTime":"2026-10-10T11:42:18Z",
        "eventSource":"s3.amazonaws.com","eventName":"GetObject"}"#;
    write!(input, "{{\"Records\":[{record},").unwrap();
    input.flush().unwrap();
    // The end of the input never comes.
    let begun = std::time::Instant::now();
    while cli.rows().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was stored");
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_array_and_an_empty_action_are_no_entry() {
    let cli = CliFixture::new();
    let columns = format!("[{}]", ["null"; 17].join(",")).replacen(
        "null,null,null,null,null,null,null",
        "null,null,null,null,null,null,\"x\"",
        1,
    );
    let input = format!("{columns}\n{{\"action\":\" \"}}\n{{\"action\":\"x\"}}\n");
    let (code, out, err) = cli.run_with_input(&["write", "-"], input.as_bytes());
    assert_eq!(
        (code, &*out),
        (1, "wrote 1 entry, 0 already stored, 2 lines rejected\n")
    );
    assert!(err.contains("line:1: invalid type: an array"), "{err}");
    assert!(err.contains("line:2: the action is empty"), "{err}");
}

#[test]
fn invalid_holds_are_errors_of_the_arguments() {
    let cli = CliFixture::new();
    for arguments in [
        "hold add --from 2023-08-01 --to 2023-07-01 --reason r",
        "hold add --from 2023-08-01 --to 2023-08-01 --reason r",
        "hold add --everything --reason=",
        "hold add --tenant= --reason r",
        "hold release 1 --reason=",
        "--bogus hold add --reason doctor",
    ] {
        let (code, _, err) = cli.run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(code, 2, "{arguments}: {err}");
    }
    assert_eq!(cli.run(&["--bogus", "doctor"]).0, 3);
}

#[test]
fn a_report_that_cannot_be_written_leaves_no_file() {
    // Not on SQLite, whose own files the limit would concern too.
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let mut shell = Command::new("sh");
    let command = cli.command(&[]);
    shell
        .args([
            "-c",
            "ulimit -f 1 && exec \"$AUDITLOG\" doctor --markdown report.md",
        ])
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("AUDITLOG", env!("CARGO_BIN_EXE_auditlog"))
        .current_dir(&cli.dir);
    let (code, _, err) = output_of(shell.output().unwrap());
    assert!(code == 3 && err.contains("report.md"), "{code} {err}");
    assert!(!cli.dir.path().join("report.md").exists());
}
