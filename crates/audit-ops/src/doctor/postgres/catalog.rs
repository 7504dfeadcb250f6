//! The checks of the catalog. Each is one query that returns a row for each fault: severity, text and remedy.

use std::collections::BTreeMap;

use super::migrations;
use super::session::{Row, Session};
use crate::doctor::Code::{self, *};
use crate::doctor::{DoctorError, Finding, Severity};

/// A check: its code, its query, and the text to report if the query returns no row.
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
        "its roles are compatible",
    ),
    (Roles, include_str!("checks/roles.sql"), "all four"),
    (
        Grants,
        include_str!("checks/grants.sql"),
        "no excess rights, none missing",
    ),
    (
        RowSecurity,
        include_str!("checks/row_security.sql"),
        "on, with its three policies",
    ),
    (
        Triggers,
        include_str!("checks/triggers.sql"),
        "on every partition, always enabled",
    ),
    (OtherTriggers, include_str!("checks/other_triggers.sql"), "none"),
    (
        Functions,
        include_str!("checks/functions.sql"),
        "as the migrations created them",
    ),
    (
        Indexes,
        include_str!("checks/indexes.sql"),
        "all exist and are valid",
    ),
    (
        UpcomingPartitions,
        include_str!("checks/upcoming_partitions.sql"),
        "for three months or more",
    ),
    (
        UnattachedTables,
        include_str!("checks/unattached_tables.sql"),
        "none",
    ),
];

const HOST_RULES: Check = (
    HostRules,
    include_str!("checks/host_rules.sql"),
    "every rule requires encryption and authentication",
);

/// Restricts names to the built-in schema and the trail's, independent of the user's search_path. Returns null
/// if there is no table.
const PIN_SEARCH_PATH: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname) || ', pg_temp', true) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass('audit_logs')";

/// Pins the transaction's search_path to the table's schema. Returns false if there is no table.
pub(super) async fn pin_search_path(session: &Session) -> Result<bool, DoctorError> {
    Ok(session.value(PIN_SEARCH_PATH).await?.is_some())
}

/// Runs all checks. The caller has pinned the search_path.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let mut findings = Vec::new();
    for check in &CHECKS {
        findings.extend(run(session, check).await?);
    }
    findings.extend(migrations::examine(session).await?);
    let changed = migrations::compare_functions(session).await?;
    if !changed.is_empty() {
        findings.retain(|finding| finding.code != Functions || finding.severity > Severity::Ok);
        findings.extend(changed);
    }
    findings.extend(default_partition(session).await?);
    Ok(findings)
}

/// Checks pg_hba.conf. Does not need the table.
pub(super) async fn host_rules(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    run(session, &HOST_RULES).await
}

async fn run(session: &Session, &(code, sql, ok_text): &Check) -> Result<Vec<Finding>, DoctorError> {
    Ok(match session.query_in_savepoint(sql).await? {
        Err(message) => vec![Finding::unchecked(code, message)],
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
     WHERE p.partrelid = 'audit_logs'::regclass";

/// Checks that the default partition exists and is empty: by its rows, or by its size if this user may not read
/// it.
async fn default_partition(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let row = match session.query_in_savepoint(DEFAULT_PARTITION).await? {
        Err(message) => return Ok(vec![Finding::unchecked(DefaultPartition, message)]),
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
             -- then apply the remedies of TRIGGERS, GRANTS and ROW_SECURITY",
        )]);
    }
    let rows = match session.query_in_savepoint(count).await? {
        Ok(rows) => rows
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .unwrap_or_default(),
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
            "SELECT month_start, audit_logs_move_month(month_start) FROM audit_logs_default_months() WHERE month_start IS NOT NULL;\n\
             -- or with the command: auditlog partitions move-default",
        ),
    }])
}

/// Settings by name.
pub(super) type Settings = BTreeMap<String, String>;
