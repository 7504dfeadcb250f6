//! Tries statements that only the owner should be able to run.
//!
//! Each takes an ACCESS EXCLUSIVE lock, for which writers wait until it is rolled back. Therefore they run only
//! on request.

use super::session::{Attempt, Session};
use crate::doctor::Code::OwnerStatements;
use crate::doctor::{DoctorError, Finding, Severity};

/// The server formats the statements, so that names are quoted as necessary.
const STATEMENTS: &str = "WITH part AS ( \
         SELECT c.oid::regclass AS named FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'audit_logs'::regclass \
         ORDER BY c.relname = to_char(now() AT TIME ZONE 'UTC', '\"audit_logs_\"YYYY_MM') DESC, c.relname LIMIT 1) \
     SELECT format(statement, (SELECT named FROM part)) FROM unnest(ARRAY[ \
         'TRUNCATE audit_logs', 'TRUNCATE %s', 'ALTER TABLE audit_logs DISABLE TRIGGER USER', 'ALTER TABLE %s DISABLE TRIGGER USER', \
         'ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY', 'ALTER TABLE audit_logs DROP COLUMN actor_id', \
         'ALTER TABLE audit_logs DETACH PARTITION %s', 'DROP TABLE %s', 'DROP TABLE audit_logs']) AS statement";

/// Tries them. The caller has pinned the search_path and rolls the transaction back. Stops at the first one
/// that has to wait: another session holds the table, and every statement after it would block others again.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let statements = match session.query_in_savepoint(STATEMENTS).await? {
        Ok(rows) => rows,
        Err(refused) => return Ok(vec![Finding::not_run(OwnerStatements, refused.message)]),
    };
    let (mut done, mut refused, mut inconclusive) = (Vec::new(), Vec::new(), Vec::new());
    for statement in statements.into_iter().flatten().flatten() {
        match session.run_and_undo(&statement).await? {
            Attempt::Done { .. } => done.push(statement),
            Attempt::Refused(reason) if reason.lacks_right() || reason.sqlstate == "UA001" => {
                refused.push(statement)
            }
            Attempt::Refused(reason) => {
                inconclusive.push(format!("{statement}: {reason}"));
                // It reached the statement timeout, and so would the next one.
                if reason.sqlstate == "57014" {
                    break;
                }
            }
            Attempt::LockTimeout => {
                inconclusive.push(format!(
                    "stopped at {statement}: another session held the table for longer than 200 ms"
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
    if !inconclusive.is_empty() {
        findings.push(Finding::unchecked(OwnerStatements, inconclusive.join("; ")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            OwnerStatements,
            format!("refused: {}", refused.join("; ")),
        ));
    }
    Ok(findings)
}
