//! Settings of the server, and of this user's session, that weaken the trail.

use super::catalog::Settings;
use crate::doctor::{Code, Finding, Severity};

/// Settings of the server with which PostgreSQL hides damage or lets tables decay, and what they do. Those of roles and
/// of the database are part of the comparison.
const HARMFUL: [(&str, &str, Severity, &str); 5] = [
    (
        "zero_damaged_pages",
        "on",
        Severity::Warning,
        "rows on damaged pages vanish without an error",
    ),
    (
        "ignore_checksum_failure",
        "on",
        Severity::Warning,
        "damaged rows are shown as if they were sound",
    ),
    (
        "allow_system_table_mods",
        "on",
        Severity::Warning,
        "a superuser can change the catalog unnoticed",
    ),
    (
        "autovacuum",
        "off",
        Severity::Info,
        "dead rows and old transaction numbers are not cleaned up",
    ),
    (
        "track_counts",
        "off",
        Severity::Info,
        "autovacuum does not know which tables it must clean up",
    ),
];

pub(super) fn examine(settings: &Settings, tenant: &str) -> Vec<Finding> {
    let is_set = |(name, harmful, ..): &&(&str, &str, Severity, &str)| {
        settings.get(*name).is_some_and(|setting| setting == harmful)
    };
    let found = HARMFUL
        .iter()
        .filter(is_set)
        .map(|(name, harmful, severity, consequence)| {
            Finding::new(
                Code::Settings,
                *severity,
                format!("{name} is {harmful}: {consequence}"),
                format!("ALTER SYSTEM RESET {name};\nSELECT pg_reload_conf();\n-- and in postgresql.conf"),
            )
        });
    let default_tenant = (!tenant.is_empty()).then(|| {
        Finding::new(
            Code::Settings,
            Severity::Critical,
            format!("audit.tenant_id is {tenant} when a session of this user begins: a reader that sets no tenant sees the rows of this one"),
            "-- remove it from postgresql.conf, from the URL, and from ALTER ROLE and ALTER DATABASE",
        )
    });
    found.chain(default_tenant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_hide_damage_and_a_tenant_by_default_are_found() {
        let examine = |settings: &[(&str, &str)], tenant: &str| {
            let settings = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let found = examine(&settings.collect(), tenant);
            found.iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        assert_eq!(
            examine(&[("zero_damaged_pages", "off"), ("autovacuum", "on")], ""),
            []
        );
        assert_eq!(
            examine(&[("zero_damaged_pages", "on"), ("autovacuum", "off")], "t1"),
            [Severity::Warning, Severity::Info, Severity::Critical]
        );
    }
}
