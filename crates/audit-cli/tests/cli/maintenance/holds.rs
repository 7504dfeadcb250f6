//! `auditlog hold`.

use super::MaintenanceFixture;

#[tokio::test]
async fn a_hold_keeps_the_months_it_covers() {
    let cli = MaintenanceFixture::aged(16).await;
    assert_eq!(
        cli.run_ok("hold add --tenant tenant15 --reason case-4711"),
        "created hold 1\n"
    );
    assert_eq!(
        cli.run_ok("hold add --tenant nobody --from 2019-01 --to 2020-01-01 --reason other"),
        "created hold 2\n"
    );
    let list = cli.run_ok("hold list");
    assert!(
        list.contains("1\ttenant15\t\t\tcase-4711\t")
            && list.contains("2\tnobody\t2019-01-01T00:00:00Z\t2020-01-01T00:00:00Z\tother\t"),
        "{list}"
    );
    let (code, out, err) = cli.run("retention apply --keep 13months --yes");
    assert!(
        code == 0 && out.lines().count() == 2 && err.contains("1 month is due, but under a legal hold"),
        "{out}{err}"
    );
    assert_eq!(
        cli.text("SELECT count(*)::text AS value FROM audit_logs WHERE tenant_id = 'tenant15'")
            .await,
        "3"
    );
    assert_eq!(cli.run_ok("hold release 1 --reason closed"), "released hold 1\n");
    assert_eq!(cli.run_ok("hold list --json").lines().count(), 1);
    assert!(cli.run_ok("hold list --all").contains(": closed\n"));
    assert_eq!(
        cli.run_ok("retention apply --keep 13months --yes")
            .lines()
            .count(),
        1
    );
}

#[tokio::test]
async fn a_new_hold_says_what_it_covers() {
    let cli = MaintenanceFixture::aged(3).await;
    cli.sql("INSERT INTO audit_logs (created_at, action, tenant_id) SELECT now() + n * interval '10 us', 'row', 'large' FROM generate_series(1, 100100) n")
        .await;
    for (scope, expected) in [
        ("--tenant tenant1", "it covers 3 rows in 1 partition now"),
        (
            "--everything",
            "it covers at least 100,000 rows in 4 partitions now",
        ),
        (
            "--tenant large",
            "it covers at least 100,000 rows in 1 partition now",
        ),
        ("--tenant Tenant1", "warning: it covers no row now"),
        ("--to 2001-01", "warning: it covers no row now"),
        (
            "--tenant tenant1 --from 2001-01 --to 2001-02",
            "warning: it covers no row now",
        ),
    ] {
        let (code, out, err) = cli.run(&format!("hold add {scope} --reason x"));
        assert!(
            code == 0 && out.starts_with("created hold "),
            "{scope}: {out}{err}"
        );
        assert!(err.contains(expected), "{scope}: {err}");
    }
}

/// The holds and the ledger go with the newest migration, even if the trail is empty.
#[tokio::test]
async fn a_migration_with_active_holds_or_entries_of_the_ledger_is_not_reverted() {
    let cli = MaintenanceFixture::new();
    let refused = |expected: &str| {
        let (code, out, err) = cli.run("migrate --revert");
        assert!(
            code == 3 && out.is_empty() && err.contains(expected) && err.contains("--force"),
            "{out}{err}"
        );
    };
    cli.run_ok("hold add --tenant acme --reason case");
    refused("0 entries, 1 active hold and 0 entries of the ledger");
    cli.run_ok("hold release 1 --reason closed");
    assert!(cli.run_ok("migrate --revert").starts_with("reverted"));
    cli.run_ok("migrate");
    cli.sql(
        "SELECT audit_logs_ensure_partitions('2019-01-01', '2019-01-01'); \
         SELECT audit_logs_drop_month('audit_logs_2019_01', 13, 'x', trust_clock => true)",
    )
    .await;
    refused("0 entries, 0 active holds and 1 entry of the ledger");
    assert_eq!(cli.run_ok("retention ledger --json").lines().count(), 1);
    assert!(cli.run_ok("migrate --revert --force").starts_with("reverted"));
}
