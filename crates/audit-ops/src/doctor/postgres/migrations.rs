//! Compares the database's migrations and functions with those of this version.

use std::collections::BTreeSet;

use super::session::Session;
use crate::doctor::{Code, DoctorError, Finding, Severity};

/// The migrations: name and SQL.
const MIGRATIONS: [(&str, &str); 4] = [
    (
        "2026-11-29-000001_audit_logs",
        include_str!("../../../../../migrations/postgres/2026-11-29-000001_audit_logs/up.sql"),
    ),
    (
        "2026-11-29-000002_partitions",
        include_str!("../../../../../migrations/postgres/2026-11-29-000002_partitions/up.sql"),
    ),
    (
        "2026-11-29-000003_roles_and_tenants",
        include_str!("../../../../../migrations/postgres/2026-11-29-000003_roles_and_tenants/up.sql"),
    ),
    (
        "2026-11-29-000004_retention",
        include_str!("../../../../../migrations/postgres/2026-11-29-000004_retention/up.sql"),
    ),
];

/// The version that diesel derives from the name of a migration's directory.
fn version(name: &str) -> String {
    name.split('_').next().unwrap_or_default().replace('-', "")
}

/// Compares the versions that diesel recorded with those of this version.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let recorded = match session
        .query_in_savepoint("SELECT version FROM __diesel_schema_migrations ORDER BY version")
        .await?
    {
        Ok(rows) => rows,
        Err(message) => {
            let reason = format!("{message}; other checks look for what the migrations create");
            return Ok(vec![Finding::unchecked(Code::Migrations, reason)]);
        }
    };
    let recorded: BTreeSet<String> = recorded.into_iter().flatten().flatten().collect();
    let known: BTreeSet<String> = MIGRATIONS.iter().map(|(name, _)| version(name)).collect();
    let list = |versions: Vec<&String>| versions.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (pending, newer) = (
        list(known.difference(&recorded).collect()),
        list(recorded.difference(&known).collect()),
    );
    let mut findings = Vec::new();
    if !pending.is_empty() {
        findings.push(Finding::new(
            Code::Migrations,
            Severity::Warning,
            format!("the database lacks the migrations {pending}"),
            "auditlog migrate\n-- as the table's owner",
        ));
    }
    if !newer.is_empty() {
        // Other programs may use the same table of diesel.
        findings.push(Finding::new(
            Code::Migrations,
            Severity::Info,
            format!("the database has migrations that this version does not know: {newer}"),
            "",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Code::Migrations, format!("all {}", known.len())));
    }
    Ok(findings)
}

/// The functions in the table's schema with their bodies. A body is null if PostgreSQL stores it parsed.
const BODIES: &str = "SELECT p.proname, p.oid::regprocedure::text, p.prosrc, quote_ident(n.nspname) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.pronamespace = n.oid \
     WHERE c.oid = 'audit_logs'::regclass AND p.proname LIKE 'audit!_%' ESCAPE '!'";

/// Checks that each function of the migrations exists, and that its body is exactly that of a migration.
pub(super) async fn compare_functions(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let rows = match session.query_in_savepoint(BODIES).await? {
        Ok(rows) => rows,
        Err(message) => return Ok(vec![Finding::unchecked(Code::Functions, message)]),
    };
    let mut missing = function_names();
    let mut findings = Vec::new();
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [name, signature, body, schema] = cells.as_slice() else {
            continue;
        };
        if !missing.contains(name.as_str()) && !function_names().contains(name.as_str()) {
            continue;
        }
        missing.remove(name.as_str());
        if !MIGRATIONS
            .iter()
            .any(|(_, sql)| sql.replace("@schema@", schema).contains(body))
        {
            findings.push(Finding::new(
                Code::Functions,
                if name == "audit_logs_refuse_change" {
                    Severity::Critical
                } else {
                    Severity::Warning
                },
                format!("the body of {signature} differs from the migrations"),
                format!(
                    "-- restore its body from migrations/postgres ({name}) with CREATE OR REPLACE FUNCTION"
                ),
            ));
        }
    }
    if !missing.is_empty() {
        let names = Vec::from_iter(missing).join(", ");
        findings.push(Finding::new(
            Code::Functions,
            Severity::Warning,
            format!("functions are missing: {names}"),
            "auditlog migrate\n-- as the table's owner; if it is up to date, restore them from migrations/postgres",
        ));
    }
    Ok(findings)
}

/// The names of all functions that the migrations create.
fn function_names() -> BTreeSet<&'static str> {
    let texts = MIGRATIONS
        .iter()
        .flat_map(|(_, sql)| sql.split("CREATE ").skip(1));
    texts
        .filter_map(|text| {
            text.strip_prefix("OR REPLACE ")
                .unwrap_or(text)
                .strip_prefix("FUNCTION ")
        })
        .filter_map(|text| text.split('(').next())
        .map(|name| name.trim_start_matches("@schema@."))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_postgres_migration_is_known_to_the_doctor() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(MIGRATIONS.map(|(name, _)| name.to_owned()).to_vec(), names);
        assert_eq!(version("2026-11-29-000001_audit_logs"), "20261129000001");
    }

    #[test]
    fn function_names_are_extracted_from_the_migrations() {
        for name in [
            "audit_logs_refuse_change",
            "audit_logs_ensure_partitions",
            "audit_role",
            "audit_uuid_v7",
        ] {
            assert!(function_names().contains(name), "{name}");
        }
        assert!(
            function_names().iter().all(|name| name.starts_with("audit_")),
            "{:?}",
            function_names()
        );
    }
}
