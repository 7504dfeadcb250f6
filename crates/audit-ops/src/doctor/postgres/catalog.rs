//! The checks of the catalog. Each is one query that returns a row for each fault: severity, text and remedy.

use std::collections::BTreeMap;

use super::comparison::{self, Names};
use super::session::{Row, Session};
use super::{continuity, locks, migrations};
use crate::doctor::Code::{self, *};
use crate::doctor::allow::Allowed;
use crate::doctor::{DoctorError, Finding, Severity};

/// A check: its code, its query, and the text to report if the query returns no row.
type Check<'a> = (Code, &'a str, &'a str);

const CHECKS: [Check<'static>; 5] = [
    (
        PreparedTransactions,
        include_str!("checks/prepared_transactions.sql"),
        "none",
    ),
    (
        IdleTransactions,
        include_str!("checks/idle_transactions.sql"),
        "none among the sessions whose state this user may see",
    ),
    (
        User,
        include_str!("checks/user.sql"),
        "neither superuser nor owner",
    ),
    (
        Membership,
        include_str!("checks/membership.sql"),
        "its roles are compatible",
    ),
    (
        UpcomingPartitions,
        include_str!("checks/upcoming_partitions.sql"),
        "for three months or more",
    ),
];

const HOST_RULES: Check<'static> = (
    HostRules,
    include_str!("checks/host_rules.sql"),
    "every rule requires encryption and authentication",
);

/// Restricts names to the built-in schema and the trail's, independent of the user's search_path. Returns null
/// if there is no table.
const PIN_SEARCH_PATH: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname) || ', pg_temp', true) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass('audit_logs')";

/// Pins the transaction's search_path to the table's schema, for statements that are tried as a client sends them.
pub(super) async fn pin_search_path(session: &Session) -> Result<(), DoctorError> {
    session.value(PIN_SEARCH_PATH).await.map(drop)
}

/// Runs all checks. The search_path is pg_catalog.
pub(super) async fn examine(
    session: &Session,
    names: &Names,
    allowed: &mut Allowed,
    findings: &mut Vec<Finding>,
) -> Result<(), DoctorError> {
    // Locks first: they can prevent every other check.
    findings.extend(locks::examine(session, names).await?);
    for (code, sql, ok_text) in CHECKS {
        findings.extend(run(session, &(code, &names.sql(sql), ok_text)).await?);
    }
    findings.extend(names.role_findings.iter().cloned());
    findings.extend(comparison::examine(session, names, allowed).await?);
    findings.extend(migrations::examine(session, names).await?);
    findings.extend(default_partition(session, names).await?);
    findings.extend(continuity::examine(session, names, allowed).await?);
    Ok(())
}

/// Checks pg_hba.conf. Does not need the table.
pub(super) async fn host_rules(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    run(session, &HOST_RULES).await
}

async fn run(session: &Session, &(code, sql, ok_text): &Check<'_>) -> Result<Vec<Finding>, DoctorError> {
    Ok(match session.query_in_savepoint(sql).await? {
        // Only superusers may read the server's files.
        Err(refused) if code == HostRules => vec![refused.needs_a_right(code)],
        Err(refused) => vec![Finding::not_run(code, refused.message)],
        Ok(rows) if rows.is_empty() => vec![Finding::ok(code, ok_text)],
        Ok(rows) => rows.into_iter().map(|row| finding(code, row)).collect(),
    })
}

fn finding(code: Code, row: Row) -> Finding {
    let mut cells = row.into_iter().map(Option::unwrap_or_default);
    let severity = match cells.next().as_deref() {
        Some("info") => Severity::Info,
        Some("warning") => Severity::Warning,
        _ => Severity::Critical,
    };
    let (found, remedy) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
    Finding::new(code, severity, found, remedy)
}

/// The default partition by the catalog: whether it exists, its size, the planner's count of its rows, and a
/// query that counts them.
const DEFAULT_PARTITION: &str = "SELECT p.partdefid::text, pg_relation_size(c.oid)::text, c.reltuples::bigint::text, \
            format('SELECT count(*) FROM (SELECT FROM %s LIMIT 1000) AS few', c.oid::regclass) \
     FROM pg_partitioned_table p LEFT JOIN pg_class c ON c.oid = p.partdefid \
     WHERE p.partrelid = @trail@";

/// Checks that the default partition exists and is empty: by its rows, or by its size if this user may not read
/// it.
async fn default_partition(session: &Session, names: &Names) -> Result<Vec<Finding>, DoctorError> {
    let row = match session.query_in_savepoint(&names.sql(DEFAULT_PARTITION)).await? {
        Err(refused) => return Ok(vec![Finding::not_run(DefaultPartition, refused.message)]),
        Ok(rows) => rows.into_iter().next().unwrap_or_default(),
    };
    let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
    let [partition, size, planned, count] = cells.as_slice() else {
        return Ok(vec![Finding::unchecked(
            DefaultPartition,
            "audit_logs is not partitioned",
        )]);
    };
    // The comparison says that it is missing.
    if partition == "0" {
        return Ok(Vec::new());
    }
    let rows = match session.query_in_savepoint(count).await? {
        Ok(rows) => rows
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .unwrap_or_default(),
        Err(refused) if !refused.lacks_right() => {
            return Ok(vec![Finding::not_run(DefaultPartition, refused.message)]);
        }
        // Never vacuumed, or not empty at the last vacuum.
        Err(_) if size != "0" && planned != "0" => {
            let reason = format!("its file has {size} bytes, so it may hold rows; this user cannot read it");
            return Ok(vec![Finding::unchecked(DefaultPartition, reason)]);
        }
        Err(_) => "0".to_owned(),
    };
    Ok(vec![match rows.as_str() {
        "0" => Finding::ok(DefaultPartition, "exists and is empty"),
        rows => Finding::new(
            DefaultPartition,
            Severity::Warning,
            format!(
                "the default partition holds rows: {rows}{}",
                if rows == "1000" { " or more" } else { "" }
            ),
            names.sql(
                "SELECT month_start, @schema@.audit_logs_move_month(month_start) \
                 FROM @schema@.audit_logs_default_months() WHERE month_start IS NOT NULL;\n\
                 -- or with the command: auditlog partitions move-default",
            ),
        ),
    }])
}

/// Settings by name.
pub(super) type Settings = BTreeMap<String, String>;
