//! Tries to update and delete a stored row.

use super::privileges::Privileges;
use super::probe_rows::ProbeRows;
use super::session::{Attempt, LOCK_TIMEOUT_REASON, Session};
use super::tenants;
use crate::doctor::Code::{self, RowDelete, RowUpdate};
use crate::doctor::{DoctorError, Finding, Severity};

/// A kind of change, and the statements that try it.
pub(super) struct Change {
    code: Code,
    verb: &'static str,
    /// Tests the right alone, on no row.
    without_row: &'static str,
    /// Each changes a stored row.
    on_row: &'static [&'static str],
}

/// `$column` is a column that may be updated, if there is one; `$row` is the condition for one row.
pub(super) const UPDATE: Change = Change {
    code: RowUpdate,
    verb: "UPDATE",
    without_row: "UPDATE audit_logs SET $column = DEFAULT WHERE false",
    on_row: &[
        "UPDATE audit_logs SET $column = $column WHERE $row",
        "SET LOCAL session_replication_role = replica; UPDATE audit_logs SET $column = $column WHERE $row",
        "INSERT INTO audit_logs (id, created_at, action) VALUES ('$id', now(), 'audit.probe') \
         ON CONFLICT (id, created_at) DO UPDATE SET $column = excluded.$column",
    ],
};
pub(super) const DELETE: Change = Change {
    code: RowDelete,
    verb: "DELETE",
    without_row: "DELETE FROM audit_logs WHERE false",
    on_row: &[
        "DELETE FROM audit_logs WHERE $row",
        "SET LOCAL session_replication_role = replica; DELETE FROM audit_logs WHERE $row",
    ],
};

/// What the attempts show about a change.
enum Evidence {
    /// It is refused.
    Refused(String),
    /// It was carried out.
    Done(String),
    /// The user has the right, but it is unknown whether a trigger refuses.
    RightOnly(String),
    /// Not even the right could be tested.
    Inconclusive(String),
}

/// Tries a change and reports the result.
pub(super) async fn examine(
    session: &Session,
    privileges: &Privileges,
    probe: Option<&ProbeRows>,
    change: &Change,
) -> Result<Finding, DoctorError> {
    let Change { code, verb, .. } = *change;
    Ok(match gather(session, privileges, probe, change).await? {
        Evidence::Refused(how) => Finding::ok(code, format!("{verb} {how}")),
        Evidence::Inconclusive(why) => Finding::not_run(code, why),
        Evidence::Done(how) => Finding::new(
            code,
            Severity::Critical,
            format!("{verb} was carried out on a stored row{how}"),
            "-- see what the checks TRIGGERS, FUNCTIONS and GRANTS found",
        ),
        Evidence::RightOnly(why) => Finding::new(
            code,
            Severity::Warning,
            format!("this user may {verb}; {why}"),
            format!(
                "REVOKE {verb} ON TABLE {}.audit_logs FROM {};\n-- or from the role that grants it, see GRANTS",
                privileges.schema, privileges.user
            ),
        ),
    })
}

/// Tries the statements. Only a refusal is evidence: a statement that matched no row shows nothing.
async fn gather(
    session: &Session,
    privileges: &Privileges,
    probe: Option<&ProbeRows>,
    change: &Change,
) -> Result<Evidence, DoctorError> {
    let without_row = change.without_row.replace("$column", &privileges.column);
    match session.run_and_undo(&without_row).await? {
        Attempt::Refused(reason) if reason.lacks_right() => {
            return Ok(Evidence::Refused("is refused: no right (42501)".to_owned()));
        }
        Attempt::Refused(reason) => {
            return Ok(Evidence::Inconclusive(reason.to_string()));
        }
        Attempt::LockTimeout => return Ok(Evidence::Inconclusive(LOCK_TIMEOUT_REASON.to_owned())),
        Attempt::Done { .. } => {}
    }
    let Some(probe) = probe.filter(|_| privileges.may_select) else {
        return Ok(Evidence::RightOnly(NO_ROW.to_owned()));
    };
    tenants::set(session, &probe.own.to_string()).await?;
    let row = format!("id = '{}' AND created_at = now()", probe.own);
    let mut refused_by_trigger = false;
    for statement in change.on_row {
        let sql = statement
            .replace("$row", &row)
            .replace("$id", &probe.own.to_string())
            .replace("$column", &privileges.column);
        match session.run_and_undo(&sql).await? {
            Attempt::Refused(reason) if reason.sqlstate == "UA001" => refused_by_trigger = true,
            // The user lacks another right that this statement needs: replica mode, or a column.
            Attempt::Refused(reason) if reason.lacks_right() => {}
            Attempt::Refused(reason) => {
                return Ok(Evidence::RightOnly(format!(
                    "it failed for another reason: {reason}"
                )));
            }
            Attempt::Done { rows: 0 } => return Ok(Evidence::RightOnly(HIDDEN.to_owned())),
            Attempt::Done { .. } if sql.contains("replica") => {
                return Ok(Evidence::Done(", in replica mode".to_owned()));
            }
            Attempt::Done { .. } => return Ok(Evidence::Done(String::new())),
            Attempt::LockTimeout => return Ok(Evidence::RightOnly(LOCK_TIMEOUT_REASON.to_owned())),
        }
    }
    Ok(if refused_by_trigger {
        Evidence::Refused("of a stored row is refused (UA001)".to_owned())
    } else {
        Evidence::RightOnly("no statement reached a trigger".to_owned())
    })
}

const NO_ROW: &str = "whether a trigger refuses it is unknown, because there is no row that this user may both insert and read";
const HIDDEN: &str = "only row security hid the row, so it is unknown whether a trigger refuses";
