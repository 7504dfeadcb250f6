//! Can the trail be emptied, altered or taken apart? Each statement takes the strongest lock there is, for
//! which writers queue up until it is undone; hence only when asked for.

use super::session::{Session, Tried};
use crate::doctor::Code::OwnerStatements;
use crate::doctor::{DoctorError, Finding, Severity};

/// Made by the server, so that names are written as SQL wants them.
const STATEMENTS: &str = "WITH part AS ( \
         SELECT c.oid::regclass AS named FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'audit_logs'::regclass \
         ORDER BY c.relname = to_char(now() AT TIME ZONE 'UTC', '\"audit_logs_\"YYYY_MM') DESC, c.relname LIMIT 1) \
     SELECT format(statement, (SELECT named FROM part)) FROM unnest(ARRAY[ \
         'TRUNCATE audit_logs', 'TRUNCATE %s', 'ALTER TABLE audit_logs DISABLE TRIGGER USER', 'ALTER TABLE %s DISABLE TRIGGER USER', \
         'ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY', 'ALTER TABLE audit_logs DROP COLUMN actor_id', \
         'ALTER TABLE audit_logs DETACH PARTITION %s', 'DROP TABLE %s', 'DROP TABLE audit_logs']) AS statement";

/// Tries them in a transaction that the caller rolls back and whose search_path is pinned. Gives up when
/// one has to wait: then a writer or a reader holds the table, and those behind it are not to be held.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let statements = match session.asked(STATEMENTS).await? {
        Ok(rows) => rows,
        Err(why) => return Ok(vec![Finding::unchecked(OwnerStatements, why)]),
    };
    let (mut done, mut refused, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for statement in statements.into_iter().flatten().flatten() {
        match session.tried(&statement).await? {
            Tried::Done { .. } => done.push(statement),
            Tried::Refused { sqlstate, .. } if sqlstate == "42501" || sqlstate == "UA001" => {
                refused.push(statement)
            }
            Tried::Refused { sqlstate, message } => {
                open.push(format!("{statement}: {message} ({sqlstate})"));
                // It ran into the time limit, and the next one would.
                if sqlstate == "57014" {
                    break;
                }
            }
            Tried::Waited => {
                open.push(format!(
                    "gave up at {statement}: another session held the table for longer than 200 ms"
                ));
                break;
            }
        }
    }
    let mut findings = Vec::new();
    if !done.is_empty() {
        findings.push(Finding::new(
            OwnerStatements,
            Severity::Critical,
            format!("this user can {}", done.join("; ")),
            "-- let the application log in as a member of audit_writer, not as the owner; see the check USER",
        ));
    }
    if !open.is_empty() {
        findings.push(Finding::unchecked(OwnerStatements, open.join("; ")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            OwnerStatements,
            format!("refused: {}", refused.join("; ")),
        ));
    }
    Ok(findings)
}
