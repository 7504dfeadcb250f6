//! `auditlog migrate`, and databases that are not migrated.

use crate::fixture::CliFixture;

#[test]
fn a_first_entry_needs_no_preparation() {
    let cli = CliFixture::new();
    let (code, _, err) = cli.run(&["list"]);
    assert_eq!(code, 3);
    assert!(
        err.contains("audit.db does not exist") && err.contains("auditlog migrate"),
        "{err}"
    );
    for arguments in [&["migrate", "--status"][..], &["migrate", "--revert"]] {
        assert_eq!(cli.run(arguments).0, 3);
    }
    assert_eq!(
        std::fs::read_dir(&cli.dir).unwrap().count(),
        0,
        "reading creates no file"
    );

    let (code, out, err) = cli.run(&[
        "write",
        "--action",
        "auth.login",
        "--actor",
        "alice",
        "--ip",
        "::1",
    ]);
    assert!(
        code == 0 && out.starts_with("wrote ") && err.contains("created sqlite://audit.db"),
        "{out}{err}"
    );
    let (code, out, _) = cli.run(&["list"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines.len()), (0, 2));
    assert!(
        lines[1].contains("\tsuccess\tauth.login\talice\t\t\t::1"),
        "{out}"
    );
}

#[test]
fn an_unmigrated_database_is_an_error_with_a_hint() {
    let cli = CliFixture::on_postgres();
    for arguments in [&["list"][..], &["write", "--action", "x"]] {
        let (code, _, err) = cli.run(arguments);
        assert_eq!(code, 3);
        assert!(err.contains("run `auditlog migrate`"), "{err}");
    }
}

#[test]
fn migrations_are_applied_reverted_and_applied_again() {
    for cli in CliFixture::on_both() {
        let (code, out, _) = cli.run(&["migrate"]);
        assert!(code == 0 && out.contains("applied 20"), "{out}");
        let (code, out, _) = cli.run(&["migrate"]);
        assert!(code == 0 && out.contains("up to date"), "{out}");
        let (_, before, _) = cli.run(&["migrate", "--status"]);
        assert!(
            before.contains("applied\t2026") && !before.contains("pending"),
            "{before}"
        );

        let (code, out, err) = cli.run(&["migrate", "--revert"]);
        assert!(code == 0 && out.contains("reverted 20"), "{out}{err}");
        assert!(cli.run(&["migrate", "--status"]).1.contains("pending\t2026"));
        assert_eq!(cli.run(&["migrate"]).0, 0);

        assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
        let (code, _, err) = cli.run(&["migrate", "--revert"]);
        assert!(
            code == 3 && err.contains("there are 1 entry, 0 active holds") && err.contains("--force"),
            "{err}"
        );
        assert_eq!(cli.rows().len(), 1);
        assert_eq!(cli.run(&["migrate", "--revert", "--force"]).0, 0);
    }
}
