//! Does the doctor find what is wrong, nothing where all is well, and leave all as it was?

mod faults;
mod place;
mod servers;
mod sqlite;

use std::collections::BTreeSet;

use audit_ops::doctor::{Code, Options, Severity, examine};
use db_services::audit::{AuditEntry, Delivery};
use db_services::client::Database;
use place::{Place, but_for_the_server, faults, invasive, of, tenant};

use crate::attacks::field::connect;
use crate::support::{TIMEOUT, wait_for, writer_to};

/// Two rows of two tenants.
const ROWS: &str = "INSERT INTO audit_logs (tenant_id, action) VALUES ('acme', 'x'), ('globex', 'x')";

#[tokio::test]
async fn all_is_well_for_each_kind_of_login() {
    for roles in [
        &["writer"][..],
        &["reader"],
        &["writer", "reader"],
        &["auditor"],
        &["maintainer"],
    ] {
        let place = Place::sound(roles).await;
        place.admin(ROWS).await;
        for options in [Options::default(), invasive(), tenant("acme")] {
            let findings = place.findings_of(&place.app, &options).await;
            assert_eq!(faults(&findings), [""; 0], "{roles:?} {options:?}");
        }
        let findings = place.findings_of(&place.app, &invasive()).await;
        let unchecked: Vec<_> = findings
            .iter()
            .filter(|f| f.found.starts_with("not checked"))
            .collect();
        // The server's rules are for superusers to read, diesel's table for the owner.
        assert!(
            unchecked
                .iter()
                .all(|f| [Code::HostRules, Code::Migrations].contains(&f.code)),
            "{roles:?}: {unchecked:#?}"
        );
    }
}

#[tokio::test]
async fn refusals_are_proven_on_rows_that_are_there() {
    let place = Place::with(&["writer", "reader"]).await;
    let findings = place.findings().await;
    for (code, found) in [
        (Code::Writable, "rows were inserted"),
        (Code::RowUpdate, "no right to (42501)"),
        (Code::RowDelete, "no right to (42501)"),
        (Code::Forgery, "no right to (42501)"),
        (
            Code::TenantRead,
            "of two rows that are there, one tenant's own is seen",
        ),
    ] {
        let of = of(&findings, code);
        assert!(
            of.iter()
                .all(|f| f.severity == Severity::Ok && f.found.contains(found)),
            "{of:#?}"
        );
    }
    // The owner has every right, so that it is the triggers that refuse.
    let owner = place.findings_of("trail_owner", &Options::default()).await;
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
async fn a_reader_proves_it_without_rows_of_its_own() {
    let place = Place::with(&["reader"]).await;
    let read = async |options: &Options| of(&place.findings_of(&place.app, options).await, Code::TenantRead);
    let empty = read(&Options::default()).await;
    assert!(empty[0].found.contains("there are no rows"), "{empty:#?}");
    place.admin(ROWS).await;
    let none = read(&Options::default()).await;
    assert!(
        none[0].severity == Severity::Ok && none[0].found.starts_with("there are rows"),
        "{none:#?}"
    );
    let acme = read(&tenant("acme")).await;
    assert!(
        acme[0].severity == Severity::Ok && acme[0].found.starts_with("rows of the tenant"),
        "{acme:#?}"
    );
    let unknown = read(&tenant("nobody'; DROP TABLE audit_logs; --")).await;
    assert!(unknown[0].found.contains("has no rows"), "{unknown:#?}");
}

/// Everything about the database that a statement could change, but for what the server counts by itself.
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
async fn it_leaves_no_trace() {
    let place = Place::with(&["writer", "reader"]).await;
    place.admin(ROWS).await;
    let before = place.text(SNAPSHOT).await;
    for login in [&place.app, "trail_owner", "postgres"] {
        place.findings_of(login, &invasive()).await;
        assert_eq!(place.text(SNAPSHOT).await, before, "{login}");
    }
    assert_eq!(place.text("SELECT count(*)::text FROM audit_logs").await, "2");
    let advisory = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    // A session ends a moment after its client.
    wait_for("the advisory locks to be released", async || {
        place.text(advisory).await == "0"
    })
    .await;
    // The snapshot would show it.
    place
        .admin("ALTER TABLE $month DISABLE TRIGGER audit_logs_no_truncate")
        .await;
    assert_ne!(place.text(SNAPSHOT).await, before);
}

/// Locks are held in both directions: what a writer's open transaction does not keep the doctor from
/// having, the doctor cannot keep from a writer.
#[tokio::test]
async fn it_needs_no_lock_that_a_writer_would_notice() {
    let place = Place::with(&["writer", "reader"]).await;
    let writer = connect(&place.app_url()).await;
    writer
        .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    for login in [&place.app, "trail_owner"] {
        let findings = place.findings_of(login, &Options::default()).await;
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
async fn the_invasive_part_gives_up_when_a_writer_holds_the_table() {
    let place = Place::with(&["writer"]).await;
    let writer = connect(&place.app_url()).await;
    writer
        .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    let busy = of(
        &place.findings_of("trail_owner", &invasive()).await,
        Code::OwnerStatements,
    );
    assert_eq!(busy.len(), 1, "{busy:#?}");
    assert!(
        busy[0].found.contains("gave up at TRUNCATE audit_logs"),
        "{busy:#?}"
    );
    writer
        .batch_execute("INSERT INTO audit_logs (action) VALUES ('y'); COMMIT")
        .await
        .unwrap();
    let free = of(
        &place.findings_of("trail_owner", &invasive()).await,
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
        "its triggers refuse that: {free:#?}"
    );
    assert_eq!(place.text("SELECT count(*)::text FROM audit_logs").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_at_work_loses_nothing() {
    let place = Place::with(&["writer"]).await;
    let (writer, guard) = writer_to(Database::from_url(&place.app_url()).unwrap())
        .start()
        .unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..500 {
            let entry = AuditEntry::new("test.write").resource("number", n.to_string());
            assert_eq!(writer.write(entry).await, Delivery::Committed);
        }
    });
    while !writing.is_finished() {
        assert_eq!(but_for_the_server(faults(&place.findings().await)), [""; 0]);
        place.findings_of("trail_owner", &invasive()).await;
    }
    writing.await.unwrap();
    guard.shutdown(TIMEOUT).await;
    let stored = "SELECT count(*)::text FROM audit_logs WHERE action = 'test.write'";
    assert_eq!(place.text(stored).await, "500");
}

/// The page explains every code, and no other.
#[test]
fn the_page_explains_every_code() {
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
async fn the_report_is_for_the_file() {
    let place = Place::sound(&["writer"]).await;
    place.admin("GRANT TRIGGER ON audit_logs TO audit_reader").await;
    let database = Database::from_url(&place.app_url()).unwrap();
    let report = examine(&database, &Options::default()).await.unwrap();
    assert_eq!(report.worst(), Severity::Warning);
    let text = report.markdown();
    assert!(
        !text.contains(":pw@") && text.contains("postgres://\\*\\*\\*@"),
        "{text}"
    );
    assert!(text.contains(&format!("| user | {} |", place.app)), "{text}");
    assert!(text.contains("| server | PostgreSQL "), "{text}");
    assert!(
        text.contains("    REVOKE TRIGGER ON audit_logs FROM audit_reader;"),
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
