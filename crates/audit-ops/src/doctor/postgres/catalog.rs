//! What does the catalog say? Each check is one query, which gives a row for each fault: how bad, what,
//! and the way out.

use std::collections::BTreeMap;

use super::migrations;
use super::session::{Row, Session};
use crate::doctor::Code::{self, *};
use crate::doctor::{DoctorError, Finding, Severity};

/// A check: its code, its query, and what is said when the query gives no row.
type Check = (Code, &'static str, &'static str);

const CHECKS: [Check; 11] = [
    (
        User,
        include_str!("checks/user.sql"),
        "neither superuser nor owner",
    ),
    (
        Membership,
        include_str!("checks/membership.sql"),
        "its roles fit together",
    ),
    (Roles, include_str!("checks/roles.sql"), "all four"),
    (
        Grants,
        include_str!("checks/grants.sql"),
        "none that is too much, none missing",
    ),
    (
        RowSecurity,
        include_str!("checks/row_security.sql"),
        "on, with its three policies",
    ),
    (
        Triggers,
        include_str!("checks/triggers.sql"),
        "on every partition, always on",
    ),
    (
        StrangeTriggers,
        include_str!("checks/strange_triggers.sql"),
        "none",
    ),
    (
        Functions,
        include_str!("checks/functions.sql"),
        "as they were made",
    ),
    (
        Indexes,
        include_str!("checks/indexes.sql"),
        "all there, all valid",
    ),
    (
        MonthsAhead,
        include_str!("checks/months_ahead.sql"),
        "for three months or more",
    ),
    (StrayTables, include_str!("checks/stray_tables.sql"), "none"),
];

const HOST_RULES: Check = (
    HostRules,
    include_str!("checks/host_rules.sql"),
    "none lets anybody in unencrypted or unknown",
);

/// From here on names mean the trail's own schema and the built-in ones, whatever is in the user's
/// search_path. Gives null if there is no table.
const PIN: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname) || ', pg_temp', true) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass('audit_logs')";

/// Takes the transaction into the table's schema; false if there is no table.
pub(super) async fn pin(session: &Session) -> Result<bool, DoctorError> {
    Ok(session.value(PIN).await?.is_some())
}

/// Runs all checks in a transaction whose search_path is pinned.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let mut findings = Vec::new();
    for check in &CHECKS {
        findings.extend(run(session, check).await?);
    }
    findings.extend(migrations::examine(session).await?);
    let bodies = migrations::bodies(session).await?;
    if !bodies.is_empty() {
        findings.retain(|finding| finding.code != Functions || finding.severity > Severity::Ok);
        findings.extend(bodies);
    }
    findings.extend(default_partition(session).await?);
    Ok(findings)
}

/// Who may enter by pg_hba.conf; needs no table.
pub(super) async fn host_rules(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    run(session, &HOST_RULES).await
}

async fn run(session: &Session, &(code, sql, fine): &Check) -> Result<Vec<Finding>, DoctorError> {
    Ok(match session.asked(sql).await? {
        Err(why) => vec![Finding::unchecked(code, why)],
        Ok(rows) if rows.is_empty() => vec![Finding::ok(code, fine)],
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

/// Its state by the catalog: whether it is there, its size, and the planner's count of its rows.
const DEFAULT: &str = "SELECT p.partdefid::text, pg_relation_size(c.oid)::text, c.reltuples::bigint::text, \
            format('SELECT count(*) FROM (SELECT FROM %s LIMIT 1000) AS few', c.oid::regclass) \
     FROM pg_partitioned_table p LEFT JOIN pg_class c ON c.oid = p.partdefid \
     WHERE p.partrelid = 'audit_logs'::regclass";

/// Whether the default partition is there and holds nothing. Who may not read it goes by its size.
async fn default_partition(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let row = match session.asked(DEFAULT).await? {
        Err(why) => return Ok(vec![Finding::unchecked(DefaultPartition, why)]),
        Ok(rows) => rows.into_iter().next().unwrap_or_default(),
    };
    let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
    let [partition, size, planned, count] = cells.as_slice() else {
        return Ok(vec![Finding::unchecked(
            DefaultPartition,
            "audit_logs is not partitioned",
        )]);
    };
    if partition == "0" {
        return Ok(vec![Finding::new(
            DefaultPartition,
            Severity::Warning,
            "there is no default partition: a row of a month without a partition is refused",
            "CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;\n\
             -- then what the checks TRIGGERS, GRANTS and ROW_SECURITY name",
        )]);
    }
    let rows = match session.asked(count).await? {
        Ok(rows) => rows
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .unwrap_or_default(),
        // Never vacuumed, or with rows by the last vacuum.
        Err(_) if size != "0" && planned != "0" => {
            let why =
                format!("its file has {size} bytes, so that it may hold rows; this user cannot read it");
            return Ok(vec![Finding::unchecked(DefaultPartition, why)]);
        }
        Err(_) => "0".to_owned(),
    };
    Ok(vec![match rows.as_str() {
        "0" => Finding::ok(DefaultPartition, "there, and empty"),
        rows => Finding::new(
            DefaultPartition,
            Severity::Warning,
            format!(
                "the default partition holds rows: {rows}{}",
                if rows == "1000" { " or more" } else { "" }
            ),
            "SELECT month_start, audit_logs_move_month(month_start) FROM audit_logs_default_months() WHERE month_start IS NOT NULL;\n\
             -- the same by the command: auditlog partitions adopt-strays",
        ),
    }])
}

/// Settings by their names.
pub(super) type Settings = BTreeMap<String, String>;
