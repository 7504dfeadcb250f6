//! Attacks on SQLite, each on a new database, compared with the documentation.

use db_services::audit::latest_with_records;

use crate::support::TestDb;

const ATTACKS: &[(&str, &str)] = &[
    ("UPDATE", "UPDATE audit_logs SET action = 'forged'"),
    (
        "UPDATE of the key",
        "UPDATE audit_logs SET created_at = created_at + 1",
    ),
    (
        "UPDATE OR REPLACE",
        "UPDATE OR REPLACE audit_logs SET action = 'forged'",
    ),
    (
        "UPDATE OR REPLACE onto another row's key",
        "UPDATE OR REPLACE audit_logs SET id = (SELECT min(id) FROM audit_logs), created_at = 1",
    ),
    (
        "UPDATE OR IGNORE",
        "UPDATE OR IGNORE audit_logs SET action = 'forged'",
    ),
    (
        "UPDATE … FROM",
        "UPDATE audit_logs SET action = f.a FROM (SELECT 'forged' AS a) AS f",
    ),
    ("DELETE", "DELETE FROM audit_logs"),
    (
        "DELETE in the same file, attached again",
        "ATTACH '$file' AS again; DELETE FROM again.audit_logs",
    ),
    (
        "INSERT of an existing entry",
        "INSERT INTO audit_logs (id, created_at, action) VALUES ($key, 'forged')",
    ),
    (
        "INSERT OR REPLACE",
        "INSERT OR REPLACE INTO audit_logs (id, created_at, action) VALUES ($key, 'forged')",
    ),
    (
        "REPLACE",
        "REPLACE INTO audit_logs (id, created_at, action) VALUES ($key, 'forged')",
    ),
    (
        "INSERT OR REPLACE of all rows at once",
        "INSERT OR REPLACE INTO audit_logs (id, created_at, action) SELECT id, created_at, 'forged' FROM audit_logs",
    ),
    (
        "INSERT … ON CONFLICT DO UPDATE",
        "INSERT INTO audit_logs (id, created_at, action) VALUES ($key, 'forged') ON CONFLICT DO UPDATE SET action = 'forged'",
    ),
    (
        "INSERT with a rowid",
        "INSERT OR REPLACE INTO audit_logs (rowid, action) VALUES (1, 'forged')",
    ),
    (
        "INSERT with a recorded_at and a tx_id",
        "INSERT INTO audit_logs (action, recorded_at, tx_id) VALUES ('x', 1, 1)",
    ),
    (
        "DROP TRIGGER",
        "DROP TRIGGER audit_logs_no_delete; DELETE FROM audit_logs",
    ),
    ("DROP TABLE", "DROP TABLE audit_logs"),
    (
        "triggers removed by PRAGMA writable_schema",
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_master WHERE type = 'trigger'; PRAGMA writable_schema = RESET; DELETE FROM audit_logs",
    ),
];

const ROWS: &str = "INSERT INTO audit_logs (id, created_at, action) VALUES \
    (x'00000000000070008000000000000001', 1, 'evidence'), (x'00000000000070008000000000000002', 2, 'evidence')";

/// The outcome of a statement, after `before` was run.
async fn outcome(before: &str, sql: &str, recursive_triggers: &str) -> &'static str {
    let db = TestDb::sqlite().await;
    db.sql(before).await.unwrap();
    db.sql(ROWS).await.unwrap();
    let stored = db.rows().await;
    assert_eq!(stored.len(), 2, "the rows that {sql} attacks are stored");
    let file = db.database.sqlite_path().unwrap().display().to_string();
    let sql = sql
        .replace("$file", &file)
        .replace("$key", "x'00000000000070008000000000000001', 1");
    let tried = db
        .sql(&format!(
            "PRAGMA recursive_triggers = {recursive_triggers}; {sql}"
        ))
        .await;
    let unchanged = latest_with_records(&mut db.connection().await, 9)
        .await
        .is_ok_and(|rows| rows == stored);
    match tried {
        Err(error) if error.contains("append-only") && unchanged => "refused",
        Err(error) if error.contains("no column") && unchanged => "no such thing",
        Err(_) => "failed otherwise",
        Ok(()) if unchanged => "nothing",
        Ok(()) => "done",
    }
}

async fn table(before: &str) -> String {
    let mut table = "| | recursive_triggers = ON | OFF |\n| --- | --- | --- |\n".to_owned();
    for (what, sql) in ATTACKS {
        let (on, off) = (
            outcome(before, sql, "ON").await,
            outcome(before, sql, "OFF").await,
        );
        table += &format!("| {what} | {on} | {off} |\n");
    }
    table
}

#[tokio::test]
async fn the_outcomes_of_all_attacks_on_sqlite_are_documented() {
    let table = table("").await;
    println!("{table}");
    let documented = super::section("sqlite");
    assert!(
        table.trim() == documented.trim(),
        "docs/append-only.md differs; the table is\n\n{table}"
    );
}

#[tokio::test]
async fn every_missing_trigger_changes_the_outcome_of_an_attack_on_sqlite() {
    let whole = table("").await;
    for trigger in [
        "audit_logs_no_update",
        "audit_logs_no_delete",
        "audit_logs_no_replace",
    ] {
        // Replaced by an empty one, because an attack drops it by name.
        let gone = format!(
            "DROP TRIGGER {trigger}; CREATE TRIGGER {trigger} BEFORE INSERT ON audit_logs BEGIN SELECT 1; END"
        );
        assert_ne!(table(&gone).await, whole, "without {trigger}");
    }
}
