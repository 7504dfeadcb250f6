//! `auditlog list`.

use crate::fixture::{CliFixture, output_of};
use crate::trail::assert_snapshot;

#[test]
fn listed_entries_cannot_control_the_terminal() {
    let cli = CliFixture::new();
    assert_eq!(
        cli.run(&["write", "--action", "\x1b[2J\tx", "--actor", "a\nb"]).0,
        0
    );
    let (_, out, _) = cli.run(&["list"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(!out.contains('\x1b'), "{out}");
}

/// Other clients of SQLite may write JSON with tabs, and bytes that are no text.
#[test]
fn rows_of_other_clients_are_lines_of_json_and_are_counted() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute_sqlite(
        "INSERT INTO audit_logs (action, ip_address, actor_id, metadata) VALUES \
         ('a', '10.0.0.0/8', CAST(x'ff41' AS TEXT), '{' || char(9) || '\"a\":' || char(13) || char(10, 9) || '1}')",
    );
    let rows = cli.rows();
    assert_eq!(rows[0]["metadata"], serde_json::json!({"a": 1}));
    assert_eq!(rows[0]["actor_id"], "\u{fffd}A");
    let (_, out, _) = cli.run(&["list", "--no-record"]);
    assert!(out.contains("\t10.0.0.0/8\t"), "{out}");
    let (code, out, err) = cli.run(&["stats", "--by", "actor"]);
    assert!(code == 0 && out.ends_with("actor\t\u{fffd}A\t1\n"), "{out}{err}");
}

/// Only the owner may read the list of migrations; `list` and `verify` work without it.
#[test]
fn a_login_that_may_only_read_can_list_and_verify() {
    let server = db_test::Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let owner = server.migrated().unwrap();
    let sql = "CREATE ROLE alice LOGIN PASSWORD 'pw' IN ROLE audit_auditor; \
         INSERT INTO audit_logs (action) VALUES ('seen.by_alice')";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
        AsyncPgConnection::establish(&owner)
            .await
            .unwrap()
            .batch_execute(sql)
            .await
            .unwrap();
    });
    let alice = server.url_as("alice", "pw", owner.rsplit_once('/').unwrap().1);
    let cli = CliFixture::new();
    let (code, out, err) = cli.run(&["--database-url", &alice, "list", "--json"]);
    assert_eq!((code, out.contains("seen.by_alice")), (0, true), "{err}");
    let (code, _, err) = cli.run(&["--database-url", &alice, "verify", "writers"]);
    assert_eq!(code, 0, "{err}");
    // Where no list of migrations exists, every user gets the hint.
    for empty in [server.url("postgres"), server.url_as("alice", "pw", "postgres")] {
        let (code, _, err) = cli.run(&["--database-url", &empty, "list"]);
        assert!(code == 3 && err.contains("auditlog migrate"), "{err}");
    }
}

/// Line by line the ids of the entries, as the last digit of each.
fn found(cli: &CliFixture, arguments: &[&str]) -> String {
    let (code, out, err) = cli.run(&[&["list"], arguments].concat());
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out.lines()
        .skip(1)
        .filter_map(|line| line.chars().last())
        .collect()
}

#[test]
fn a_query_is_words_and_options_on_both_databases() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        for (arguments, expected) in [
            (&[][..], "4321"),
            (&["actor:bob"], "2"),
            (&["--actor", "bob"], "2"),
            (&["-outcome:success"], "42"),
            (&["-outcome:success", "--no-pager", "action:auth.*"], "2"),
            (&["--action", "auth.*", "--outcome", "denied"], "2"),
            (&["free text"], "3"),
            (&["-free text", "-n", "2"], "42"),
            (&["text", "free", "--tenant", "acme"], "3"),
            (&["actor:\"東京の利用者\""], "4"),
            (&["--oldest-first"], "1234"),
            (&["--", "-tenant:acme"], "42"),
            (&["--actor=-bob"], ""),
            (&["--since", "2026-10-25 22:30", "--time-zone", "UTC"], "43"),
            (
                &[
                    "--since",
                    "2026-10-25",
                    "--until",
                    "2026-10-26",
                    "--time-zone",
                    "UTC",
                ],
                "43",
            ),
            // From midnight to midnight these are 25 hours.
            (
                &[
                    "--since",
                    "2026-10-25",
                    "--until",
                    "2026-10-26",
                    "--time-zone",
                    "Europe/Berlin",
                ],
                "32",
            ),
            (&["since:2026-10-25T22:30", "--time-zone", "UTC"], "43"),
            (&["until:2026-10-25T00:00:00+02:00"], "1"),
        ] {
            let expected = if arguments.contains(&"--json") {
                ""
            } else {
                expected
            };
            assert_eq!(found(&cli, arguments), expected, "{arguments:?}");
        }
        let mut command = cli.command(&["list", "-n", "4"]);
        let (code, out, err) = output_of(command.env("TZ", "Mars/Olympus").output().unwrap());
        assert_eq!((code, out.lines().count()), (0, 5), "{err}");
        assert!(err.contains("TZ is Mars/Olympus, which is no time zone"), "{err}");
        let terms = vec!["x"; 199];
        let (code, _, err) = cli.run(&[&["list", "--tenant", "acme", "--actor", "a"], &terms[..]].concat());
        assert!(
            code == 2 && err.contains("a filter has at most 200 conditions"),
            "{err}"
        );
        let mut command = cli.command(&["list", "since:2026-10-26"]);
        let (_, out, _) = output_of(command.env("TZ", "Europe/Berlin").output().unwrap());
        assert_eq!(out.lines().count(), 2, "{out}");
    }
}

#[test]
fn pages_continue_in_both_directions() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let next = |arguments: &[&str]| {
            let (code, out, err) = cli.run(&[&["list", "-n", "3"], arguments].concat());
            assert_eq!(code, 0, "{err}");
            let ids: String = out
                .lines()
                .skip(1)
                .filter_map(|line| line.chars().last())
                .collect();
            (ids, err)
        };
        let (ids, note) = next(&[]);
        assert_eq!(ids, "432");
        let cursor = note.trim().strip_prefix("more entries: --before ").unwrap();
        assert_eq!(next(&["--before", cursor]), ("1".to_owned(), String::new()));
        assert_eq!(next(&["--after", cursor]).0, "34");
        let (ids, note) = next(&["--oldest-first"]);
        assert_eq!(ids, "123");
        let cursor = note.trim().strip_prefix("more entries: --after ").unwrap();
        assert_eq!(next(&["--after", cursor]), ("4".to_owned(), String::new()));
        let (code, _, err) = cli.run(&["list", "actor:bob", "--before", cursor]);
        assert!(code == 2 && err.contains("belongs to another filter"), "{err}");
        let (code, _, err) = cli.run(&["list", "--before", "abc"]);
        assert!(code == 2 && err.contains("the cursor is damaged"), "{err}");
    }
}

#[test]
fn errors_of_a_query_point_at_the_place() {
    let cli = CliFixture::new().with_trail();
    let (code, out, err) = cli.run(&["list", "actor:alice", "ip:10.0.0.256"]);
    assert_eq!((code, &*out), (2, ""));
    assert_snapshot("list-error.txt", &err);
    for (arguments, expected) in [
        (
            &["list", "--since", "yesterdy"][..],
            "--since yesterdy: is not a time: ",
        ),
        (&["list", "a", "OR", "b"], "\na OR b\n  ^^\n"),
        (
            &["list", "actor:東京", "ip:x"],
            "\nactor:東京 ip:x\n              ^\n",
        ),
        // It could be meant as the value or as a term.
        (
            &["list", "--actor", "-bob", "alice"],
            "--actor needs a value, and -bob may be that",
        ),
        (&["list", "--nonsense"], "unexpected argument '--nonsense'"),
        (
            &["list", "--time-zone", "Mars/Olympus"],
            "expected local, UTC, or a name",
        ),
        (&["list", "actor"], ""),
    ] {
        let (code, _, err) = cli.run(arguments);
        assert_eq!(code == 2, !expected.is_empty(), "{arguments:?}: {err}");
        assert!(format!("\n{err}").contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn plain_lines_and_json_are_stable() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let in_zone = |arguments: &[&str]| {
            let mut command = cli.command(arguments);
            let (code, out, err) = output_of(command.env("TZ", "Asia/Tokyo").output().unwrap());
            assert_eq!((code, &*err), (0, ""));
            out
        };
        assert_snapshot("list-plain.txt", &in_zone(&["list"]));
        let json = in_zone(&["list", "--json", "actor:bob"]);
        let row: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
        assert_eq!(row["created_at"], "2026-10-24T22:00:00Z");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_a_table_that_fits() {
    use crate::terminal::run_on_terminal;
    let cli = CliFixture::new().with_trail();
    for columns in [80, 160] {
        let (code, shown) = run_on_terminal(&cli, columns, &["list", "--time-zone", "Europe/Berlin"]);
        assert_eq!(code, 0, "{shown}");
        assert_snapshot(&format!("list-{columns}.txt"), &shown);
    }
    // Its summer and winter differ, so no offset is right for each row.
    let mut command = cli.command(&["list", "--no-pager"]);
    let (_, shown) = crate::terminal::on_terminal(command.env("TZ", "EST5EDT,M3.2.0,M11.1.0"), 80);
    assert!(shown.contains("time (local)"), "{shown}");
    let (_, shown) = run_on_terminal(&cli, 80, &["list", "--ids"]);
    assert!(shown.contains("018f3a2e-7b1c-7def-8000-000000000004"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_a_pager_unless_the_option_forbids_it() {
    use crate::terminal::on_terminal;
    let cli = CliFixture::new().with_trail();
    let shown = |pager: &str, arguments: &[&str]| {
        let (code, shown) = on_terminal(cli.command(arguments).env("PAGER", pager), 160);
        assert_eq!(code, 0, "{shown}");
        shown
    };
    assert_eq!(shown("head -n 1", &["list"]).lines().count(), 1);
    assert_eq!(shown("head -n 1", &["list", "--no-pager"]).lines().count(), 6);
    for missing in ["", "cat", "/no/such/pager"] {
        assert_eq!(shown(missing, &["list"]).lines().count(), 6, "{missing}");
    }
    // It reads nothing, and the command ends without an error.
    assert_eq!(shown("true", &["list"]), "");
}

#[test]
fn no_option_is_a_piece_of_sql() {
    let injections = [
        "'",
        "'; DROP TABLE audit_logs; --",
        "\" OR 1=1 --",
        "\\",
        "%' OR '1'='1",
        "\0x",
        "$1",
        "?",
    ];
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        for injection in injections.into_iter().filter(|text| !text.contains('\0')) {
            for option in ["--tenant", "--actor", "--action", "--outcome"] {
                let arguments = format!("{option}={injection}");
                let expected = "";
                assert_eq!(found(&cli, &[&arguments]), expected, "{arguments}");
            }
            for option in [
                "--since",
                "--until",
                "--time-zone",
                "--before",
                "--after",
                "--limit",
            ] {
                let (code, _, err) = cli.run(&["list", &format!("{option}={injection}")]);
                assert_eq!(code, 2, "{option}={injection}: {err}");
            }
            let term = format!(
                "resource_id:\"{}\"",
                injection.replace('\\', "\\\\").replace('"', "\\\"")
            );
            let expected = if injection.contains("DROP") { "4" } else { "" };
            assert_eq!(found(&cli, &[&term]), expected, "{term}");
        }
        assert_eq!(found(&cli, &[]), "4321");
    }
}
