//! Tries the statements that this user should not be able to run, except the invasive ones.

use std::collections::BTreeMap;

use super::privileges::Privileges;
use super::probe_rows::insert_probe_rows;
use super::session::{Attempt, LOCK_TIMEOUT_REASON, Session};
use super::{changes, tenants};
use crate::doctor::Code::*;
use crate::doctor::text::comment;
use crate::doctor::{DoctorError, Finding, Options, Severity};

/// Tries every statement whose locks no writer would notice. The caller has pinned the search_path and rolls
/// the transaction back.
pub(super) async fn examine(session: &Session, options: &Options) -> Result<Vec<Finding>, DoctorError> {
    let privileges = Privileges::query(session).await?;
    let (probe, writable) = insert_probe_rows(session, &privileges).await?;
    let probe = probe.as_ref();
    let mut findings = vec![writable];
    for change in [&changes::UPDATE, &changes::DELETE] {
        findings.push(changes::examine(session, &privileges, probe, change).await?);
    }
    findings.extend(probe_forgery(session).await?);
    findings.extend(tenants::examine(session, &privileges, probe, options.tenant.as_deref()).await?);
    findings.push(probe_partitions(session, &privileges.schema).await?);
    findings.push(probe_create_table(session, &privileges).await?);
    Ok(findings)
}

/// Tries to set the columns that only the database may set.
async fn probe_forgery(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let mut findings = Vec::new();
    for (column, insert) in [
        (
            "recorded_at",
            "INSERT INTO audit_logs (id, action, recorded_at) VALUES (gen_random_uuid(), 'audit.probe', '2000-01-01')",
        ),
        (
            "tx_id",
            "INSERT INTO audit_logs (id, action, tx_id) VALUES (gen_random_uuid(), 'audit.probe', 1)",
        ),
    ] {
        findings.push(match session.run_and_undo(insert).await? {
            Attempt::Refused(reason) if reason.lacks_right() => {
                Finding::ok(Forgery, format!("setting {column} is refused: no right (42501)"))
            }
            Attempt::Refused(reason) => Finding::not_run(Forgery, format!("{column}: {reason}")),
            Attempt::Done { rows: 0 } => {
                Finding::not_run(Forgery, format!("{column}: the row was not stored"))
            }
            Attempt::Done { .. } => Finding::new(
                Forgery,
                Severity::Critical,
                format!("a row with a {column} of this user's choice was stored"),
                "-- expected of a superuser or the owner; otherwise see what the check GRANTS found",
            ),
            Attempt::LockTimeout => Finding::not_run(Forgery, LOCK_TIMEOUT_REASON),
        });
    }
    Ok(findings)
}

/// Statements on single partitions: this month's, the default one, and those on which the user has any
/// right. None matches a row; the right is required all the same.
const PARTITION_STATEMENTS: &str = "SELECT c.oid::regclass::text, what, \
            format(CASE what WHEN 'SELECT' THEN 'SELECT count(*) FROM %s WHERE false' \
                             WHEN 'INSERT' THEN 'INSERT INTO %s (action) SELECT ''audit.probe'' WHERE false' \
                             WHEN 'UPDATE' THEN 'UPDATE %s SET action = DEFAULT WHERE false' \
                             ELSE 'DELETE FROM %s WHERE false' END, c.oid::regclass), \
            (what = 'INSERT' OR what = 'SELECT' AND NOT row_security_active(c.oid))::text \
     FROM pg_partition_tree('audit_logs') t JOIN pg_class c ON c.oid = t.relid, \
          unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY w (what, nth) \
     WHERE t.isleaf AND t.level > 0 \
       AND (c.relname IN ('audit_logs_default', to_char(now() AT TIME ZONE 'UTC', '\"audit_logs_\"YYYY_MM')) \
            OR has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE')) \
     ORDER BY c.relname, nth LIMIT 80";

async fn probe_partitions(session: &Session, schema: &str) -> Result<Finding, DoctorError> {
    let statements = match session.query_in_savepoint(PARTITION_STATEMENTS).await? {
        Ok(rows) => rows,
        Err(refused) => return Ok(Finding::not_run(PartitionAccess, refused.message)),
    };
    let (mut accessible, mut severity, mut refused) =
        (BTreeMap::<String, Vec<String>>::new(), Severity::Warning, 0);
    for row in statements {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [partition, right, statement, bypasses] = cells.as_slice() else {
            continue;
        };
        match session.run_and_undo(statement).await? {
            Attempt::Done { .. } => {
                if bypasses == "true" {
                    severity = Severity::Critical;
                }
                accessible
                    .entry(partition.clone())
                    .or_default()
                    .push(right.clone());
            }
            Attempt::Refused(reason) if reason.lacks_right() => refused += 1,
            // A lock: this month's partition can be busy briefly.
            Attempt::Refused(_) | Attempt::LockTimeout => {}
        }
    }
    if accessible.is_empty() && refused == 0 {
        return Ok(Finding::not_run(PartitionAccess, "no partition could be tried"));
    }
    if accessible.is_empty() {
        return Ok(Finding::ok(
            PartitionAccess,
            "every statement is refused: no right (42501)",
        ));
    }
    Ok(Finding::new(
        PartitionAccess,
        severity,
        format!(
            "bypassing the rights and policies of audit_logs, this user may {}",
            list_rights(accessible)
        ),
        comment(&format!(
            "expected of a superuser or the owner; otherwise, for each of them: SELECT {schema}.audit_lock_down_table('…');"
        )),
    ))
}

/// Lists rights, each with the partitions that it applies to: the first three by name.
fn list_rights(accessible: BTreeMap<String, Vec<String>>) -> String {
    let mut by_rights = BTreeMap::<String, Vec<String>>::new();
    for (partition, rights) in accessible {
        by_rights.entry(rights.join(", ")).or_default().push(partition);
    }
    let each = by_rights.into_iter().map(|(rights, partitions)| {
        let more = match partitions.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first: Vec<String> = partitions.into_iter().take(3).collect();
        format!("{rights} in {}{more}", first.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn probe_create_table(session: &Session, privileges: &Privileges) -> Result<Finding, DoctorError> {
    Ok(match session.run_and_undo(&privileges.create_table).await? {
        Attempt::Refused(reason) if reason.lacks_right() => {
            Finding::ok(CreateTable, "refused: no right (42501)")
        }
        Attempt::Refused(reason) => Finding::not_run(CreateTable, reason.to_string()),
        Attempt::LockTimeout => Finding::not_run(
            CreateTable,
            "another session held the schema for longer than 200 ms",
        ),
        Attempt::Done { .. } => Finding::new(
            CreateTable,
            Severity::Warning,
            format!(
                "this user can create tables and functions in the trail's schema {}",
                privileges.schema
            ),
            format!(
                "REVOKE CREATE ON SCHEMA {0} FROM PUBLIC;\nREVOKE CREATE ON SCHEMA {0} FROM {1};",
                privileges.schema, privileges.user
            ),
        ),
    })
}
