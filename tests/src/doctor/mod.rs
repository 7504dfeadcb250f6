//! The doctor finds every fault and no other, and changes nothing.

mod description;
mod faults;
pub mod fixture;
mod hostile;
mod intrusions;
mod owner;
mod planted;
mod servers;
mod setups;
mod sqlite;

use std::collections::BTreeSet;

use audit_ops::doctor::{Code, Options, Severity, examine};
use db_services::audit::{AuditEntry, Delivery};
use db_services::client::Database;
use fixture::{DoctorFixture, faults, invasive, of, tenant, without_server_faults};

use crate::attacks::fixture::connect;
use crate::support::{TIMEOUT, wait_for, writer_to};

/// Two rows of two tenants.
const ROWS: &str = "INSERT INTO audit_logs (tenant_id, action) VALUES ('acme', 'x'), ('globex', 'x')";

#[tokio::test]
async fn a_sound_database_has_no_findings_for_any_kind_of_login() {
    for roles in [
        &["writer"][..],
        &["reader"],
        &["writer", "reader"],
        &["auditor"],
        &["maintainer"],
    ] {
        let fixture = DoctorFixture::sound(roles).await;
        fixture.admin(ROWS).await;
        for options in [Options::default(), invasive(), tenant("acme")] {
            let findings = fixture.findings_of(&fixture.app, &options).await;
            assert_eq!(faults(&findings), [""; 0], "{roles:?} {options:?}");
        }
        let findings = fixture.findings_of(&fixture.app, &invasive()).await;
        let unchecked: Vec<_> = findings
            .iter()
            .filter(|f| f.found.starts_with("not checked"))
            .collect();
        // Only superusers may read the server's rules, only the owner diesel's table, and only an auditor every row.
        assert!(
            unchecked
                .iter()
                .all(|f| [Code::HostRules, Code::Migrations, Code::Continuity].contains(&f.code)),
            "{roles:?}: {unchecked:#?}"
        );
    }
}

#[tokio::test]
async fn refusals_are_proven_on_stored_rows() {
    let fixture = DoctorFixture::with(&["writer", "reader"]).await;
    let findings = fixture.findings().await;
    for (code, found) in [
        (Code::Writable, "rows were inserted"),
        (Code::RowUpdate, "no right (42501)"),
        (Code::RowDelete, "no right (42501)"),
        (Code::Forgery, "no right (42501)"),
        (Code::TenantRead, "of two stored rows, a tenant sees only its own"),
    ] {
        let of = of(&findings, code);
        assert!(
            of.iter()
                .all(|f| f.severity == Severity::Ok && f.found.contains(found)),
            "{of:#?}"
        );
    }
    // The owner has all privileges, so the triggers refuse.
    let owner = fixture.findings_of("trail_owner", &Options::default()).await;
    for code in [Code::RowUpdate, Code::RowDelete] {
        let of = of(&owner, code);
        assert!(
            of.iter()
                .all(|f| f.severity == Severity::Ok && f.found.contains("UA001")),
            "{of:#?}"
        );
    }
    assert!(
        faults(&owner)
            .iter()
            .any(|fault| fault.starts_with("USER critical")),
        "{owner:#?}"
    );
}

#[tokio::test]
async fn a_reader_proves_tenant_isolation_without_inserting_rows() {
    let fixture = DoctorFixture::with(&["reader"]).await;
    let read = async |options: &Options| {
        of(
            &fixture.findings_of(&fixture.app, options).await,
            Code::TenantRead,
        )
    };
    let empty = read(&Options::default()).await;
    assert!(empty[0].found.contains("there are no rows"), "{empty:#?}");
    fixture.admin(ROWS).await;
    let none = read(&Options::default()).await;
    assert!(
        none[0].severity == Severity::Ok && none[0].found.starts_with("there are rows"),
        "{none:#?}"
    );
    let acme = read(&tenant("acme")).await;
    assert!(
        acme[0].severity == Severity::Ok && acme[0].found.starts_with("the given tenant sees its own rows"),
        "{acme:#?}"
    );
    let unknown = read(&tenant("nobody'; DROP TABLE audit_logs; --")).await;
    assert!(unknown[0].found.contains("has no rows"), "{unknown:#?}");
}

/// Everything in the database that a statement could change, except the server's own counters.
const SNAPSHOT: &str = "SELECT md5(concat_ws('|', \
    (SELECT string_agg(c::text, ',' ORDER BY c) FROM (SELECT oid::text || relname || relfilenode || relrowsecurity || coalesce(relacl::text, '') || reltuples::text FROM pg_class WHERE relkind <> 'i') t (c)), \
    (SELECT string_agg(attrelid::text || attname || attnum || attisdropped || coalesce(attacl::text, ''), ',' ORDER BY attrelid, attnum) FROM pg_attribute), \
    (SELECT string_agg(oid::text || tgname || tgenabled::text, ',' ORDER BY oid) FROM pg_trigger), \
    (SELECT string_agg(p::text, ',' ORDER BY oid) FROM pg_policy p), \
    (SELECT string_agg(inhrelid::text || inhparent || inhdetachpending, ',' ORDER BY inhrelid) FROM pg_inherits), \
    (SELECT string_agg(oid::text || md5(p::text), ',' ORDER BY oid) FROM pg_proc p), \
    (SELECT string_agg(s::text, ',' ORDER BY setdatabase, setrole) FROM pg_db_role_setting s WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())), \
    (SELECT string_agg(a::text, ',' ORDER BY id) FROM audit_logs a)))";

#[tokio::test]
async fn an_examination_leaves_no_trace() {
    let fixture = DoctorFixture::with(&["writer", "reader"]).await;
    fixture.admin(ROWS).await;
    let before = fixture.text(SNAPSHOT).await;
    for login in [&fixture.app, "trail_owner", "postgres"] {
        fixture.findings_of(login, &invasive()).await;
        assert_eq!(fixture.text(SNAPSHOT).await, before, "{login}");
    }
    assert_eq!(fixture.text("SELECT count(*)::text FROM audit_logs").await, "2");
    let advisory = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    // A session ends a moment after its client.
    wait_for("the advisory locks to be released", async || {
        fixture.text(advisory).await == "0"
    })
    .await;
    // Proof that the snapshot shows a change.
    fixture
        .admin("ALTER TABLE $month DISABLE TRIGGER audit_logs_no_truncate")
        .await;
    assert_ne!(fixture.text(SNAPSHOT).await, before);
}

/// Lock conflicts are symmetric: if a writer's open transaction does not block the doctor, the doctor does
/// not block a writer.
#[tokio::test]
async fn an_examination_needs_no_lock_that_blocks_a_writer() {
    let fixture = DoctorFixture::with(&["writer", "reader"]).await;
    let writer = connect(&fixture.app_url()).await;
    writer
        .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    for login in [&fixture.app, "trail_owner"] {
        let findings = fixture.findings_of(login, &Options::default()).await;
        let waited: Vec<_> = findings
            .iter()
            .filter(|finding| finding.found.contains("200 ms"))
            .collect();
        assert!(waited.is_empty(), "{login}: {waited:#?}");
    }
    writer
        .batch_execute("INSERT INTO audit_logs (action) VALUES ('y'); COMMIT")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_invasive_part_gives_up_while_a_writer_has_locked_the_table() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    let writer = connect(&fixture.app_url()).await;
    writer
        .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    let busy = of(
        &fixture.findings_of("trail_owner", &invasive()).await,
        Code::OwnerStatements,
    );
    assert_eq!(busy.len(), 1, "{busy:#?}");
    assert!(
        busy[0].found.contains("stopped at TRUNCATE audit_logs"),
        "{busy:#?}"
    );
    writer
        .batch_execute("INSERT INTO audit_logs (action) VALUES ('y'); COMMIT")
        .await
        .unwrap();
    let free = of(
        &fixture.findings_of("trail_owner", &invasive()).await,
        Code::OwnerStatements,
    );
    assert_eq!(
        (free.len(), free[0].severity),
        (1, Severity::Critical),
        "{free:#?}"
    );
    assert!(free[0].found.contains("DROP TABLE audit_logs"), "{free:#?}");
    assert!(
        !free[0].found.contains("TRUNCATE"),
        "the triggers refuse TRUNCATE: {free:#?}"
    );
    assert_eq!(fixture.text("SELECT count(*)::text FROM audit_logs").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_writer_loses_nothing_during_an_examination() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    let (writer, guard) = writer_to(Database::from_url(&fixture.app_url()).unwrap())
        .start()
        .unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..500 {
            let entry = AuditEntry::new("test.write").resource("number", n.to_string());
            assert_eq!(writer.write(entry).await, Delivery::Committed);
        }
    });
    while !writing.is_finished() {
        assert_eq!(without_server_faults(faults(&fixture.findings().await)), [""; 0]);
        fixture.findings_of("trail_owner", &invasive()).await;
    }
    writing.await.unwrap();
    guard.shutdown(TIMEOUT).await;
    let stored = "SELECT count(*)::text FROM audit_logs WHERE action = 'test.write'";
    assert_eq!(fixture.text(stored).await, "500");
}

#[test]
fn the_documentation_explains_every_code_and_no_other() {
    let page = include_str!("../../../docs/doctor.md");
    let explained: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| title.trim_matches('`'))
        .collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(explained, codes);
    let distinct: BTreeSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), codes.len());
    for code in Code::ALL {
        let section = page.split(&format!("### `{}`\n", code.as_str())).nth(1).unwrap();
        let section = section.split("\n### ").next().unwrap();
        for control in code.controls() {
            assert!(section.contains(control), "{}: {control}", code.as_str());
        }
        assert!(
            section.contains(code.check()),
            "{}: {}",
            code.as_str(),
            code.check()
        );
    }
}

#[tokio::test]
async fn the_report_in_markdown_contains_every_finding_and_no_password() {
    let fixture = DoctorFixture::sound(&["writer"]).await;
    fixture.admin("GRANT TRIGGER ON audit_logs TO audit_reader").await;
    let database = Database::from_url(&fixture.app_url()).unwrap();
    let report = examine(&database, &Options::default()).await.unwrap();
    assert_eq!(report.worst(), Severity::Warning);
    let text = report.markdown();
    assert!(
        !text.contains(":pw@") && text.contains("postgres://\\*\\*\\*@"),
        "{text}"
    );
    assert!(text.contains(&format!("| user | {} |", fixture.app)), "{text}");
    assert!(text.contains("| server | PostgreSQL "), "{text}");
    assert!(
        text.contains("    REVOKE TRIGGER ON TABLE public.audit_logs FROM audit_reader CASCADE;"),
        "{text}"
    );
    for code in Code::ALL
        .iter()
        .filter(|code| report.findings.iter().any(|f| f.code == **code))
    {
        assert!(
            text.contains(&format!("| {} |", code.as_str())),
            "{}",
            code.as_str()
        );
    }
}
