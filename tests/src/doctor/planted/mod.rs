//! Planted faults of the catalog: each is found with its severity, and gone once the remedies have been applied.

mod dependents;
mod functions;
mod guards;
mod rights;
mod roles;
mod tables;

use audit_ops::doctor::{Code, Finding, Options, Severity};

use super::fixture::DoctorFixture;

/// A fault: the oldest version that has it, SQL that plants it, and a part of the finding's text.
pub(super) struct Fault {
    pub since: u32,
    pub code: Code,
    pub severity: Severity,
    pub says: &'static str,
    pub plant: &'static str,
}

/// `Code Severity "says", "plant";`, with `since N` at the end if older versions do not have it.
macro_rules! faults {
    ($($code:ident $severity:ident $says:literal, $plant:literal $(since $since:literal)?;)*) => {
        &[$(super::Fault {
            since: { const VERSIONS: &[u32] = &[14 $(, $since)?]; VERSIONS[VERSIONS.len() - 1] },
            code: audit_ops::doctor::Code::$code,
            severity: audit_ops::doctor::Severity::$severity,
            says: $says,
            plant: $plant,
        }),*]
    };
}
pub(super) use faults;

/// Remedies may reveal further faults: a table that is created again lacks its rights, for example.
const ROUNDS: usize = 3;

/// What was found, without checks that could not be run and the logins of other tests.
async fn found(fixture: &DoctorFixture, login: &str) -> Vec<Finding> {
    let mut findings = fixture.findings_of(login, &Options::default()).await;
    findings.retain(|finding| {
        finding.severity > Severity::Ok
            && !finding.found.starts_with("not checked")
            && !(finding.found.starts_with("app_") && finding.found.contains(" is a member of audit_"))
    });
    findings
}

/// Plants each fault in turn in one database, and repairs it as the doctor says. Reports all that went wrong.
async fn plant_and_repair(fixture: DoctorFixture, list: &[Fault]) {
    let fixture = fixture.few_months().await;
    let login = fixture.app.clone();
    let version: u32 = fixture
        .text("SELECT (current_setting('server_version_num')::int / 10000)::text")
        .await
        .parse()
        .unwrap();
    let sound = found(&fixture, &login).await;
    let mut wrong = Vec::new();
    for fault in list.iter().filter(|fault| fault.since <= version) {
        fixture.admin(fault.plant).await;
        let after = found(&fixture, &login).await;
        let new: Vec<&Finding> = after.iter().filter(|finding| !sound.contains(finding)).collect();
        let is_it = |finding: &&&Finding| {
            (finding.code, finding.severity) == (fault.code, fault.severity)
                && finding.found.contains(&fixture.fill(fault.says))
        };
        if !new.iter().any(|finding| is_it(&finding)) {
            wrong.push(format!(
                "NOT FOUND: {} ({:?} {:?} {:?}): {new:#?}",
                fault.plant, fault.code, fault.severity, fault.says
            ));
        }
        if let Err(left) = repair(&fixture, &login, &sound, after.clone()).await {
            wrong.push(format!("NOT REPAIRED: {}: {new:#?}\n{left}", fault.plant));
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Applies the remedies of what was not there before.
async fn repair(
    fixture: &DoctorFixture,
    login: &str,
    sound: &[Finding],
    mut now: Vec<Finding>,
) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let new = now.iter().filter(|finding| !sound.contains(finding));
        for remedy in new.filter_map(|finding| finding.remedy.as_deref()) {
            let applied = fixture.remedy(remedy).await;
            applied.map_err(|error| format!("{remedy}\n{error}"))?;
        }
        now = found(fixture, login).await;
        // A repair may remove a finding that was there before.
        if now.iter().all(|finding| sound.contains(finding)) {
            return Ok(());
        }
    }
    now.retain(|finding| !sound.contains(finding));
    Err(format!("left: {now:#?}"))
}

#[tokio::test]
async fn changed_tables_and_indexes_are_found_and_repaired() {
    plant_and_repair(DoctorFixture::with(&["auditor"]).await, tables::FAULTS).await;
}

#[tokio::test]
async fn changed_triggers_rules_and_policies_are_found_and_repaired() {
    plant_and_repair(DoctorFixture::with(&["auditor"]).await, guards::FAULTS).await;
}

#[tokio::test]
async fn changed_functions_are_found_and_repaired() {
    plant_and_repair(DoctorFixture::with(&["auditor"]).await, functions::FAULTS).await;
}

#[tokio::test]
async fn changed_rights_are_found_and_repaired() {
    plant_and_repair(DoctorFixture::with(&["auditor"]).await, rights::FAULTS).await;
}

#[tokio::test]
async fn objects_that_depend_on_the_trail_are_found_and_removed() {
    plant_and_repair(DoctorFixture::with(&["auditor"]).await, dependents::FAULTS).await;
}

/// Roles belong to the server, so that no other test may use it.
#[tokio::test]
async fn changed_roles_and_settings_are_found_and_repaired() {
    plant_and_repair(DoctorFixture::alone(&["auditor"]).await, roles::FAULTS).await;
}

#[test]
fn the_lists_have_more_than_200_faults() {
    let lists = [
        tables::FAULTS,
        guards::FAULTS,
        functions::FAULTS,
        rights::FAULTS,
        dependents::FAULTS,
        roles::FAULTS,
    ];
    let planted: usize = lists.iter().map(|list| list.len()).sum();
    assert!(planted > 200, "{planted}");
}
