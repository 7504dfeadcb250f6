//! `auditlog show`.

use crate::fixture::CliFixture;
use crate::trail::assert_snapshot;

/// The entry with changes and nested metadata.
const RICH: &str = "018f3a2e-7b1c-7def-8000-000000000003";

/// What differs from one run to the other.
fn without_times(out: &str) -> String {
    let is_stable = |line: &&str| !line.starts_with("recorded_at") && !line.starts_with("tx_id");
    out.lines()
        .filter(is_stable)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn an_entry_is_shown_with_all_that_it_has_on_both_databases() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let (code, out, err) = cli.run(&["show", RICH]);
        assert_eq!((code, &*err), (0, ""));
        assert_snapshot("show-plain.txt", &without_times(&out));
        let (code, out, _) = cli.run(&["show", "--json", RICH]);
        let row: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &row["metadata"]["changes"][0]["to"]), (0, &4.into()));
        assert!(row.get("user_agent").is_some(), "{out}");
    }
}

/// Both databases hold numbers exactly.
#[test]
fn numbers_of_the_metadata_are_shown_with_all_their_digits() {
    let metadata = r#"{"n":123456789012345678901234567890,"list":[1.10,1E400],"text":"\u00e9\u202e",
        "changes":[{"path":"/a","from":9007199254740993.0,"to":{"b":[0.1234567890123456789012,{"c":"x\ty"}]}}]}"#;
    let id = "018f3a2e-7b1c-7def-8000-0000000000aa";
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let insert =
            |id| format!("INSERT INTO audit_logs (id, action, metadata) VALUES ({id}, 'a', '{metadata}')");
        match cli.postgres {
            Some(_) => cli.execute(&insert(format!("'{id}'"))),
            None => cli.execute_sqlite(&insert(format!("x'{}'", id.replace('-', "")))),
        }
        let (code, out, err) = cli.run(&["show", id]);
        assert_eq!((code, &*err), (0, ""));
        let large = if cli.postgres.is_some() {
            format!("1{}", "0".repeat(400))
        } else {
            "1E400".to_owned()
        };
        let expected = format!(
            "changes\n  /a\n  - 9007199254740993.0\n  + {{\"b\":[0.1234567890123456789012,{{\"c\":\"x\\ty\"}}]}}\n\n\
             metadata\n  list: [1.10,{large}]\n  n: 123456789012345678901234567890\n  text: \"é\\u202e\"\n"
        );
        assert!(out.ends_with(&expected), "{out}\n{expected}");
    }
}

#[test]
fn an_id_that_is_not_there_is_an_exit_code_of_its_own() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let absent = "018f3a2e-7b1c-7def-8000-00000000000f";
        let (code, out, err) = cli.run(&["show", absent]);
        assert_eq!((code, &*out), (1, ""), "{err}");
        assert!(
            err.contains("no entry that this login may read has the id"),
            "{err}"
        );
        let (code, _, err) = cli.run(&["show", "--tenant", "globex", RICH]);
        assert!(
            code == 1 && err.contains("no entry of the tenant globex has the id"),
            "{err}"
        );
        assert_eq!(cli.run(&["show", "--tenant", "acme", RICH]).0, 0);
        for invalid in ["", "1", "'; DROP TABLE audit_logs; --"] {
            assert_eq!(cli.run(&["show", invalid]).0, 2, "{invalid}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_an_entry_in_the_zone_and_with_colours() {
    use crate::terminal::{on_terminal, run_on_terminal};
    let cli = CliFixture::new().with_trail();
    let (code, shown) = run_on_terminal(&cli, 80, &["show", "--time-zone", "Europe/Berlin", RICH]);
    assert_eq!(code, 0, "{shown}");
    assert_snapshot("show-terminal.txt", &without_times(&shown));
    let (_, colored) = on_terminal(cli.command(&["show", "--no-pager", RICH]).env("PAGER", "cat"), 80);
    assert!(
        colored.contains("\x1b[31m  - 3\x1b[0m\n\x1b[32m  + 4\x1b[0m\n"),
        "{colored:?}"
    );
    assert!(!colored.contains("\x1b[2J"), "{colored:?}");
}

#[test]
fn related_commands_find_the_entry_again() {
    let cli = CliFixture::new().with_trail();
    let (_, out, _) = cli.run(&["show", RICH]);
    let commands: Vec<_> = out
        .lines()
        .filter_map(|line| line.strip_prefix("  auditlog "))
        .collect();
    assert_eq!(commands.len(), 5, "{out}");
    for command in commands {
        let mut shell = std::process::Command::new("sh");
        let directory = cli.dir.path();
        shell
            .args(["-c", &format!("exec \"$AUDITLOG\" {command}")])
            .current_dir(directory);
        for name in ["AUDIT_DATABASE_URL", "DATABASE_URL"] {
            shell.env_remove(name);
        }
        let found = shell
            .env("AUDITLOG", env!("CARGO_BIN_EXE_auditlog"))
            .output()
            .unwrap();
        assert!(
            String::from_utf8(found.stdout).unwrap().contains(RICH),
            "{command}"
        );
    }
}
