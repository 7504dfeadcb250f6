//! The record that the trail was read, and what a login that reads as one tenant sees.

use serde_json::Value;

use crate::fixture::{CliFixture, output_of};
use crate::matrix::{Session, server};

/// The entry with this id is of the tenant acme.
const OF_ACME: &str = "018f3a2e-7b1c-7def-8000-000000000001";
/// The entry with this id is of the tenant globex.
const OF_GLOBEX: &str = "018f3a2e-7b1c-7def-8000-000000000002";

/// The records of readings, the oldest first, read without a record.
fn records(cli: &CliFixture) -> Vec<Value> {
    let (code, out, err) = cli.run(&[
        "list",
        "--no-record",
        "--json",
        "--oldest-first",
        "action:audit.viewed",
    ]);
    assert_eq!(code, 0, "{err}");
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_reading_is_recorded_unless_the_option_forbids_it() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let verbs = [
            &["list", "actor:bob", "meta.password:hush"][..],
            &["show", OF_ACME],
            &["stats", "since:2026-10-01T00:00:00Z"],
        ];
        for verb in verbs {
            assert_eq!(cli.run(&[verb, &["--no-record"]].concat()).0, 0, "{verb:?}");
        }
        assert!(records(&cli).is_empty());
        for verb in verbs {
            let mut command = cli.command(verb);
            assert_eq!(
                output_of(command.env("USER", "carol").output().unwrap()).0,
                0,
                "{verb:?}"
            );
        }
        let found = records(&cli);
        let metadata: Vec<_> = found.iter().map(|row| row["metadata"].to_string()).collect();
        assert_eq!(
            metadata,
            [
                r#"{"query":"actor:bob meta.password:\"[scrubbed: name]\" -action:audit.*","rows":0}"#
                    .to_owned(),
                format!(r#"{{"query":"id:{OF_ACME}","rows":1}}"#),
                r#"{"query":"since:2026-10-01T00:00:00Z -action:audit.*"}"#.to_owned(),
            ]
            .map(|text| serde_json::from_str::<Value>(&text).unwrap().to_string())
        );
        for row in &found {
            let reader = if cli.postgres.is_some() {
                "on_behalf_of"
            } else {
                "actor_id"
            };
            assert_eq!(row[reader], "carol", "{row}");
            assert_eq!(row["resource_type"], "audit_trail");
            assert_eq!(
                (&row["tenant_id"], &row["writer_id"]),
                (&Value::Null, &Value::Null)
            );
        }
        // Other queries do not show them, unless they ask for them.
        let shown = |arguments: &[&str]| {
            let (code, out, err) = cli.run(&[&["list", "--no-record"], arguments].concat());
            assert_eq!(code, 0, "{err}");
            out.lines().skip(1).count()
        };
        assert_eq!(shown(&[]), 4);
        assert_eq!(shown(&["action:audit_*"]), 0);
        assert_eq!(shown(&["--all"]), 4 + 3);
        for asked in [
            "action:audit*",
            "action:audit.*",
            "action:audit.v*",
            "action:audit.viewed",
        ] {
            assert_eq!(shown(&[asked]), 3, "{asked}");
        }
        // The record has how many rows were shown, which is less than there are.
        assert_eq!(cli.run(&["list", "-n", "3"]).0, 0);
        assert_eq!(records(&cli).last().unwrap()["metadata"]["rows"], 3);
    }
}

/// As under cron, and in a container.
#[cfg(unix)]
#[test]
fn a_reader_without_a_name_is_recorded_by_its_number() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let mut command = cli.command(&["list"]);
        for name in ["USER", "LOGNAME", "USERNAME"] {
            command.env(name, "");
        }
        assert_eq!(output_of(command.output().unwrap()).0, 0);
        let reader = match cli.postgres {
            Some(_) => "on_behalf_of",
            None => "actor_id",
        };
        let number = format!("uid:{}", rustix::process::getuid().as_raw());
        assert_eq!(records(&cli)[0][reader], *number);
    }
}

#[test]
fn nothing_is_shown_that_cannot_be_recorded() {
    let cli = CliFixture::on_postgres().with_trail();
    let url = cli.postgres.as_ref().unwrap().url();
    let read_only = format!("{url}?options=-c%20default_transaction_read_only%3Don");
    for verb in [&["list"][..], &["list", "--json"], &["show", OF_ACME], &["stats"]] {
        let (code, out, err) = cli.run(&[&["--database-url", &read_only], verb].concat());
        assert_eq!((code, &*out), (3, ""), "{verb:?}: {err}");
        assert!(
            err.contains("cannot be recorded") && err.contains("--no-record"),
            "{err}"
        );
        let (code, out, err) = cli.run(&[&["--database-url", &read_only], verb, &["--no-record"]].concat());
        assert!(code == 0 && !out.is_empty(), "{verb:?}: {err}");
    }
    cli.execute("DROP FUNCTION audit_record_reading");
    let (code, out, err) = cli.run(&["list"]);
    assert_eq!((code, &*out), (3, ""), "{err}");
    assert!(err.contains("run `auditlog migrate`"), "{err}");
}

#[test]
fn a_login_that_reads_as_one_tenant_sees_its_entries_and_records_them_there() {
    let url = server().migrated().unwrap();
    let cli = CliFixture::new();
    let with = |url: &str, arguments: &[&str]| cli.run(&[&["--database-url", url], arguments].concat());
    let input = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/trail.ndjson")).unwrap();
    let mut write = cli.command(&["--database-url", &url, "write", "-"]);
    assert_eq!(output_of(write.stdin(input).output().unwrap()).0, 0);
    Session::open(&url).batch(
        "DO $$ BEGIN CREATE ROLE tenants_reader LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT audit_reader TO tenants_reader",
    );
    let reader = server().url_as("tenants_reader", "pw", url.rsplit_once('/').unwrap().1);

    // Without a tenant it sees nothing.
    let (code, out, err) = with(&reader, &["list"]);
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    // The database has rows of both tenants, and the login those of the one that it names.
    assert_eq!(with(&url, &["list", "--no-record"]).1.lines().count(), 5);
    let (code, out, err) = with(&reader, &["list", "--tenant", "acme"]);
    assert!(
        code == 0 && out.lines().count() == 3 && !out.contains("globex"),
        "{out}{err}"
    );
    let (_, out, _) = with(&reader, &["list", "--tenant", "acme", "tenant:globex"]);
    assert_eq!(out.lines().count(), 1, "{out}");
    assert_eq!(with(&reader, &["show", "--tenant", "acme", OF_ACME]).0, 0);
    let (code, out, err) = with(&reader, &["show", "--tenant", "acme", OF_GLOBEX]);
    assert_eq!((code, &*out), (1, ""), "{err}");
    let (_, out, _) = with(
        &reader,
        &["stats", "--tenant", "acme", "--by", "tenant", "--by", "actor"],
    );
    assert!(
        out.contains("entries\t\t2") && out.contains("tenant\tacme\t2") && !out.contains("bob"),
        "{out}"
    );

    // It cannot name another actor, and its tenant sees what it read.
    let (_, out, _) = with(
        &reader,
        &[
            "list",
            "--no-record",
            "--json",
            "--tenant",
            "acme",
            "action:audit.viewed",
        ],
    );
    let seen: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(seen.len(), 5, "{out}");
    for row in seen {
        assert_eq!(
            (&row["actor_id"], &row["tenant_id"]),
            (&"tenants_reader".into(), &"acme".into())
        );
    }
    // One that sees every row leaves a record that tenants do not see.
    assert_eq!(with(&url, &["list", "--tenant", "globex"]).0, 0);
    let (_, out, _) = with(
        &reader,
        &[
            "list",
            "--no-record",
            "--tenant",
            "globex",
            "--all",
            "action:audit.viewed",
        ],
    );
    assert_eq!(out.lines().count(), 1, "{out}");
}
