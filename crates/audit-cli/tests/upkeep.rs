//! Does the command keep the trail as its help says?
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use db_test::{Postgres, wait_for};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

/// A migrated database, and a directory to work in.
struct Place {
    dir: TempDir,
    postgres: Postgres,
}

impl Place {
    fn new() -> Self {
        let postgres = Postgres::migrated().unwrap_or_else(|error| panic!("{error}"));
        Self {
            dir: tempfile::tempdir().unwrap(),
            postgres,
        }
    }

    /// With the current month and this number of months before it, three rows in each.
    async fn aged(months: i32) -> Self {
        let place = Self::new();
        place
            .sql(&format!(
                "SELECT audit_logs_ensure_partitions(now() - interval '{months} months', now()); \
                 INSERT INTO audit_logs (created_at, action, tenant_id) \
                 SELECT date_trunc('month', now()) - m * interval '1 month' + n * interval '1 second', 'row', 'tenant' || m \
                 FROM generate_series(0, {months}) m, generate_series(1, 3) n"
            ))
            .await;
        place
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command
            .args(arguments.split(' '))
            .current_dir(&self.dir)
            .env_remove("RUST_LOG")
            .env_remove("AUDIT_DATABASE_URL");
        command.env("DATABASE_URL", self.postgres.url());
        command
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        told(self.command(arguments).output().unwrap())
    }

    fn done(&self, arguments: &str) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments}: {out}{err}");
        out
    }

    async fn sql(&self, sql: &str) {
        let mut conn = AsyncPgConnection::establish(self.postgres.url()).await.unwrap();
        conn.batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn text(&self, sql: &str) -> String {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            value: String,
        }
        let mut conn = AsyncPgConnection::establish(self.postgres.url()).await.unwrap();
        diesel::sql_query(sql)
            .get_result::<Row>(&mut conn)
            .await
            .unwrap()
            .value
    }

    /// The archive's files, those that end so.
    fn files(&self, ending: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("kept")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).collect()
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

const EVERY_ROW: &str =
    "SELECT md5(string_agg(row_to_json(a)::text, '' ORDER BY created_at, id)) AS value FROM audit_logs a";

#[tokio::test]
async fn months_are_listed_and_made_and_strays_put_into_them() {
    let place = Place::new();
    assert_eq!(
        place.done("partitions ensure --from 2019-01 --to 2019-03-31"),
        "made 3 months\n"
    );
    assert_eq!(place.done("partitions ensure"), "made 0 months\n");
    place
        .sql("INSERT INTO audit_logs (created_at, action) VALUES ('2018-02-01', 'x'), ('2018-02-02', 'x')")
        .await;
    let (code, out, err) = place.run("partitions ensure --from 2018-01 --to 2018-03");
    assert!(
        code == 0 && out == "made 2 months\n" && err.contains("adopt-strays"),
        "{out}{err}"
    );
    assert!(
        place
            .done("partitions list")
            .contains("audit_logs_default\t\t2\t")
    );
    assert_eq!(
        place.done("partitions adopt-strays"),
        "moved 2 rows into 1 months\n"
    );
    let list = place.done("partitions list");
    assert!(
        list.starts_with("partition\tfrom (UTC)\trows\tsize\n")
            && list.contains("\naudit_logs_2018_02\t2018-02-01T00:00:00Z\t2\t"),
        "{list}"
    );
    let json: serde_json::Value =
        serde_json::from_str(place.done("partitions list --json").lines().next().unwrap()).unwrap();
    assert_eq!(
        (&json["partition"], &json["month"]),
        (&"audit_logs_2018_01".into(), &"2018-01".into())
    );
    place
        .sql("INSERT INTO audit_logs (created_at, action) VALUES ('infinity', 'x')")
        .await;
    let (code, _, err) = place.run("partitions adopt-strays");
    assert!(
        code == 1 && err.contains("1 rows have times that no month can hold"),
        "{err}"
    );
}

#[tokio::test]
async fn old_months_are_archived_dropped_and_restored() {
    let place = Place::aged(16).await;
    let before = place.text(EVERY_ROW).await;
    let plan = place.done("retention plan --keep 13months");
    assert!(plan.starts_with("month\trows\tsize\tholds\tverdict\n"), "{plan}");
    assert_eq!(
        (plan.matches("\tdrop\n").count(), plan.matches("\tkeep\n").count()),
        (3, 14),
        "{plan}"
    );
    assert_eq!(place.text(EVERY_ROW).await, before, "a plan changes nothing");
    let json = place.done("retention plan --keep 13months --json");
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["verdict"], &first["row_count"], &first["holds"]),
        (&"drop".into(), &3.into(), &serde_json::json!([]))
    );

    let out = place.done("retention apply --keep 13months --archive kept --reason policy-7 --yes");
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(
        out.contains("entry 3 of the ledger; its 3 rows are in kept/audit_logs_20"),
        "{out}"
    );
    assert_eq!(
        (
            place.files(".ndjson.gz").len(),
            place.files(".manifest.json").len(),
            place.files("").len()
        ),
        (3, 3, 6)
    );
    assert_eq!(
        place.done("retention apply --keep 13months --yes"),
        "no month is to be dropped\n"
    );
    let ledger = place.done("retention ledger");
    assert!(
        ledger.lines().count() == 4 && ledger.lines().nth(1).unwrap().ends_with("\tpolicy-7"),
        "{ledger}"
    );
    assert_eq!(place.done("retention ledger --json").lines().count(), 3);

    // Nothing is restored from what was changed.
    let file = place.dir.path().join("kept").join(&place.files(".ndjson.gz")[0]);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[1..]).unwrap();
    for arguments in ["restore --check kept", "restore kept"] {
        let (code, _, err) = place.run(arguments);
        assert!(code == 3 && err.contains("damaged"), "{err}");
    }
    std::fs::write(&file, whole).unwrap();
    assert_eq!(
        place
            .done("restore --check kept")
            .matches(": 3 rows, digest ")
            .count(),
        3
    );
    let out = place.done("restore kept");
    assert_eq!(out.matches(": 3 rows, 0 were there already").count(), 3, "{out}");
    assert_eq!(place.text(EVERY_ROW).await, before, "every column of every row");
    assert_eq!(
        place
            .done("restore kept")
            .matches(": 0 rows, 3 were there already")
            .count(),
        3
    );
    assert_eq!(place.done("retention ledger").matches("\trestored\t").count(), 3);
}

#[tokio::test]
async fn what_is_not_meant_is_not_done() {
    let place = Place::aged(20).await;
    let before = place.text(EVERY_ROW).await;
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
        let (found, _, err) = place.run(arguments);
        assert!(found == code && err.contains(why), "{arguments}: {found} {err}");
    }
    assert_eq!(place.text(EVERY_ROW).await, before);
    // Three a day, unless it is said otherwise.
    let (code, out, err) = place.run("retention apply --keep 13months --yes");
    assert!(
        code == 1 && out.lines().count() == 3 && err.contains("7 months are due, the oldest 3 go now"),
        "{out}{err}"
    );
    let (code, _, err) = place.run("retention apply --keep 13months --yes");
    assert!(
        code == 3 && err.contains("3 months were dropped within a day"),
        "{err}"
    );
    assert_eq!(
        place
            .done("retention apply --keep 13months --yes --max-months 100")
            .lines()
            .count(),
        4
    );
}

#[tokio::test]
async fn a_hold_keeps_what_it_covers() {
    let place = Place::aged(16).await;
    assert_eq!(
        place.done("hold add --tenant tenant15 --reason case-4711"),
        "made hold 1\n"
    );
    assert_eq!(
        place.done("hold add --tenant nobody --from 2019-01 --to 2020-01-01 --reason other"),
        "made hold 2\n"
    );
    let list = place.done("hold list");
    assert!(
        list.contains("1\ttenant15\t\t\tcase-4711\t")
            && list.contains("2\tnobody\t2019-01-01T00:00:00Z\t2020-01-01T00:00:00Z\tother\t"),
        "{list}"
    );
    let (code, out, err) = place.run("retention apply --keep 13months --yes");
    assert!(
        code == 0
            && out.lines().count() == 2
            && err.contains("1 months are past their time and under a legal hold"),
        "{out}{err}"
    );
    assert_eq!(
        place
            .text("SELECT count(*)::text AS value FROM audit_logs WHERE tenant_id = 'tenant15'")
            .await,
        "3"
    );
    assert_eq!(place.done("hold release 1 --reason closed"), "released hold 1\n");
    assert_eq!(place.done("hold list --json").lines().count(), 1);
    assert!(place.done("hold list --all").contains(": closed\n"));
    assert_eq!(
        place
            .done("retention apply --keep 13months --yes")
            .lines()
            .count(),
        1
    );
}

#[tokio::test]
async fn months_are_not_dropped_by_a_clock_that_leapt() {
    let place = Place::new();
    place.sql("SELECT audit_logs_ensure_partitions('2020-01-01', '2020-12-01'); INSERT INTO audit_logs (created_at, action) VALUES ('2020-01-15', 'x'), (now(), 'x')").await;
    let (code, out, err) = place.run("retention apply --keep 13months --yes --max-months 100");
    assert!(
        code == 1 && out.contains("no month is to be dropped") && err.contains("--trust-clock"),
        "{out}{err}"
    );
    assert_eq!(
        place
            .done("retention apply --keep 13months --yes --max-months 100 --trust-clock")
            .lines()
            .count(),
        12
    );
    assert!(place.done("retention ledger").contains("dropped (forced)"));
}

/// Killed when the archive is there and the month not yet gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_can_be_repeated() {
    let place = Place::aged(14).await;
    let before = place.text(EVERY_ROW).await;
    let mut lawyer = AsyncPgConnection::establish(place.postgres.url()).await.unwrap();
    lawyer
        .batch_execute("BEGIN; LOCK TABLE audit_legal_holds IN ROW EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut apply = place
        .command("retention apply --keep 13months --archive kept --yes")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let dropping = "FROM pg_stat_activity WHERE query LIKE 'SELECT audit_logs_drop_month%' AND datname = current_database() AND state = 'active'";
    wait_for("the drop to be tried", async || {
        place
            .text(&format!("SELECT count(*)::text AS value {dropping}"))
            .await
            == "1"
    })
    .await;
    apply.kill().unwrap();
    apply.wait().unwrap();
    place
        .sql(&format!("SELECT pg_terminate_backend(pid, 10000) {dropping}"))
        .await;
    lawyer.batch_execute("ROLLBACK").await.unwrap();
    let archives = place.files(".manifest.json");
    assert_eq!(archives.len(), 1, "it was killed after the archive was written");
    assert_eq!(place.text(EVERY_ROW).await, before);
    assert_eq!(
        place
            .text("SELECT count(*)::text AS value FROM audit_retention_ledger")
            .await,
        "0"
    );
    // And once in the middle of writing one.
    let partial = format!("{}.partial", archives[0].split('.').next().unwrap());
    std::fs::write(place.dir.path().join("kept").join(partial), vec![b'x'; 100_000]).unwrap();

    assert_eq!(
        place
            .done("retention apply --keep 13months --archive kept --yes")
            .lines()
            .count(),
        1
    );
    assert_eq!(
        place.files(".manifest.json"),
        archives,
        "the same rows, the same name"
    );
    assert_eq!(place.files("").len(), 2, "nothing is left over");
    place.done("restore kept");
    assert_eq!(place.text(EVERY_ROW).await, before);
}

/// A maintainer who is no owner and sees no row.
#[tokio::test]
async fn a_maintainer_needs_no_more() {
    let place = Place::aged(14).await;
    let run = |arguments: &str| {
        let url = format!("{}?options=-c%20role%3Daudit_maintainer", place.postgres.url());
        told(
            place
                .command(arguments)
                .env("DATABASE_URL", url)
                .output()
                .unwrap(),
        )
    };
    for arguments in [
        "partitions list",
        "partitions ensure",
        "partitions adopt-strays",
        "retention plan --keep 13months",
        "retention ledger",
        "hold list",
    ] {
        let (code, _, err) = run(arguments);
        assert_eq!(code, 0, "{arguments}: {err}");
    }
    let (code, _, err) = run("retention apply --keep 13months --archive kept --yes");
    assert!(code == 3 && err.contains("not shown them all"), "{err}");
    let (code, out, err) = run("retention apply --keep 13months --yes");
    assert!(code == 0 && out.starts_with("dropped 20"), "{out}{err}");
}

#[test]
fn sqlite_says_what_to_do_instead() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &str, url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command
            .args(arguments.split(' '))
            .args(["--database-url", url])
            .current_dir(&dir);
        told(command.output().unwrap())
    };
    for arguments in [
        "partitions list",
        "retention plan --keep 13months",
        "retention apply --keep 13months --yes",
        "hold list",
    ] {
        for url in ["sqlite://audit.db", "sqlite::memory:"] {
            let (code, _, err) = run(arguments, url);
            assert!(
                code == 3 && err.contains("SQLite has no partitions") && err.contains("move the file away"),
                "{arguments}: {err}"
            );
        }
    }
    assert!(
        !Path::new(&dir.path().join("audit.db")).exists(),
        "looking creates nothing"
    );
}

#[test]
fn a_database_without_the_functions_says_what_to_do() {
    let place = Place {
        postgres: Postgres::empty().unwrap(),
        dir: tempfile::tempdir().unwrap(),
    };
    let (code, _, err) = place.run("retention plan --keep 13months");
    assert!(code == 3 && err.contains("auditlog migrate"), "{err}");
}
