//! A small run of every part of the benchmark, and the form of its output.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The questions of `query` whose time has a goal.
const LOOK_UPS: [&str; 13] = [
    "actor, frequent",
    "actor, frequent in others, large tenant",
    "actor, frequent, small tenant",
    "actor, none",
    "actor, ordinary",
    "actor, ordinary, large tenant",
    "actor, ordinary, small tenant",
    "page across tenants",
    "request",
    "request, large tenant",
    "request, small tenant",
    "resource",
    "resource, large tenant",
];

/// The counts are so small that the figures mean nothing.
#[test]
fn every_part_runs_with_small_counts() {
    let done = Command::new(env!("CARGO_BIN_EXE_db-bench"))
        .args([
            "all", "--json", "--rounds", "1", "--blocks", "2", "--events", "2000", "--rows", "5000",
        ])
        .args(["--open-rows", "2000,3000", "--sqlite-rows", "2000"])
        .args(["--seconds", "2", "--without-node"])
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    assert!(stderr.contains("skipped: --without-node"), "{stderr}");

    let members = [
        "name",
        "median",
        "min",
        "max",
        "unit",
        "reference",
        "ratio",
        "goal",
        "met",
    ];
    let mut goals = BTreeSet::new();
    for line in String::from_utf8(done.stdout).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let known: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(known, BTreeSet::from(members), "{line}");
        let figure = |name: &str| row[name].as_f64().unwrap();
        assert!(
            figure("min") <= figure("median") && figure("median") <= figure("max"),
            "{line}"
        );
        assert_eq!(row["goal"].is_null(), row["met"].is_null(), "{line}");
        assert_eq!(row["reference"].is_null(), row["ratio"].is_null(), "{line}");
        if !row["goal"].is_null() {
            let name = row["name"].as_str().unwrap();
            goals.insert((
                name.to_owned(),
                row["reference"].as_str().unwrap_or_default().to_owned(),
            ));
        }
    }
    let expected = [
        ("build an entry and write_audit_log", "tracing JSON event"),
        ("growth of the process, 64 MiB queue", ""),
        ("growth of the process, 64 MiB queue and spool, ASCII", ""),
        (
            "growth of the process, 64 MiB queue and spool, control characters",
            "",
        ),
        ("replay of the spool", "Memory, until committed"),
        ("page 160, 8000 rows", "first page, 8000 rows"),
        (
            "auditlog export, peak memory, 5000 rows",
            "auditlog export, peak memory, 500 rows",
        ),
        ("write_audit_log, 2 producers: p50", ""),
        (
            "write_audit_log, 2 producers: p50",
            "tracing-appender, 2 producers: p50",
        ),
        ("write_audit_log, 2 producers: p99", ""),
        ("write_audit_log, awaited: rate", "sea-orm, pool: rate"),
        ("write_audit_log, awaited: rate", "sqlx, held connection: rate"),
        (
            "write_audit_log, awaited by 10",
            "single inserts, pool of 10, 10 callers",
        ),
        (
            "write_audit_log, awaited by 50",
            "single inserts, pool of 10, 50 callers",
        ),
        (
            "write_audit_log, awaited: p50",
            "single insert, held connection: p50",
        ),
        ("write_audit_log, forgotten", "COPY BINARY, conventional table"),
        ("write_audit_log, forgotten", "bare statement, own table"),
        ("write_audit_log, scrubbed", "write_audit_log, not scrubbed"),
        (
            "WriteAhead, until synced, database down",
            "bare SQLite table, batches of 1000",
        ),
    ];
    let mut expected: BTreeSet<(String, String)> = expected
        .map(|(name, reference)| (name.to_owned(), reference.to_owned()))
        .into();
    for open in ["2000 open", "3000 open"] {
        let timeline = |what: &str| format!("tenant timeline{what}, {open}");
        expected.insert((timeline(""), timeline(", one b-tree")));
        for question in LOOK_UPS {
            expected.insert((format!("{question}, {open}"), String::new()));
        }
    }
    assert_eq!(goals, expected);
}
