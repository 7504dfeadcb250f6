//! Are the tables and functions those of this version?

use std::collections::BTreeSet;

use super::session::Session;
use crate::doctor::{Code, DoctorError, Finding, Severity};

/// What each migration runs.
const SQL: [(&str, &str); 4] = [
    (
        "2026-11-28-000001_audit_logs",
        include_str!("../../../../../migrations/postgres/2026-11-28-000001_audit_logs/up.sql"),
    ),
    (
        "2026-11-28-000002_partitions",
        include_str!("../../../../../migrations/postgres/2026-11-28-000002_partitions/up.sql"),
    ),
    (
        "2026-11-28-000003_roles_and_tenants",
        include_str!("../../../../../migrations/postgres/2026-11-28-000003_roles_and_tenants/up.sql"),
    ),
    (
        "2026-11-28-000004_retention",
        include_str!("../../../../../migrations/postgres/2026-11-28-000004_retention/up.sql"),
    ),
];

/// diesel's version of a migration, from its directory's name.
fn version(name: &str) -> String {
    name.split('_').next().unwrap_or_default().replace('-', "")
}

/// Compares what diesel noted with what this version has.
pub(super) async fn examine(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let noted = match session
        .asked("SELECT version FROM __diesel_schema_migrations ORDER BY version")
        .await?
    {
        Ok(rows) => rows,
        Err(why) => {
            let why = format!("{why}; what the migrations make is looked for itself");
            return Ok(vec![Finding::unchecked(Code::Migrations, why)]);
        }
    };
    let noted: BTreeSet<String> = noted.into_iter().flatten().flatten().collect();
    let ours: BTreeSet<String> = SQL.iter().map(|(name, _)| version(name)).collect();
    let list = |versions: Vec<&String>| versions.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (pending, newer) = (
        list(ours.difference(&noted).collect()),
        list(noted.difference(&ours).collect()),
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
        // Other programs' migrations may share diesel's table.
        findings.push(Finding::new(
            Code::Migrations,
            Severity::Info,
            format!("the database has migrations that this version does not know: {newer}"),
            "",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Code::Migrations, format!("all {}", ours.len())));
    }
    Ok(findings)
}

/// The functions in the table's schema with their bodies; none for those that PostgreSQL keeps parsed.
const BODIES: &str = "SELECT p.proname, p.oid::regprocedure::text, p.prosrc, quote_ident(n.nspname) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.pronamespace = n.oid \
     WHERE c.oid = 'audit_logs'::regclass AND p.proname LIKE 'audit\\_%'";

/// Looks for each function that the migrations make, and whether its body is a migration's, to the
/// letter.
pub(super) async fn bodies(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let rows = match session.asked(BODIES).await? {
        Ok(rows) => rows,
        Err(why) => return Ok(vec![Finding::unchecked(Code::Functions, why)]),
    };
    let mut missing = functions();
    let mut findings = Vec::new();
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [name, named, body, home] = cells.as_slice() else {
            continue;
        };
        if !missing.contains(name.as_str()) && !functions().contains(name.as_str()) {
            continue;
        }
        missing.remove(name.as_str());
        if !SQL
            .iter()
            .any(|(_, sql)| sql.replace("@schema@", home).contains(body))
        {
            findings.push(Finding::new(
                Code::Functions,
                if name == "audit_logs_refuse_change" { Severity::Critical } else { Severity::Warning },
                format!("{named} does not do what the migrations made it do"),
                format!("-- put back the body that migrations/postgres has for {name}, by CREATE OR REPLACE FUNCTION"),
            ));
        }
    }
    if !missing.is_empty() {
        let names = Vec::from_iter(missing).join(", ");
        findings.push(Finding::new(
            Code::Functions,
            Severity::Warning,
            format!("functions are missing: {names}"),
            "auditlog migrate\n-- as the table's owner; if that finds nothing to do, put them back from migrations/postgres",
        ));
    }
    Ok(findings)
}

/// The names of all functions that the migrations make.
fn functions() -> BTreeSet<&'static str> {
    let texts = SQL.iter().flat_map(|(_, sql)| sql.split("CREATE ").skip(1));
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
    fn no_migration_is_forgotten() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
        let mut there: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(SQL.map(|(name, _)| name.to_owned()).to_vec(), there);
        assert_eq!(version("2026-11-28-000001_audit_logs"), "20261128000001");
    }

    #[test]
    fn functions_are_found_in_the_migrations() {
        for name in [
            "audit_logs_refuse_change",
            "audit_logs_ensure_partitions",
            "audit_role",
            "audit_uuid_v7",
        ] {
            assert!(functions().contains(name), "{name}");
        }
        assert!(
            functions().iter().all(|name| name.starts_with("audit_")),
            "{:?}",
            functions()
        );
    }
}
