//! The rows that the doctor inserts as targets for the statements that it tries.

use uuid::Uuid;

use super::privileges::Privileges;
use super::session::{Attempt, LOCK_TIMEOUT_REASON, Session};
use crate::doctor::Code::Writable;
use crate::doctor::{DoctorError, Finding, Severity};

/// Two rows of two tenants. Their ids are random, so that concurrent examinations do not collide.
pub(super) struct ProbeRows {
    /// The id of the first row, and of its tenant.
    pub(super) own: Uuid,
    /// The id of the second row, and of its tenant.
    pub(super) other: Uuid,
}

/// Inserts the rows, until the transaction is rolled back. Returns them if both were stored, and the finding
/// of the check WRITABLE.
pub(super) async fn insert_probe_rows(
    session: &Session,
    privileges: &Privileges,
) -> Result<(Option<ProbeRows>, Finding), DoctorError> {
    if !privileges.may_insert {
        return Ok((None, Finding::ok(Writable, "this user may not write")));
    }
    let rows = ProbeRows {
        own: Uuid::new_v4(),
        other: Uuid::new_v4(),
    };
    let insert = format!(
        "INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, action) VALUES \
         ('{0}', now(), '{0}', 'auditlog doctor', 'system', 'audit.probe'), \
         ('{1}', now(), '{1}', 'auditlog doctor', 'system', 'audit.probe')",
        rows.own, rows.other
    );
    let not_stored = |found: String| Finding::new(Writable, Severity::Critical, found, REMEDY);
    Ok(match session.run_in_savepoint(&insert).await? {
        Attempt::Done { rows: 2 } => (Some(rows), Finding::ok(Writable, "rows were inserted")),
        Attempt::Done { rows } => (
            None,
            not_stored(format!(
                "of 2 rows inserted {rows} were stored: a trigger or a rule drops rows"
            )),
        ),
        Attempt::Refused(reason) => (None, not_stored(format!("rows are refused: {reason}"))),
        Attempt::LockTimeout => (None, Finding::not_run(Writable, LOCK_TIMEOUT_REASON)),
    })
}

const REMEDY: &str =
    "-- see what the checks OTHER_TRIGGERS, GRANTS, ROW_SECURITY, UPCOMING_PARTITIONS and MIGRATIONS found";
