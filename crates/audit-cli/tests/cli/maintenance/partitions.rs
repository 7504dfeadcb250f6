//! `auditlog partitions`.

use super::MaintenanceFixture;

#[tokio::test]
async fn partitions_are_created_and_the_default_partition_is_emptied() {
    let cli = MaintenanceFixture::new();
    let created = cli.run_ok("partitions ensure --from 2019-01 --to 2019-03-31");
    // Those of the previous month as well, except in the first hour of a month.
    assert!(
        [
            "created 3 partitions\ncreated 12 indexes\n",
            "created 3 partitions\ncreated 16 indexes\n"
        ]
        .contains(&created.as_str()),
        "{created}"
    );
    assert_eq!(cli.run_ok("partitions ensure"), "created 0 partitions\n");
    cli.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2018-02-01', 'x'), ('2018-02-02', 'x')")
        .await;
    let (code, out, err) = cli.run("partitions ensure --from 2018-01 --to 2018-03");
    assert!(
        code == 0 && out == "created 2 partitions\ncreated 8 indexes\n" && err.contains("move-default"),
        "{out}{err}"
    );
    assert!(
        cli.run_ok("partitions list")
            .contains("audit_logs_default\t\t2\t")
    );
    assert_eq!(
        cli.run_ok("partitions move-default"),
        "moved 2 rows to 1 partition\n"
    );
    assert_eq!(
        cli.run_ok("partitions ensure"),
        "created 0 partitions\ncreated 4 indexes\n"
    );
    // Its segments are one line.
    cli.sql("SELECT audit_logs_cut('audit_logs_2018_02', '2018-02-10Z')")
        .await;
    let list = cli.run_ok("partitions list");
    assert!(
        list.starts_with("partition\tfrom (UTC)\trows\tsize\tsegments\n")
            && list.contains("\naudit_logs_2018_02\t2018-02-01T00:00:00Z\t2\t")
            && list.lines().filter(|line| line.ends_with("\t2")).count() == 1
            && !list.contains("2018_02_2"),
        "{list}"
    );
    let json: serde_json::Value =
        serde_json::from_str(cli.run_ok("partitions list --json").lines().next().unwrap()).unwrap();
    assert_eq!(
        (&json["partition"], &json["month"]),
        (&"audit_logs_2018_01".into(), &"2018-01".into())
    );
    cli.sql("INSERT INTO audit_logs (created_at, action) VALUES ('infinity', 'x')")
        .await;
    let (code, _, err) = cli.run("partitions move-default");
    assert!(
        code == 1 && err.contains("1 row outside every possible month"),
        "{err}"
    );
}

#[tokio::test]
async fn a_range_of_too_many_months_creates_no_partition() {
    let cli = MaintenanceFixture::new();
    let before = cli.run_ok("partitions list");
    for (range, limit) in [
        ("--from 0001-01 --to 9999-01", 480),
        ("--from 1986-01 --to 2026-01", 480),
        ("--from 2025-01 --to 2026-01 --max-partitions 12", 12),
    ] {
        let (code, out, err) = cli.run(&format!("partitions ensure {range}"));
        assert!(
            code == 2
                && err.contains(&format!("more than {limit} months"))
                && err.contains("--max-partitions"),
            "{range}: {out}{err}"
        );
    }
    assert_eq!(cli.run_ok("partitions list"), before);
}

#[tokio::test]
async fn rows_stay_in_the_default_partition_if_there_are_too_many_partitions() {
    let cli = MaintenanceFixture::new();
    cli.sql("INSERT INTO audit_logs (created_at, action) SELECT '2001-01-15'::timestamptz + m * interval '1 month', 'x' FROM generate_series(0, 3) m").await;
    let count = cli.run_ok("partitions list").lines().count() - 1;
    let (code, out, err) = cli.run(&format!("partitions move-default --max-partitions {}", count + 2));
    assert!(
        code == 3
            && out == "moved 2 rows to 2 partitions\n"
            && err.contains(&format!("the limit is {}", count + 2)),
        "{code} {out}{err}"
    );
    assert_eq!(
        cli.run_ok(&format!("partitions move-default --max-partitions {}", count + 4)),
        "moved 2 rows to 2 partitions\n"
    );
}

#[tokio::test]
async fn the_help_states_how_infinite_times_are_listed() {
    let cli = MaintenanceFixture::new();
    cli.sql("INSERT INTO audit_logs (created_at, action) VALUES ('infinity', 'x'), ('-infinity', 'x')")
        .await;
    let help = cli
        .run_ok("list --help")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let listed = cli.run_ok("list --json");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    for line in listed.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = row["created_at"].as_str().unwrap();
        assert!(help.contains(&format!("as {time}")), "{time}: {help}");
    }
}
