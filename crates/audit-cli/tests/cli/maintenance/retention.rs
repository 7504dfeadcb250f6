//! `auditlog retention` and `auditlog restore`.

use std::process::Stdio;

use db_test::{Postgres, wait_for};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::{EVERY_ROW, MaintenanceFixture};

#[tokio::test]
async fn old_months_are_archived_dropped_and_restored() {
    let cli = MaintenanceFixture::aged(16).await;
    let before = cli.text(EVERY_ROW).await;
    let plan = cli.run_ok("retention plan --keep 13months");
    assert!(plan.starts_with("month\trows\tsize\tholds\tverdict\n"), "{plan}");
    assert_eq!(
        (plan.matches("\tdrop\n").count(), plan.matches("\tkeep\n").count()),
        (3, 14),
        "{plan}"
    );
    assert_eq!(cli.text(EVERY_ROW).await, before, "a plan changes nothing");
    let json = cli.run_ok("retention plan --keep 13months --json");
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["verdict"], &first["row_count"], &first["holds"]),
        (&"drop".into(), &3.into(), &serde_json::json!([]))
    );

    let out = cli.run_ok("retention apply --keep 13months --archive kept --reason policy-7 --yes");
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(
        out.contains("ledger entry 3; 3 rows are in kept/audit_logs_20"),
        "{out}"
    );
    assert_eq!(
        (
            cli.files(".ndjson.gz").len(),
            cli.files(".manifest.json").len(),
            cli.files("").len()
        ),
        (3, 3, 6)
    );
    assert_eq!(
        cli.run_ok("retention apply --keep 13months --yes"),
        "no month is due\n"
    );
    let ledger = cli.run_ok("retention ledger");
    assert!(
        ledger.lines().count() == 4 && ledger.lines().nth(1).unwrap().ends_with("\tpolicy-7"),
        "{ledger}"
    );
    assert_eq!(cli.run_ok("retention ledger --json").lines().count(), 3);

    // No row is restored from a file that was changed.
    let file = cli.dir.path().join("kept").join(&cli.files(".ndjson.gz")[0]);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[1..]).unwrap();
    let (code, out, err) = cli.run("restore --check kept");
    assert!(code == 1 && err.contains("damaged"), "{err}");
    assert_eq!(out.lines().count(), 2, "the others are fine: {out}");
    let (code, out, err) = cli.run("restore kept");
    assert!(
        (code, &*out) == (3, "") && err.contains("nothing was restored"),
        "{err}"
    );
    // Nor if one of its two files is missing.
    let manifest = cli.dir.path().join("kept").join(&cli.files(".manifest.json")[1]);
    for file in [&file, &manifest] {
        let content = std::fs::read(file).unwrap();
        std::fs::remove_file(file).unwrap();
        let (code, _, err) = cli.run("restore --check kept");
        assert!(
            code == 1 && err.contains("the other file of the archive is there"),
            "{err}"
        );
        let (code, out, err) = cli.run("restore kept");
        assert!(
            (code, &*out) == (3, "") && err.contains("nothing was restored"),
            "{err}"
        );
        std::fs::write(file, content).unwrap();
    }
    std::fs::write(&file, whole).unwrap();
    assert_eq!(
        cli.run_ok("restore --check kept")
            .matches(": 3 rows, digest ")
            .count(),
        3
    );
    let checked = cli.run_ok("restore --check kept");
    assert_eq!(
        checked
            .matches("of the ledger has the month, range, rows and digest, and the file")
            .count(),
        3,
        "{checked}"
    );
    let without = cli.run_ok("--database-url sqlite://none.db restore --check kept");
    assert_eq!(
        without
            .matches("not compared with a ledger: no PostgreSQL database is named")
            .count(),
        3,
        "{without}"
    );
    let other = MaintenanceFixture::new();
    let url = other.postgres.url();
    let absent = cli.run_ok(&format!("--database-url {url} restore --check kept"));
    assert_eq!(
        absent.matches("the ledger has no entry about it").count(),
        3,
        "{absent}"
    );
    let (code, out, err) = cli.run(&format!("--database-url {url} restore kept"));
    assert!(
        (code, &*out) == (3, "") && err.contains("no entry about its rows") && err.contains("--accept"),
        "{err}"
    );
    cli.run_ok(&format!("--database-url {url} restore kept --accept case-4711"));
    let recorded = other.run_ok("retention ledger");
    assert_eq!(
        recorded.matches("restored (not_in_ledger)").count(),
        3,
        "{recorded}"
    );
    assert_eq!(recorded.matches("\tcase-4711").count(), 3, "{recorded}");

    let out = cli.run_ok("restore kept");
    assert_eq!(out.matches(": 3 rows, 0 already stored").count(), 3, "{out}");
    assert_eq!(cli.text(EVERY_ROW).await, before, "every column of every row");
    assert_eq!(
        cli.run_ok("restore kept")
            .matches(": 0 rows, 3 already stored")
            .count(),
        3
    );
    assert_eq!(cli.run_ok("retention ledger").matches("\trestored\t").count(), 3);
}

#[tokio::test]
async fn invalid_and_unconfirmed_commands_change_nothing() {
    let cli = MaintenanceFixture::aged(20).await;
    let before = cli.text(EVERY_ROW).await;
    for (arguments, code, why) in [
        ("retention apply --keep 13months", 2, "add --yes"),
        ("retention apply --keep 11months --yes", 2, "--force"),
        ("retention apply --keep 13 --yes", 2, "13months"),
        ("retention apply --keep 0months --yes", 2, "13months"),
        ("retention apply --yes", 2, "--keep"),
        ("hold add --reason x", 2, "--tenant"),
        (
            "hold add --everything --tenant x --reason x",
            2,
            "cannot be used with",
        ),
        ("hold release 1 --reason x", 3, "not an active hold"),
        ("restore nowhere", 3, "nowhere"),
        ("partitions ensure --from yesterday", 2, "2024-01-31"),
    ] {
        let (found, _, err) = cli.run(arguments);
        assert!(found == code && err.contains(why), "{arguments}: {found} {err}");
    }
    assert_eq!(cli.text(EVERY_ROW).await, before);
    // Three a day by default.
    let (code, out, err) = cli.run("retention apply --keep 13months --yes");
    assert!(
        code == 1
            && out.lines().count() == 3
            && err.contains("7 months are due; only the oldest 3 are dropped now"),
        "{out}{err}"
    );
    let (code, _, err) = cli.run("retention apply --keep 13months --yes");
    assert!(
        code == 3 && err.contains("3 months were dropped within a day"),
        "{err}"
    );
    assert_eq!(
        cli.run_ok("retention apply --keep 13months --yes --max-months 100")
            .lines()
            .count(),
        4
    );
}

#[tokio::test]
async fn a_jump_of_the_clock_drops_no_month() {
    let cli = MaintenanceFixture::new();
    cli.sql("SELECT audit_logs_ensure_partitions('2020-01-01', '2020-12-01'); INSERT INTO audit_logs (created_at, action) VALUES ('2020-01-15', 'x'), (now(), 'x')").await;
    let (code, out, err) = cli.run("retention apply --keep 13months --yes --max-months 100");
    assert!(
        code == 1 && out.contains("no month is due") && err.contains("--trust-clock"),
        "{out}{err}"
    );
    assert_eq!(
        cli.run_ok("retention apply --keep 13months --yes --max-months 100 --trust-clock")
            .lines()
            .count(),
        12
    );
    assert!(cli.run_ok("retention ledger").contains("dropped (trust_clock)"));
}

/// The command is killed after it wrote the archive and before the month is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_can_be_repeated() {
    let cli = MaintenanceFixture::aged(14).await;
    let before = cli.text(EVERY_ROW).await;
    let mut blocker = AsyncPgConnection::establish(cli.postgres.url()).await.unwrap();
    blocker
        .batch_execute("BEGIN; LOCK TABLE audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut apply = cli
        .command("retention apply --keep 13months --archive kept --yes")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let dropping = "FROM pg_stat_activity WHERE query LIKE 'SELECT audit_logs_drop_month%' AND datname = current_database() AND state = 'active'";
    wait_for("the drop to start", async || {
        cli.text(&format!("SELECT count(*)::text AS value {dropping}"))
            .await
            == "1"
    })
    .await;
    apply.kill().unwrap();
    apply.wait().unwrap();
    cli.sql(&format!("SELECT pg_terminate_backend(pid, 10000) {dropping}"))
        .await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let archives = cli.files(".manifest.json");
    assert_eq!(archives.len(), 1, "it was killed after the archive was written");
    assert_eq!(cli.text(EVERY_ROW).await, before);
    assert_eq!(
        cli.text("SELECT count(*)::text AS value FROM audit_retention_ledger")
            .await,
        "0"
    );
    // As if it had been killed once more while it wrote the archive.
    let partial = format!("{}.partial", archives[0].split('.').next().unwrap());
    std::fs::write(cli.dir.path().join("kept").join(partial), vec![b'x'; 100_000]).unwrap();

    assert_eq!(
        cli.run_ok("retention apply --keep 13months --archive kept --yes")
            .lines()
            .count(),
        1
    );
    assert_eq!(
        cli.files(".manifest.json"),
        archives,
        "the same rows, the same name"
    );
    assert_eq!(cli.files("").len(), 2, "no other file remains");
    cli.run_ok("restore kept");
    assert_eq!(cli.text(EVERY_ROW).await, before);
}

/// A month that fails is named with the row that is the reason, and does not keep the others.
#[tokio::test]
async fn the_other_months_are_dropped_although_one_fails() {
    let cli = MaintenanceFixture::aged(16).await;
    let second = cli
        .text("SELECT month AS value FROM audit_logs_months() ORDER BY from_time OFFSET 1 LIMIT 1")
        .await;
    // No archive gives it back.
    cli.sql(&format!(
        "INSERT INTO audit_logs (id, created_at, action, metadata) VALUES ('00000000-0000-7000-8000-000000000004', '{second}-02', 'x', \
         jsonb_build_array(repeat('x', 70000), (repeat('[', 6100) || repeat(']', 6100))::jsonb))"
    ))
    .await;
    let (code, out, err) = cli.run("retention apply --keep 13months --archive kept --yes");
    assert_eq!((code, out.lines().count()), (3, 2), "{out}{err}");
    assert!(
        !out.contains(&second)
            && err.contains(&format!("{second} was not dropped"))
            && err.contains("00000000-0000-7000-8000-000000000004")
            && err.contains("1 month is not dropped"),
        "{out}{err}"
    );
    let (code, out, err) =
        cli.run("retention apply --keep 13months --archive kept --yes --max-months 9 --drop-unreadable");
    assert!(
        code == 0 && out.contains(&format!("dropped {second}")),
        "{out}{err}"
    );
    assert!(
        cli.run_ok("retention ledger")
            .contains("dropped (drop_unreadable)")
    );
    let (code, out, err) = cli.run("restore kept");
    assert_eq!((code, out.lines().count()), (1, 3), "{out}{err}");
    assert!(err.contains(&format!("{second}: 1 row is left out")), "{err}");
}

/// All archives of a directory are compared with the ledger before any row is inserted.
#[tokio::test]
async fn no_archive_of_a_directory_is_restored_if_the_ledger_lacks_one() {
    let cli = MaintenanceFixture::aged(16).await;
    cli.run_ok("retention apply --keep 13months --archive kept --yes");
    let before = cli.text(EVERY_ROW).await;
    // Of another trail, and later than the others.
    let other = MaintenanceFixture::aged(15).await;
    other.run_ok("retention apply --keep 13months --archive kept --yes");
    let from = other.dir.path().join("kept");
    for name in other.files("") {
        std::fs::copy(from.join(&name), cli.dir.path().join("kept").join(&name)).unwrap();
    }
    assert_eq!(cli.files("").len(), 10);
    let (code, out, err) = cli.run("restore kept");
    assert!(
        (code, &*out) == (3, "")
            && err.contains("nothing was restored")
            && err.contains("differs from entry"),
        "{out}{err}"
    );
    assert_eq!(cli.text(EVERY_ROW).await, before);
    assert!(!cli.run_ok("retention ledger").contains("\trestored"));
}

/// A comparison that was asked for and could not be made is a failure.
#[tokio::test]
async fn a_check_fails_when_the_ledger_or_a_file_cannot_be_read() {
    let cli = MaintenanceFixture::aged(16).await;
    cli.run_ok("retention apply --keep 13months --archive kept --yes");
    let empty = Postgres::empty().unwrap();
    for url in [empty.url(), "postgres://nobody@127.0.0.1:1/none"] {
        let (code, out, err) = cli.run(&format!("--database-url {url} restore --check kept"));
        assert_eq!(
            out.matches("match the manifest; not compared with a ledger: ")
                .count(),
            3,
            "{url}: {out}"
        );
        assert!(
            code == 3 && err.contains("no archive was compared"),
            "{url}: {code} {err}"
        );
    }
    // A file that is none, and a manifest that is too large, do not keep the others from being checked.
    let kept = cli.dir.path().join("kept");
    let names = cli.files(".manifest.json");
    std::fs::write(kept.join(&names[0]), " ".repeat(1 << 20)).unwrap();
    let lines = kept.join(names[1].replace(".manifest.json", ".ndjson.gz"));
    std::fs::remove_file(&lines).unwrap();
    std::fs::create_dir(&lines).unwrap();
    let (code, out, err) = cli.run("restore --check kept");
    assert_eq!((code, out.lines().count()), (1, 1), "{out}{err}");
    assert!(
        err.contains("too large for a manifest") && err.contains("not a regular file"),
        "{err}"
    );
    let (code, out, err) = cli.run("restore kept");
    assert!(
        (code, &*out) == (3, "") && err.contains("nothing was restored"),
        "{out}{err}"
    );
}
