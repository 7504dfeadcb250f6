//! What surrounds the command: variables, limits of the process, and the streams that it starts with.

use std::process::Stdio;

use crate::fixture::{CliFixture, output_of};
use crate::output::{closed_pipe, full_disk};

#[test]
fn an_unreadable_log_filter_is_reported_and_changes_no_verdict() {
    let cli = CliFixture::with_missing_entries();
    let with_filter = |filter: &str, stderr: Stdio| {
        let mut command = cli.command(&["verify", "writers"]);
        output_of(command.env("RUST_LOG", filter).stderr(stderr).output().unwrap())
    };
    let (code, _, err) = with_filter("warn", Stdio::piped());
    assert!(code == 1 && !err.contains("RUST_LOG"), "{err}");
    let unreadable = "audit=\u{1b}[2J,audit=info=warn";
    let (code, _, err) = with_filter(unreadable, Stdio::piped());
    assert!(
        code == 1 && err.contains("warning: RUST_LOG is ignored: "),
        "{err}"
    );
    assert!(!err.contains('\u{1b}'), "{err:?}");
    for stderr in [Stdio::from(full_disk()), Stdio::from(closed_pipe())] {
        assert_eq!(with_filter(unreadable, stderr).0, 1);
    }
}

/// A write beyond the limit of a file's size raises SIGXFSZ, which ends a process that does not handle it.
#[cfg(unix)]
#[test]
fn a_limit_of_the_size_of_files_is_an_error_like_a_full_disk() {
    use std::process::Command;
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let limited = |blocks: &str, arguments: &str| {
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                &format!("ulimit -f {blocks} && exec \"$AUDITLOG\" {arguments}"),
            ])
            .env("AUDITLOG", env!("CARGO_BIN_EXE_auditlog"))
            .current_dir(&cli.dir);
        let (code, _, err) = output_of(shell.output().unwrap());
        (code, err)
    };
    assert_eq!(limited("unlimited", "write --action y"), (0, String::new()));
    let (code, err) = limited("1", "write --action z");
    assert!(code == 3 && err.contains("disk I/O error"), "{code} {err}");
    // The database fits the limit, a longer list.txt does not.
    assert_eq!(limited("200", "list >> list.txt"), (0, String::new()));
    let list = cli.dir.path().join("list.txt");
    std::fs::write(list, vec![b'.'; 1 << 20]).unwrap();
    let (code, err) = limited("200", "list >> list.txt");
    assert!(
        code == 3 && err.contains("standard output is incomplete: File too large"),
        "{code} {err}"
    );
    assert_eq!(cli.rows().len(), 2);
}

#[cfg(unix)]
#[test]
fn a_closed_standard_input_is_no_empty_file() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let write = |redirection: &str| {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &format!("exec \"$AUDITLOG\" write - {redirection}")])
            .env("AUDITLOG", env!("CARGO_BIN_EXE_auditlog"))
            .current_dir(&cli.dir);
        output_of(shell.output().unwrap())
    };
    for empty in ["< /dev/null", "< empty"] {
        std::fs::write(cli.dir.path().join("empty"), "").unwrap();
        let (code, out, err) = write(empty);
        assert!(code == 0 && out.starts_with("wrote 0 entries"), "{empty}: {err}");
    }
    let (code, out, err) = write("<&-");
    assert_eq!((code, &*out), (3, ""));
    assert!(err.contains("standard input is closed"), "{err}");
}
