//! What can be done to a row that is there?

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use uuid::Uuid;

use super::value;
use crate::doctor::Code::{self, RowDelete, RowUpdate, Writable};
use crate::doctor::{Finding, Severity};

/// `$key` finds the row. The last setting holds for what is prepared after it.
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

/// Inserts a row, attacks it, and takes everything back.
pub(super) fn examine(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    if let Err(error) = conn.batch_execute("BEGIN IMMEDIATE") {
        return Ok(vec![Finding::new(
            Writable,
            Severity::Warning,
            format!("nothing could be tried: {error}"),
            "-- another program writes at the moment: repeat it; or the file may not be written by this user",
        )]);
    }
    let tried = attack(conn);
    conn.batch_execute("ROLLBACK")?;
    tried
}

/// The row that is attacked.
struct Probe {
    key: String,
    count: String,
}

impl Probe {
    fn is_there(&self, conn: &mut SqliteConnection) -> diesel::QueryResult<bool> {
        Ok(value(conn, &self.count)?.as_deref() == Some("1"))
    }
}

fn attack(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    // This process's own random number.
    let id = format!("x'{}'", Uuid::new_v4().simple());
    let key = format!("id = {id} AND created_at = 0");
    let count = format!(
        "SELECT CAST(count(*) AS TEXT) AS value FROM audit_logs WHERE {key} AND action = 'audit.probe'"
    );
    let probe = Probe { key, count };
    let insert = format!("INSERT INTO audit_logs (id, created_at, action) VALUES ({id}, 0, 'audit.probe')");
    let lost = |found: String| {
        let remedy = "-- see what the checks STRANGE_TRIGGERS and MIGRATIONS found";
        Ok(vec![Finding::new(Writable, Severity::Critical, found, remedy)])
    };
    if let Err(error) = conn.batch_execute(&insert) {
        return lost(format!("rows are refused: {error}"));
    }
    if !probe.is_there(conn)? {
        return lost("a row that was inserted did not arrive".to_owned());
    }
    let mut findings = vec![Finding::ok(Writable, "a row was inserted")];
    for (code, attempt) in ATTEMPTS {
        findings.extend(try_one(conn, &probe, code, attempt)?);
    }
    for code in [RowUpdate, RowDelete] {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, "refused on a row that is there"));
        }
    }
    Ok(findings)
}

/// None if it is refused by the trail's own triggers.
fn try_one(
    conn: &mut SqliteConnection,
    probe: &Probe,
    code: Code,
    attempt: &str,
) -> diesel::QueryResult<Option<Finding>> {
    conn.batch_execute("SAVEPOINT doctor")?;
    let answer = conn.batch_execute(&attempt.replace("$key", &probe.key));
    let unchanged = probe.is_there(conn)?;
    conn.batch_execute("ROLLBACK TO doctor; RELEASE doctor")?;
    let statement = attempt.rsplit("; ").next().unwrap_or(attempt);
    let verb = statement.split(" audit_logs").next().unwrap_or_default();
    let done = if unchanged {
        ", and changed nothing"
    } else {
        " on a stored row"
    };
    Ok(match answer {
        Err(error) if error.to_string().contains("append-only") => None,
        Err(error) => Some(Finding::unchecked(code, error.to_string())),
        Ok(()) => Some(Finding::new(
            code,
            Severity::Critical,
            format!("{verb} was carried out{done}"),
            "-- see what the check TRIGGERS found",
        )),
    })
}
