//! `auditlog actions`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fixture::CliFixture;

db_services::actions! {
    /// As an application declares them.
    const OWN = {
        SKILL_EXPORT = ("skill.export", Data, Read, Informational, "Skills were exported.");
        SKILL_DELETE = ("skill.delete", Data, Delete, High, "A skill was deleted for good.");
        SKILL_ARCHIVE = ("skill.archive", Data, Update, Low, "A skill was archived.");
    };
}

/// Each action of the output of `--json`.
fn by_name(out: &str) -> BTreeMap<String, Value> {
    let actions = out.lines().map(|line| serde_json::from_str(line).unwrap());
    actions
        .map(|action: Value| (action["name"].as_str().unwrap().to_owned(), action))
        .collect()
}

fn write(cli: &CliFixture, action: &str, at: &str) {
    let (code, _, err) = cli.run(&["write", "--action", action, "--created-at", at]);
    assert_eq!(code, 0, "{err}");
}

/// A trail with declared and undeclared actions, and a record of a writer.
fn with_entries(cli: &CliFixture) {
    assert_eq!(cli.run(&["migrate"]).0, 0);
    if cli.postgres.is_some() {
        cli.execute("SELECT audit_logs_ensure_partitions('2025-01-01', '2025-12-31')");
    }
    for (action, at) in [
        ("auth.login", "2025-06-01T10:00:00Z"),
        ("auth.login", "2025-06-03T10:00:00Z"),
        ("skill.export", "2025-06-02T10:00:00Z"),
        ("skil.delete", "2025-06-02T10:00:00Z"),
        ("skill.archive", "2025-01-02T10:00:00Z"),
    ] {
        write(cli, action, at);
    }
    let record = "INSERT INTO audit_logs (action) VALUES ('audit.writer_started')";
    match &cli.postgres {
        Some(_) => cli.execute(record),
        None => cli.execute_sqlite(record),
    }
    let registry = serde_json::to_string(OWN).unwrap();
    std::fs::write(cli.dir.path().join("own.json"), registry).unwrap();
}

#[test]
fn declared_and_used_actions_are_compared() {
    for cli in CliFixture::on_both() {
        with_entries(&cli);
        let compare = "actions --used --since 2025-05 --declared own.json --json";
        let (code, out, err) = cli.run(&compare.split(' ').collect::<Vec<_>>());
        assert_eq!(code, 1, "an action is not declared: {err}");
        let actions = by_name(&out);
        let uses: Vec<_> = actions
            .values()
            .map(|action| {
                (
                    action["name"].as_str().unwrap(),
                    action["use"].as_str().unwrap(),
                    action["entries"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            uses,
            [
                ("auth.login", "used", 2),
                ("skil.delete", "undeclared", 1),
                ("skill.archive", "never_used", 0),
                ("skill.delete", "never_used", 0),
                ("skill.export", "used", 1),
            ]
        );
        let login = &actions["auth.login"];
        assert_eq!(
            (&login["first"], &login["last"], &login["category"]),
            (
                &"2025-06-01T10:00:00Z".into(),
                &"2025-06-03T10:00:00Z".into(),
                &"authentication".into()
            )
        );
        assert_eq!(actions["skill.delete"]["severity"], "high", "the file's");
        assert!(actions["skil.delete"]["meaning"].is_null());
    }
}

#[test]
fn actions_that_are_all_declared_end_with_0() {
    let cli = CliFixture::new();
    with_entries(&cli);
    let registry = serde_json::to_string(OWN)
        .unwrap()
        .replace("skill.delete", "skil.delete");
    let compare = "actions --used --since 2025-01 --declared -";
    let (code, out, err) = cli.run_with_input(&compare.split(' ').collect::<Vec<_>>(), registry.as_bytes());
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("entries since 2025-01-01T00:00:00Z"), "{err}");
    assert!(!err.contains("not declared"), "{err}");
}

#[test]
fn each_group_is_a_block_of_the_lines() {
    let cli = CliFixture::new();
    with_entries(&cli);
    let (code, out, err) = cli.run(&["actions", "--used", "--since", "2025-01"]);
    assert_eq!(code, 1);
    assert!(err.contains("3 actions are not declared"), "{err}");
    let uses: Vec<_> = out
        .lines()
        .skip(1)
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert!(uses.is_sorted_by_key(|name| {
        ["used", "never used", "undeclared"]
            .iter()
            .position(|group| group == name)
    }));
    // Without a file, the built-in ones are those that may be unused.
    assert!(
        out.contains("never used\tauth.logout\t0\t\t\tSomebody signed out."),
        "{out}"
    );
}

#[test]
fn entries_before_the_time_do_not_count_and_the_default_is_a_month() {
    for cli in CliFixture::on_both() {
        with_entries(&cli);
        let (code, out, err) = cli.run(&["actions", "--used", "--json"]);
        assert_eq!(code, 0, "{err}");
        assert!(by_name(&out).values().all(|action| action["use"] == "never_used"));
        let now = chrono::Utc::now().to_rfc3339();
        write(&cli, "auth.login", &now);
        let (_, out, _) = cli.run(&["actions", "--used", "--json"]);
        assert_eq!(by_name(&out)["auth.login"]["entries"], 1);
    }
}

#[test]
fn the_list_needs_no_database_and_has_the_built_in_actions_and_the_files() {
    let cli = CliFixture::new();
    let registry = serde_json::to_string(OWN).unwrap();
    std::fs::write(cli.dir.path().join("own.json"), registry).unwrap();
    let (code, out, err) = cli.run(&["actions", "--declared", "own.json", "--json"]);
    assert_eq!(code, 0, "{err}");
    let actions = by_name(&out);
    assert_eq!(
        actions["auth.login"],
        serde_json::to_value(db_services::audit::actions::AUTH_LOGIN).unwrap()
    );
    assert_eq!(
        actions["skill.delete"]["meaning"],
        "A skill was deleted for good."
    );
    assert_eq!(actions.len(), db_services::audit::actions::USUAL.len() + 2);
    assert!(!cli.dir.path().join("audit.db").exists());
}

#[test]
fn a_file_that_is_no_list_of_actions_is_named() {
    let cli = CliFixture::new();
    for (content, message) in [
        ("", "own.json is no list of actions"),
        ("{}", "own.json is no list of actions"),
        (r#"[{"name":"a.b"}]"#, "missing field `category`"),
        (
            r#"[{"name":"audit.x","category":"c","verb":"v","severity":"s","meaning":"m"}]"#,
            "names that begin with `audit.` are reserved",
        ),
    ] {
        std::fs::write(cli.dir.path().join("own.json"), content).unwrap();
        let (code, out, err) = cli.run(&["actions", "--declared", "own.json"]);
        assert_eq!((code, &*out), (3, ""), "{content}");
        assert!(err.contains(message), "{content}: {err}");
    }
    let (code, _, err) = cli.run(&["actions", "--declared", "absent.json"]);
    assert!(code == 3 && err.contains("absent.json: No such file"), "{err}");
}

#[test]
fn ids_in_the_names_of_actions_are_reported_as_that() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        match &cli.postgres {
            Some(_) => cli.execute(
                "INSERT INTO audit_logs (action) SELECT 'skill.' || n FROM generate_series(1, 10001) n",
            ),
            None => cli.execute_sqlite(
                "INSERT INTO audit_logs (action) WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s \
                 WHERE n < 10001) SELECT 'skill.' || n FROM s",
            ),
        }
        let (code, _, err) = cli.run(&["actions", "--used"]);
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("more than 10,000 different actions"), "{err}");
    }
}

#[test]
fn rows_that_only_a_damaged_client_writes_are_counted() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute_sqlite(
        "INSERT INTO audit_logs (action) VALUES (CAST(x'ff2e78' AS TEXT)), (char(27) || '[2J')",
    );
    let (code, out, err) = cli.run(&["actions", "--used"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("\u{fffd}.x\t1\t") && !out.contains('\x1b'), "{out}");

    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute("INSERT INTO audit_logs (action, created_at) VALUES ('x.y', 'infinity')");
    let (code, out, err) = cli.run(&["actions", "--used"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("x.y\t1\t+262000-"), "{out}");
}
