//! What the command prints, where, and that its exit code is true whatever happens to its output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fixture::{CliFixture, output_of};

/// The longest that a command may take on a machine under load.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A device on which every write fails as on a full disk.
pub(crate) fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// The writing end of a pipe that nobody reads.
pub(crate) fn closed_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

/// The exit code and standard error of a command with this standard output.
fn run_to(cli: &CliFixture, arguments: &[&str], stdout: impl Into<Stdio>) -> (i32, String) {
    let mut command = cli.command(arguments);
    let (code, _, err) = output_of(command.stdout(stdout).output().unwrap());
    (code, err)
}

#[test]
fn a_verdict_survives_a_reader_that_goes_away_and_no_full_disk_hides_it() {
    let incomplete = CliFixture::with_missing_entries();
    let fine = CliFixture::new();
    assert_eq!(fine.run(&["write", "--action", "x"]).0, 0);
    for (cli, arguments) in [
        (&incomplete, &["verify", "writers"][..]),
        (&incomplete, &["verify", "writers", "--json"]),
        (&incomplete, &["doctor"]),
        (&incomplete, &["list"]),
        (&fine, &["verify", "writers"]),
        (&fine, &["doctor", "--json"]),
        (&fine, &["list", "--json"]),
        (&fine, &["migrate", "--status"]),
        (&fine, &["write", "--action", "y"]),
        (&fine, &["--help"]),
    ] {
        let (verdict, out, _) = cli.run(arguments);
        if arguments != ["verify", "writers", "--json"] {
            assert!(!out.is_empty(), "{arguments:?} prints something");
        }
        assert_eq!(
            run_to(cli, arguments, closed_pipe()).0,
            verdict,
            "{arguments:?} | true"
        );
        let (code, err) = run_to(cli, arguments, full_disk());
        assert_eq!(code, 3, "{arguments:?} > /dev/full: {err}");
        assert!(
            err.contains("standard output is incomplete: No space left"),
            "{err}"
        );
    }
    assert_eq!(incomplete.run(&["verify", "writers"]).0, 1);
}

#[test]
fn a_verdict_survives_a_standard_error_that_cannot_be_written() {
    let cli = CliFixture::with_missing_entries();
    for arguments in [
        &["verify", "writers"][..],
        &["write", "absent.ndjson"],
        &["list", "--nonsense"],
    ] {
        let (verdict, _, err) = cli.run(arguments);
        assert!(verdict > 0 && !err.is_empty(), "{arguments:?}");
        for stderr in [Stdio::from(full_disk()), Stdio::from(closed_pipe())] {
            let mut command = cli.command(arguments);
            assert_eq!(
                output_of(command.stderr(stderr).output().unwrap()).0,
                verdict,
                "{arguments:?}"
            );
        }
    }
}

#[test]
fn no_password_and_no_control_character_is_echoed() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    for arguments in [
        &["list", "postgres://u:hush@db.example/d"][..],
        &["list", "postgres://u:my hush@db.example/d"],
        &["list", "postgres:/u:hush@db.example/d"],
        &["write", "postgres://u:my hush@db.example/d"],
        &["write", "postgres://u:hu@hush@db.example/d"],
        &["import", "cloudtrail", "postgres://db.example/d?password=hush"],
        &["doctor", "--markdown", "postgres://u:hush@db.example/report.md"],
        &["spool", "--dir", "sqlite://u:hush@x", "status"],
        &["write", "\x1b[2Jabsent\u{202E}"],
        &["list", "\x1b[2J\u{9b}:x"],
    ] {
        let (code, out, err) = cli.run(arguments);
        assert!(code > 0 && !err.is_empty(), "{arguments:?}");
        let said = out + &err;
        assert!(!said.contains("hush"), "{arguments:?}: {said}");
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202E}';
        assert!(!said.contains(harmful), "{arguments:?}: {said:?}");
    }
    let url = "postgres://u:hush@127.0.0.1:1/d";
    let (code, _, err) = cli.run(&["--database-url", url, "list"]);
    assert!(
        code == 3 && err.contains("list of processes") && !err.contains("hush"),
        "{err}"
    );
}

#[test]
fn text_from_the_input_does_not_look_like_a_line_of_the_command() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let forged = b"{\"action\":\"a\",\"x\\nauditlog: forged\":1}\n{\"action\":\"a\",\"outcome\":\"x\\nauditlog: forged\"}\n";
    let (code, out, err) = cli.run_with_input(&["write", "-"], forged);
    assert_eq!(
        (code, &*out),
        (1, "wrote 0 entries, 0 already stored, 2 lines rejected\n")
    );
    assert!(err.contains("forged"), "{err}");
    assert!(err.lines().all(|line| line.starts_with("line:")), "{err}");
    let (_, _, err) = cli.run(&["write", "absent\nauditlog: forged"]);
    assert!(err.contains("forged") && err.lines().count() == 1, "{err}");
}

#[test]
fn the_verdict_of_doctor_is_not_that_of_invalid_arguments() {
    let cli = CliFixture::new();
    for arguments in [
        &["doctor", "--nonsense"][..],
        &["--json", "doctor"],
        &["--databse-url", "x", "doctor"],
    ] {
        assert_eq!(cli.run(arguments).0, 3, "{arguments:?}");
    }
    assert_eq!(cli.run(&["--nonsense", "list"]).0, 2);
}

#[test]
fn json_has_no_character_that_controls_a_terminal() {
    let cli = CliFixture::new();
    let hostile = "a\u{9b}31m\u{202E}\x7f";
    assert_eq!(cli.run(&["write", "--action", "x", "--actor", hostile]).0, 0);
    let (_, out, _) = cli.run(&["list", "--json"]);
    assert!(out.contains("\\u009b31m\\u202e\\u007f"), "{out}");
    let row: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(row["actor_id"], hostile);
}

#[test]
fn colours_follow_the_option_and_the_environment() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let has_color = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = cli.command(arguments);
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        let (code, out, err) = output_of(command.envs(environment.iter().copied()).output().unwrap());
        assert_eq!(code, 0, "{err}");
        out.contains("\x1b[32m")
    };
    assert!(!has_color(&["list"], &[]));
    assert!(has_color(&["list", "--color", "always"], &[]));
    assert!(has_color(&["--color=always", "list"], &[("NO_COLOR", "1")]));
    assert!(has_color(&["list"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!has_color(&["list", "--color=never"], &[("CLICOLOR_FORCE", "1")]));
    assert!(has_color(&["list", "--help"], &[("CLICOLOR_FORCE", "1")]));
    assert_eq!(cli.run(&["list", "--color=sometimes"]).0, 2);
}

#[test]
fn a_trail_without_writers_says_so() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let (code, _, err) = cli.run(&["verify", "writers"]);
    assert!(
        code == 0 && err.contains("no writer has written to this trail"),
        "{err}"
    );
}

#[test]
fn a_report_is_a_new_file_that_only_its_user_may_read() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let (verdict, ..) = cli.run(&["doctor"]);
    let report = cli.dir.path().join("report.md");
    assert_eq!(cli.run(&["doctor", "--markdown", "report.md"]).0, verdict);
    assert!(std::fs::read_to_string(&report).unwrap().contains("# "));
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        assert_eq!(report.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(cli.dir.path().join("victim"), "untouched").unwrap();
        symlink("victim", cli.dir.path().join("link.md")).unwrap();
        assert_eq!(cli.run(&["doctor", "--markdown", "link.md"]).0, 3);
        assert_eq!(
            std::fs::read_to_string(cli.dir.path().join("victim")).unwrap(),
            "untouched"
        );
    }
    let (code, _, err) = cli.run(&["doctor", "--markdown", "report.md"]);
    assert!(code == 3 && err.contains("report.md"), "{err}");
}

#[test]
fn lines_of_a_stream_are_written_while_it_is_silent() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let mut child = cli.spawn(&["write", "-"]);
        let mut input = child.stdin.take().unwrap();
        for action in ["first", "second"] {
            writeln!(input, "{{\"action\":\"{action}\"}}").unwrap();
            let begun = Instant::now();
            while !cli.rows().iter().any(|row| row["action"] == action) {
                assert!(begun.elapsed() < TIMEOUT, "{action} was not written");
            }
        }
        drop(input);
        assert_eq!(output_of(child.wait_with_output().unwrap()).0, 0);
    }
}

#[test]
fn entries_are_counted_as_stored_though_the_connection_was_lost() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let line =
        br#"{"action":"x","id":"00000000-0000-0000-0000-000000000001","created_at":"2026-11-01T12:00:00Z"}"#;
    let mut child = cli.spawn(&["write", "-"]);
    let mut input = child.stdin.take().unwrap();
    let mut write = || input.write_all(&[line, &b"\n"[..]].concat()).unwrap();
    write();
    let begun = Instant::now();
    while cli.rows().is_empty() {
        assert!(begun.elapsed() < TIMEOUT, "the entry was not written");
    }
    cli.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    write();
    drop(input);
    let (code, out, err) = output_of(child.wait_with_output().unwrap());
    assert_eq!(
        (code, &*out),
        (0, "wrote 1 entry, 1 already stored, 0 lines rejected\n"),
        "{err}"
    );
}

#[test]
fn a_fault_of_the_database_is_not_blamed_on_a_line() {
    let lines = b"{\"action\":\"a\"}\n{\"action\":\"b\"}\n";
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    assert_eq!(cli.run_with_input(&["write", "-"], lines).0, 0, "both are good");
    for (breaks, fixes, message) in [
        (
            "ALTER TABLE audit_logs RENAME COLUMN trace_id TO hidden",
            "ALTER TABLE audit_logs RENAME COLUMN hidden TO trace_id",
            "trace_id",
        ),
        (
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
            "BEGIN READ WRITE; DO $$ BEGIN EXECUTE \
             format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$; COMMIT",
            "read-only transaction",
        ),
    ] {
        cli.execute(breaks);
        let (code, out, err) = cli.run_with_input(&["write", "-"], lines);
        assert_eq!((code, &*out), (3, ""), "{err}");
        assert!(err.contains(message) && !err.contains("line:"), "{err}");
        assert!(
            err.contains("0 lines rejected; the remaining lines were not processed"),
            "{err}"
        );
        cli.execute(fixes);
    }
    assert_eq!(cli.run_with_input(&["write", "-"], lines).0, 0);
    assert_eq!(cli.rows().len(), 4);
}
