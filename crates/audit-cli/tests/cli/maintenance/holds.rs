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
