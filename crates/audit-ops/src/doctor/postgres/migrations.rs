//! Compares the database's migrations with those of this version.

use std::collections::BTreeSet;

use super::comparison::Names;
use super::session::Session;
use crate::doctor::{Code, DoctorError, Finding, Severity};

/// The names of the migrations.
const MIGRATIONS: [&str; 7] = [
    "2026-11-29-000001_audit_logs",
    "2026-11-29-000002_partitions",
    "2026-11-29-000003_roles_and_tenants",
    "2026-11-29-000004_retention",
    "2026-11-29-000005_look_ups",
    "2026-11-29-000006_feed",
    "2026-11-29-000007_views",
];

/// The version that diesel derives from the name of a migration's directory.
fn version(name: &str) -> String {
    name.split('_').next().unwrap_or_default().replace('-', "")
}

/// Compares the versions that diesel recorded with those of this version.
pub(super) async fn examine(session: &Session, names: &Names) -> Result<Vec<Finding>, DoctorError> {
    let recorded = match session
        .query_in_savepoint(
            &names.sql("SELECT version FROM @schema@.__diesel_schema_migrations ORDER BY version"),
        )
        .await?
    {
        Ok(rows) => rows,
        Err(mut refused) => {
            refused
                .message
                .push_str("; other checks look for what the migrations create");
            return Ok(vec![refused.needs_a_right(Code::Migrations)]);
        }
    };
    let recorded: BTreeSet<String> = recorded.into_iter().flatten().flatten().collect();
    let known: BTreeSet<String> = MIGRATIONS.iter().map(|name| version(name)).collect();
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
        assert_eq!(MIGRATIONS.map(str::to_owned).to_vec(), names);
        assert_eq!(version("2026-11-29-000001_audit_logs"), "20261129000001");
    }
}
