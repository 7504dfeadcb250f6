//! No remedy gives rights, or the trail, to a role that only looks like its owner or like one of its roles.

use audit_ops::doctor::{Code, Finding, Options, Severity};

use super::fixture::{DoctorFixture, of, worst};

/// The lines of remedies that contain the name of a role and do more than take something from it.
fn lines_with(findings: &[Finding], role: &str) -> Vec<String> {
    let remedies = findings.iter().filter_map(|finding| finding.remedy.as_deref());
    let lines = remedies.flat_map(str::lines).filter(|line| line.contains(role));
    lines
        .filter(|line| !["REVOKE ", "DROP "].iter().any(|takes| line.starts_with(takes)))
        .map(str::to_owned)
        .collect()
}

/// No remedy grants it a right, makes it an owner, or makes it one of the trail's roles.
fn assert_gives_nothing_to(findings: &[Finding], role: &str) {
    for finding in findings {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        assert!(
            !remedy.contains(&format!("TO {role}")) && !remedy.contains(&format!("'{role}'")),
            "{finding:#?}"
        );
    }
}

/// PostgreSQL 14 permits everybody to create functions in the schema public. Each of these has the name of one of the
/// trail's, and other arguments.
const OVERLOADS: &str = "DO $do$ DECLARE name text; signature text; BEGIN \
     FOREACH name IN ARRAY ARRAY['audit_logs_drop_month', 'audit_logs_digest', 'audit_logs_lookup', 'audit_role', \
         'audit_logs_index_closed_months'] LOOP \
         FOR i IN 1 .. 30 LOOP \
             signature := format('%I(%s)', name, array_to_string(array_fill('point'::text, ARRAY[i]), ', ')); \
             EXECUTE format('CREATE FUNCTION %s RETURNS int LANGUAGE sql AS ''SELECT 1''', signature); \
             EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO $app_other, $app', signature); \
         END LOOP; \
     END LOOP; END $do$";

#[tokio::test]
async fn no_remedy_gives_anything_to_whoever_owns_most_of_the_schema() {
    let fixture = DoctorFixture::with(&["writer"]).await.few_months().await;
    let plain = fixture.plain().await;
    fixture
        .admin(&format!(
            "GRANT CREATE ON SCHEMA public TO {plain}; CREATE ROLE $app_other"
        ))
        .await;
    let sound = fixture.findings().await;
    assert_eq!(worst(&sound, Code::Membership), Severity::Ok);
    let create = "DO $do$ BEGIN FOR i IN 1 .. 200 LOOP \
                  EXECUTE format('CREATE FUNCTION audit_x%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', i); END LOOP; END $do$";
    fixture.session(&plain, create).await;
    fixture.session(&plain, OVERLOADS).await;
    let findings = fixture.findings().await;
    for says in [
        "public.audit_x200() is not part of the trail".to_owned(),
        "public.audit_logs_drop_month(point,point) is not part of the trail".to_owned(),
        "public.audit_logs_lookup(point) is not part of the trail".to_owned(),
    ] {
        let is_it = |finding: &Finding| finding.found.contains(&says);
        assert!(findings.iter().any(is_it), "{says}: {findings:#?}");
    }
    for role in [plain, fixture.fill("$app_other")] {
        assert_gives_nothing_to(&findings, &role);
    }
    // Each part still has the role that the migrations gave it, and this login has no other.
    for code in [Code::Roles, Code::Membership] {
        let of_sound: Vec<Finding> = of(&sound, code);
        assert_eq!(of(&findings, code), of_sound);
    }
    let given: Vec<&Finding> = findings
        .iter()
        .filter(|finding| {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            remedy.contains(" OWNER TO ") || remedy.contains("INSERT INTO public.audit_roles")
        })
        .collect();
    assert!(given.is_empty(), "{given:#?}");
}

/// Faults whose remedies name the owner.
const NAMING_THE_OWNER: &str = "DROP TABLE audit_logs_default; DROP FUNCTION audit_logs_months(); \
     REVOKE ALL ON FUNCTION audit_hold_release FROM trail_owner; REVOKE ALL ON audit_legal_holds FROM trail_owner; \
     ALTER DATABASE $db OWNER TO trail_owner; ALTER SCHEMA public OWNER TO trail_owner";

#[tokio::test]
async fn no_remedy_gives_the_trail_to_whoever_was_given_audit_logs() {
    let fixture = DoctorFixture::with(&["auditor"]).await.few_months().await;
    let plain = fixture.plain().await;
    fixture.admin(NAMING_THE_OWNER).await;
    fixture
        .admin(&format!("ALTER TABLE audit_logs OWNER TO {plain}"))
        .await;
    // So that the former owner has more of the maintainer's rights, on what it owns, than the maintainer.
    let revoke = "REVOKE ALL ON FUNCTION audit_logs_digest, audit_logs_drop_month, audit_logs_default_months, audit_hold_add \
                  FROM audit_maintainer";
    fixture.admin(revoke).await;
    for login in [fixture.app.as_str(), "trail_owner"] {
        let findings = fixture.findings_of(login, &Options::default()).await;
        let says = format!("is trail_owner instead of {plain}: its owner can");
        let owners: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.found.contains(&says))
            .collect();
        let is_critical = |finding: &&Finding| finding.severity == Severity::Critical;
        assert!(
            owners.len() > 10 && owners.iter().all(is_critical),
            "{findings:#?}"
        );
        for finding in owners {
            let remedy = finding.remedy.as_deref().unwrap();
            assert!(
                remedy.starts_with("-- audit_logs may belong to another role") && remedy.lines().count() == 1,
                "{finding:#?}"
            );
        }
        let lines = lines_with(&findings, &plain);
        assert!(lines.is_empty(), "{login}: {lines:#?}");
        // Each other fault whose remedy would name the owner is found, with the same comment instead.
        let of_login: &[&str] = match login {
            "trail_owner" => &[
                "trail_owner is, or may become, the owner of the schema public",
                "trail_owner is, or may become, the owner of the database",
            ],
            _ => &["the owner of the database", "the owner of the schema public"],
        };
        let others = [
            "public.audit_logs_default is missing",
            "the function public.audit_logs_months() is missing",
            "the owner has no EXECUTE on the function public.audit_hold_release",
            "on public.audit_legal_holds",
            "PUBLIC may USAGE on SCHEMA public",
        ];
        for says in others.iter().chain(of_login) {
            let unclear = findings.iter().find(|finding| {
                let remedy = finding.remedy.as_deref().unwrap_or_default();
                finding.found.contains(says) && remedy.starts_with("-- audit_logs may belong to another role")
            });
            assert!(unclear.is_some(), "{login}: {says}: {findings:#?}");
        }
        let lost = |finding: &Finding| finding.found.starts_with("audit_maintainer may not EXECUTE on ");
        assert!(findings.iter().any(lost), "{findings:#?}");
        // Its rights on what it owns do not make the former owner the maintainer.
        let is_part = |finding: &Finding| finding.found.contains("trail_owner has the rights");
        assert!(!findings.iter().any(is_part), "{findings:#?}");
    }
}

#[tokio::test]
async fn months_that_were_given_away_do_not_make_the_owner_unclear() {
    let fixture = DoctorFixture::with(&["auditor"]).await.few_months().await;
    let plain = fixture.plain().await;
    fixture
        .admin("SELECT audit_logs_ensure_partitions(now() - interval '120 months', now())")
        .await;
    let give = format!(
        "DO $do$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass \
         AND inhrelid <> 'audit_logs_default'::regclass LOOP EXECUTE format('ALTER TABLE %s OWNER TO {plain}', part); END LOOP; END $do$"
    );
    fixture.admin(&give).await;
    let given = async || {
        let findings = of(&fixture.findings().await, Code::Tables);
        let says = format!(" is {plain} instead of trail_owner");
        findings.into_iter().find(|finding| finding.found.contains(&says))
    };
    let found = given().await.unwrap();
    assert!(found.found.starts_with("the owner of 1"), "{found:#?}");
    fixture.remedy(found.remedy.as_deref().unwrap()).await.unwrap();
    assert_eq!(given().await, None);
}

/// Some of the maintainer's functions, so many that another role has more of its rights; the others and the tables belong
/// to the owner.
const OF_ANOTHER_OWNER: &str = "DO $do$ DECLARE f regprocedure; BEGIN \
     FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname <> 'audit_logs_drop_month' \
         AND has_function_privilege('audit_maintainer', oid, 'EXECUTE') \
         AND NOT has_function_privilege('audit_reader', oid, 'EXECUTE') \
     LOOP \
         EXECUTE format('REVOKE ALL ON FUNCTION %s FROM audit_maintainer', f); \
         EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO $app_other, $app', f); \
         EXECUTE format('ALTER FUNCTION %s OWNER TO $app_plain', f); \
     END LOOP; END $do$";

/// As if they were missing, and somebody who may create functions had created them.
#[tokio::test]
async fn functions_of_another_owner_give_no_role_a_part() {
    let fixture = DoctorFixture::with(&["writer"]).await.few_months().await;
    fixture.plain().await;
    let sound = fixture.findings().await;
    assert_eq!(worst(&sound, Code::Membership), Severity::Ok);
    fixture.admin("CREATE ROLE $app_other").await;
    fixture.admin(OF_ANOTHER_OWNER).await;
    let findings = fixture.findings().await;
    let says = fixture.fill(
        "the function public.audit_logs_index_closed_months(integer) is $app_plain instead of trail_owner",
    );
    let is_it = |finding: &Finding| finding.found.contains(&says);
    assert!(findings.iter().any(is_it), "{findings:#?}");
    for code in [Code::Roles, Code::Membership] {
        assert_eq!(of(&findings, code), of(&sound, code));
    }
    for role in ["$app_other", "$app_plain"] {
        assert_gives_nothing_to(&findings, &fixture.fill(role));
    }
}
