//! Tries to change and delete a row of an SQLite trail.

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use uuid::Uuid;

use super::value;
use crate::doctor::Code::{self, RowDelete, RowUpdate, Writable};
use crate::doctor::{Finding, Severity};

/// `$key` selects the row. The last setting also applies to statements that are prepared after it.
const ATTEMPTS: [(Code, &str); 5] = [
    (RowUpdate, "UPDATE audit_logs SET action = 'x' WHERE $key"),
    (
        RowUpdate,
        "UPDATE OR REPLACE audit_logs SET action = 'x' WHERE $key",
    ),
    (
        RowUpdate,
        "PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO audit_logs (id, created_at, action) SELECT id, created_at, 'x' FROM audit_logs WHERE $key",
    ),
    (
        RowUpdate,
        "PRAGMA recursive_triggers = OFF; INSERT OR REPLACE INTO audit_logs (id, created_at, action) SELECT id, created_at, 'x' FROM audit_logs WHERE $key",
    ),
    (RowDelete, "DELETE FROM audit_logs WHERE $key"),
];

/// Inserts a row, tries to change and delete it, and rolls everything back.
pub(super) fn examine(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    if let Err(error) = conn.batch_execute("BEGIN IMMEDIATE") {
        return Ok(vec![Finding::new(
            Writable,
            Severity::Warning,
            format!("no statement could be tried: {error}"),
            "-- another program is writing: run the doctor again; or this user may not write the file",
        )]);
    }
    let findings = probe(conn);
    conn.batch_execute("ROLLBACK")?;
    findings
}

/// The row that the statements target.
struct ProbeRow {
    key: String,
    count: String,
}

impl ProbeRow {
    fn is_unchanged(&self, conn: &mut SqliteConnection) -> diesel::QueryResult<bool> {
        Ok(value(conn, &self.count)?.as_deref() == Some("1"))
    }
}

fn probe(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    // A random id, so that it matches no existing row.
    let id = format!("x'{}'", Uuid::new_v4().simple());
    let key = format!("id = {id} AND created_at = 0");
    let count = format!(
        "SELECT CAST(count(*) AS TEXT) AS value FROM audit_logs WHERE {key} AND action = 'audit.probe'"
    );
    let row = ProbeRow { key, count };
    let insert = format!("INSERT INTO audit_logs (id, created_at, action) VALUES ({id}, 0, 'audit.probe')");
    let lost = |found: String| {
        let remedy = "-- see what the checks OTHER_TRIGGERS and MIGRATIONS found";
        Ok(vec![Finding::new(Writable, Severity::Critical, found, remedy)])
    };
    if let Err(error) = conn.batch_execute(&insert) {
        return lost(format!("rows are refused: {error}"));
    }
    if !row.is_unchanged(conn)? {
        return lost("an inserted row was not stored".to_owned());
    }
    let mut findings = vec![Finding::ok(Writable, "a row was inserted")];
    for (code, attempt) in ATTEMPTS {
        findings.extend(try_statement(conn, &row, code, attempt)?);
    }
    for code in [RowUpdate, RowDelete] {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, "refused on a stored row"));
        }
    }
    Ok(findings)
}

/// Tries a statement and undoes it. Returns none if the trail's triggers refuse it.
fn try_statement(
    conn: &mut SqliteConnection,
    row: &ProbeRow,
    code: Code,
    attempt: &str,
) -> diesel::QueryResult<Option<Finding>> {
    conn.batch_execute("SAVEPOINT doctor")?;
    let result = conn.batch_execute(&attempt.replace("$key", &row.key));
    let unchanged = row.is_unchanged(conn)?;
    conn.batch_execute("ROLLBACK TO doctor; RELEASE doctor")?;
    let statement = attempt.rsplit("; ").next().unwrap_or(attempt);
    let verb = statement.split(" audit_logs").next().unwrap_or_default();
    let effect = if unchanged {
        ", and changed nothing"
    } else {
        " on a stored row"
    };
    Ok(match result {
        Err(error) if error.to_string().contains("append-only") => None,
        Err(error) => Some(Finding::unchecked(code, error.to_string())),
        Ok(()) => Some(Finding::new(
            code,
            Severity::Critical,
            format!("{verb} was carried out{effect}"),
            "-- see what the check TRIGGERS found",
        )),
    })
}
