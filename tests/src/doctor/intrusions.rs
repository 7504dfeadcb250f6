//! Attacks of somebody with few rights on the trail, or on the doctor.

use audit_ops::doctor::{Code, Finding, Options, Severity};

use super::fixture::{DoctorFixture, of, worst};
use crate::attacks::fixture::connect;
use crate::support::wait_for;

#[tokio::test]
async fn a_session_without_any_right_that_holds_and_awaits_locks_is_named_and_ended() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    let plain = fixture.plain().await;
    let locks = async || of(&fixture.findings().await, Code::Locks);
    assert_eq!(worst(&locks().await, Code::Locks), Severity::Ok);
    let holder = fixture
        .session(&plain, "BEGIN; PREPARE q AS DELETE FROM public.audit_logs")
        .await;
    let found = locks().await;
    let says = format!(
        "of {plain}, which has none of the trail's roles, holds RowExclusiveLock on public.audit_logs"
    );
    assert!(found.len() == 1 && found[0].found.contains(&says), "{found:#?}");
    let waiter = connect(&fixture.url(&plain)).await;
    let waiting = tokio::spawn(async move {
        waiter
            .batch_execute("CREATE RULE r AS ON INSERT TO public.audit_logs DO INSTEAD NOTHING")
            .await
    });
    let waits = async || {
        locks()
            .await
            .into_iter()
            .find(|finding| finding.found.contains(" waits for "))
    };
    wait_for("the session to wait", async || waits().await.is_some()).await;
    let this = waits().await.unwrap();
    let says = format!("of {plain} waits for AccessExclusiveLock on public.audit_logs, behind");
    assert!(
        this.severity == Severity::Warning
            && this.found.contains(&says)
            && this.found.contains(&format!("({plain})")),
        "{this:#?}"
    );
    for finding in locks().await {
        fixture.remedy(finding.remedy.as_deref().unwrap()).await.unwrap();
    }
    let released = async || worst(&locks().await, Code::Locks) == Severity::Ok;
    wait_for("the locks to be released", released).await;
    assert!(waiting.await.unwrap().is_err());
    assert!(holder.batch_execute("COMMIT").await.is_err());
}

/// Faults that need no lock to be seen.
const FAULTS: &str =
    "ALTER TABLE audit_legal_holds DISABLE TRIGGER USER; GRANT INSERT ON audit_retention_ledger TO PUBLIC";

#[tokio::test]
async fn a_lock_hides_nothing_that_can_be_seen_without_it() {
    for lock in [
        "BEGIN; LOCK TABLE $month, audit_logs_default IN ACCESS EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'held_$app'",
    ] {
        let mut unchecked = 0;
        for role in ["writer", "auditor", "maintainer"] {
            let fixture = DoctorFixture::with(&[role]).await;
            fixture.admin(FAULTS).await;
            assert_eq!(worst(&fixture.findings().await, Code::Locks), Severity::Ok);
            let holder = fixture.session("postgres", lock).await;
            let findings = fixture.findings().await;
            for code in [Code::Grants, Code::Triggers] {
                let found = of(&findings, code);
                assert_eq!(
                    worst(&findings, code),
                    Severity::Critical,
                    "{role} {lock}: {found:#?}"
                );
            }
            let is_prepared = lock.contains("PREPARE");
            let code = if is_prepared {
                Code::PreparedTransactions
            } else {
                Code::Locks
            };
            assert_eq!(worst(&findings, code), Severity::Warning, "{role} {lock}");
            // A check that could not be made is no success.
            let is_unchecked = |finding: &&Finding| finding.found.contains("lock timeout");
            for finding in findings.iter().filter(is_unchecked) {
                unchecked += 1;
                assert_eq!(finding.severity, Severity::Warning, "{finding:#?}");
            }
            if is_prepared {
                holder
                    .batch_execute(&fixture.fill("ROLLBACK PREPARED 'held_$app'"))
                    .await
                    .unwrap();
            }
        }
        assert!(unchecked > 0, "{lock}");
    }
}

#[tokio::test]
async fn a_catalog_that_may_not_be_read_is_a_warning_and_no_success() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    for (object, codes) in [
        (
            "SELECT ON pg_locks",
            &[Code::Locks, Code::PreparedTransactions, Code::IdleTransactions][..],
        ),
        ("SELECT ON pg_prepared_xacts", &[Code::PreparedTransactions]),
        (
            "EXECUTE ON FUNCTION pg_get_expr(pg_node_tree, oid)",
            &[Code::Tables, Code::Indexes, Code::RowSecurity],
        ),
        ("SELECT ON pg_proc", &[Code::Functions, Code::Dependents]),
        ("SELECT ON pg_settings", &[Code::Durability]),
        ("SELECT ON pg_stat_ssl", &[Code::Tls, Code::Clock]),
        (
            "SELECT ON pg_policy",
            &[Code::RowSecurity, Code::Membership, Code::Roles],
        ),
        (
            "EXECUTE ON FUNCTION row_security_active(oid)",
            &[Code::RowUpdate, Code::TenantRead],
        ),
        (
            "EXECUTE ON FUNCTION has_table_privilege(oid, text)",
            &[Code::Forgery, Code::Writable],
        ),
    ] {
        fixture.admin(&format!("REVOKE {object} FROM PUBLIC")).await;
        let findings = fixture.findings().await;
        for code in codes {
            let found = of(&findings, *code);
            let is_it = |finding: &Finding| {
                finding.severity == Severity::Warning && finding.found.starts_with("not checked")
            };
            assert!(found.iter().any(is_it), "{object}: {code:?}: {found:#?}");
        }
        fixture.admin(&format!("GRANT {object} TO PUBLIC")).await;
    }
}

#[tokio::test]
async fn a_lost_or_renamed_column_is_found_and_does_not_end_the_examination() {
    for (change, column) in [
        ("DROP COLUMN actor_id CASCADE", "actor_id"),
        ("DROP COLUMN actor_type", "actor_type"),
        ("DROP COLUMN trace_id", "trace_id"),
        ("DROP COLUMN id CASCADE", "id"),
        ("RENAME COLUMN actor_id TO who", "actor_id"),
        ("RENAME COLUMN action TO what", "action"),
        ("RENAME COLUMN recorded_at TO at", "recorded_at"),
        ("RENAME COLUMN tenant_id TO tenant", "tenant_id"),
    ] {
        let fixture = DoctorFixture::with(&["writer", "auditor"])
            .await
            .few_months()
            .await;
        fixture.admin(&format!("ALTER TABLE audit_logs {change}")).await;
        for login in [fixture.app.as_str(), "postgres"] {
            let tables = of(
                &fixture.findings_of(login, &Options::default()).await,
                Code::Tables,
            );
            let says = format!("the column {column} on 10 tables (public.audit_logs to");
            let is_it = |finding: &Finding| {
                finding.severity == Severity::Critical && finding.found.starts_with(&says)
            };
            assert!(tables.iter().any(is_it), "{login} {change}: {tables:#?}");
        }
    }
}

#[tokio::test]
async fn a_column_that_was_dropped_and_created_again_is_found() {
    for (table, column, create) in [
        (
            "audit_logs",
            "tx_id",
            "bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint",
        ),
        ("audit_logs", "actor_id", "text"),
        (
            "audit_retention_ledger",
            "done_by",
            "text NOT NULL DEFAULT session_user",
        ),
        ("audit_legal_holds", "reason", "text NOT NULL DEFAULT ''"),
    ] {
        let fixture = DoctorFixture::with(&["auditor"]).await.few_months().await;
        let drop = format!("ALTER TABLE {table} DROP COLUMN {column} CASCADE");
        fixture
            .admin(&format!(
                "{drop}; ALTER TABLE {table} ADD COLUMN {column} {create}"
            ))
            .await;
        let tables = of(&fixture.findings().await, Code::Tables);
        let says = format!("the position of the column {column} on public.{table} is ");
        let is_it =
            |finding: &Finding| finding.severity == Severity::Critical && finding.found.starts_with(&says);
        assert!(tables.iter().any(is_it), "{table} {column}: {tables:#?}");
    }
}
