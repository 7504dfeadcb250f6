//! Monthly partitions are created in advance, without blocking writers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use db_services::audit::{AuditEntry, Delivery, ensure_partitions, insert};

use crate::attacks::fixture::{connect, text};
use crate::support::{TestDb, wait_for, writer_to};

async fn partition_of(db: &TestDb, action: &str) -> String {
    db.text(&format!(
        "SELECT tableoid::regclass::text AS value FROM audit_logs WHERE action = '{action}'"
    ))
    .await
}

#[tokio::test]
async fn partitions_for_the_next_two_years_exist() {
    let db = TestDb::postgres().await;
    for months in [0, 1, 12, 24] {
        let sql = format!(
            "INSERT INTO audit_logs (created_at, action) VALUES (now() + interval '{months} months', 'm{months}')"
        );
        db.sql(&sql).await.unwrap();
        assert_ne!(
            partition_of(&db, &format!("m{months}")).await,
            "audit_logs_default"
        );
    }
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES (now() + interval '30 months', 'default')")
        .await
        .unwrap();
    assert_eq!(partition_of(&db, "default").await, "audit_logs_default");
}

#[tokio::test]
async fn partitions_are_created_for_the_requested_times() {
    let db = TestDb::postgres().await;
    let time = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let mut conn = db.connection().await;
    let times = [
        "2023-07-10T11:42:18Z",
        "2023-07-31T23:59:59.999999Z",
        "2023-08-01T00:00:00Z",
        "0007-01-01T00:00:00Z",
    ];
    assert_eq!(ensure_partitions(&mut conn, times.map(time)).await.unwrap(), 3);
    assert_eq!(ensure_partitions(&mut conn, times.map(time)).await.unwrap(), 0);
    for (at, text) in times.iter().enumerate() {
        insert(
            &mut conn,
            &AuditEntry::new(format!("t{at}")).created_at(time(text)),
        )
        .await
        .unwrap();
    }
    assert_eq!(partition_of(&db, "t1").await, "audit_logs_2023_07");
    assert_eq!(partition_of(&db, "t2").await, "audit_logs_2023_08");
    assert_eq!(partition_of(&db, "t3").await, "audit_logs_0007_01");
    let sqlite = TestDb::sqlite().await;
    assert_eq!(
        ensure_partitions(&mut sqlite.connection().await, times.map(time))
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn an_invalid_range_of_partitions_is_rejected() {
    let db = TestDb::postgres().await;
    for range in [
        "'-infinity', now()",
        "NULL, now()",
        "now(), 'infinity'",
        "'0001-01-01', now()",
    ] {
        let error = db
            .sql(&format!("SELECT audit_logs_ensure_partitions({range})"))
            .await
            .unwrap_err();
        assert!(error.contains("not a range"), "{range}: {error}");
    }
}

#[tokio::test]
async fn rows_in_the_default_partition_do_not_prevent_partitions_around_them() {
    let db = TestDb::postgres().await;
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-15', 'default')")
        .await
        .unwrap();
    assert_eq!(
        db.text("SELECT audit_logs_ensure_partitions('2019-01-01', '2019-03-31')::text AS value")
            .await,
        "2"
    );
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-16', 'too')")
        .await
        .unwrap();
    assert_eq!(partition_of(&db, "too").await, "audit_logs_default");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_that_create_the_same_partitions_both_succeed() {
    let db = TestDb::postgres().await;
    let create = "SELECT audit_logs_ensure_partitions('2019-01-01', '2019-12-31')::text AS value";
    let (one, other) = tokio::join!(db.text(create), db.text(create));
    assert_eq!(one.parse::<u32>().unwrap() + other.parse::<u32>().unwrap(), 12);
}

/// Longer than the lock timeout for a table.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_that_creates_partitions_waits_for_the_first() {
    let db = TestDb::postgres().await;
    let (first, second, admin) = (
        connect(&db.url).await,
        connect(&db.url).await,
        connect(&db.url).await,
    );
    let create = "SELECT audit_logs_ensure_partitions('2019-01-01', '2019-03-31')";
    first.batch_execute("BEGIN").await.unwrap();
    first.batch_execute(create).await.unwrap();
    let creating = tokio::spawn(async move { second.batch_execute(create).await });
    let waits = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event = 'relation' AND clock_timestamp() - query_start > interval '1 second'";
    wait_for("a second of waiting", async || {
        creating.is_finished() || !text(&admin, waits).await.is_empty()
    })
    .await;
    assert!(!creating.is_finished(), "{creating:?}");
    first.batch_execute("COMMIT").await.unwrap();
    creating.await.unwrap().unwrap();
}

/// A reader that has locked every partition delays a new partition, but not the writers.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_delays_a_new_partition_but_not_the_writers() {
    let db = TestDb::postgres().await;
    let (writer, _guard) = db.writer();
    assert_eq!(writer.write(AuditEntry::new("before")).await, Delivery::Committed);
    let (read_begun, reader_reads) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let url = db.url.clone();
    let reader = tokio::spawn(async move {
        use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
        let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
        conn.batch_execute("BEGIN; SELECT count(*) FROM audit_logs")
            .await
            .unwrap();
        read_begun.send(()).unwrap();
        released.await.unwrap();
        conn.batch_execute("COMMIT").await.unwrap();
    });
    reader_reads.await.unwrap();
    let month = db.sql("SELECT audit_logs_ensure_partitions('2019-01-01', '2019-01-01')");
    let writes = async {
        // While the creation is retried.
        for _ in 0..50 {
            assert_eq!(writer.write(AuditEntry::new("during")).await, Delivery::Committed);
        }
        release.send(()).unwrap();
    };
    let (created, ()) = tokio::join!(month, writes);
    created.unwrap();
    reader.await.unwrap();
    assert_eq!(db.count().await, 51);
}

#[tokio::test]
async fn past_months_get_their_look_up_indexes() {
    let db = TestDb::postgres().await;
    db.sql("SELECT audit_logs_ensure_partitions('2019-01-01', '2019-02-01')")
        .await
        .unwrap();
    db.sql(
        "INSERT INTO audit_logs (created_at, action, actor_id, resource_id, request_id, tenant_id) \
         SELECT '2019-01-15', 'x', 'actor' || n, 'thing' || n, 'request' || n, 'tenant' || n FROM generate_series(1, 5000) n",
    )
    .await
    .unwrap();
    let index = "SELECT audit_logs_index_closed_months()::text AS value";
    let months_closed = 2 + i32::from(closed_last_month(&db).await);
    assert_eq!(db.text(index).await, (4 * months_closed).to_string());
    assert_eq!(db.text(index).await, "0");
    db.sql("ANALYZE audit_logs_2019_01").await.unwrap();
    db.sql(
        "CREATE FUNCTION test_plan(col text, val text) RETURNS text LANGUAGE plpgsql AS $$ \
         DECLARE line text; whole text := ''; BEGIN \
         FOR line IN EXECUTE format('EXPLAIN SELECT * FROM audit_logs WHERE %I = %L ORDER BY created_at DESC LIMIT 50', col, val) \
         LOOP whole := whole || line || E'\\n'; END LOOP; RETURN whole; END $$",
    )
    .await
    .unwrap();
    for (column, value) in [
        ("actor_id", "actor7"),
        ("resource_id", "thing7"),
        ("request_id", "request7"),
        ("tenant_id", "tenant7"),
    ] {
        let plan = db
            .text(&format!("SELECT test_plan('{column}', '{value}') AS value"))
            .await;
        let index = format!("audit_logs_2019_01_by_{}", column.trim_end_matches("_id"));
        assert!(plan.contains(&index), "{column}: {plan}");
    }
}

/// True if the previous month, which the migration created, ended more than an hour ago.
async fn closed_last_month(db: &TestDb) -> bool {
    db.text("SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') < (now() AT TIME ZONE 'UTC') - interval '1 hour')::text AS value").await
        == "true"
}

#[tokio::test]
async fn a_value_too_long_for_an_index_does_not_prevent_the_other_indexes() {
    let db = TestDb::postgres().await;
    db.sql("SELECT audit_logs_ensure_partitions('2019-01-01', '2019-01-01')")
        .await
        .unwrap();
    // Random, so that compression does not make it fit.
    db.sql(
        "INSERT INTO audit_logs (created_at, action, resource_id) SELECT '2019-01-15', 'x', string_agg(md5(n::text), '') \
         FROM generate_series(1, 200) n",
    )
    .await
    .unwrap();
    let months_closed = 1 + i32::from(closed_last_month(&db).await);
    let created = db
        .text("SELECT audit_logs_index_closed_months()::text AS value")
        .await;
    assert_eq!(created, (4 * months_closed - 1).to_string());
    // It is not tried again: each attempt reads the whole partition.
    let reason = "SELECT obj_description('audit_logs_2019_01'::regclass, 'pg_class') AS value";
    assert_eq!(
        db.text(reason).await,
        "There is no audit_logs_2019_01_by_resource: a value is too long for it."
    );
    assert_eq!(
        db.text("SELECT audit_logs_index_closed_months()::text AS value")
            .await,
        "0"
    );
    assert_eq!(db.text(reason).await.matches("There is no").count(), 1);
}

/// Drops the partitions after the next month.
async fn drop_upcoming_partitions(db: &TestDb) {
    db.sql(
        "DO $$ DECLARE part text; BEGIN FOR part IN SELECT m.partition FROM audit_logs_months() m WHERE from_time > now() + interval '1 month' \
         LOOP EXECUTE format('DROP TABLE %I', part); END LOOP; END $$",
    )
    .await
    .unwrap();
    assert_eq!(upcoming_partitions(db).await, "0");
}

async fn upcoming_partitions(db: &TestDb) -> String {
    db.text("SELECT count(*)::text AS value FROM audit_logs_months() WHERE from_time > now() + interval '1 month'").await
}

fn as_writer(db: &TestDb) -> String {
    format!("{}?options=-c%20role%3Daudit_writer", db.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_creates_the_upcoming_partitions() {
    let db = TestDb::postgres().await;
    drop_upcoming_partitions(&db).await;
    let database = db_services::client::Database::from_url(&as_writer(&db)).unwrap();
    let (writer, _guard) = writer_to(database).start().unwrap();
    assert_eq!(upcoming_partitions(&db).await, "0", "not before the first entry");
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    wait_for("the partitions", async || upcoming_partitions(&db).await == "23").await;
    wait_for("the connection to be closed", async || {
        db.text("SELECT count(*)::text AS value FROM pg_stat_activity WHERE application_name = 'audit-months' AND datname = current_database()").await == "0"
    })
    .await;
}

/// Entries do not wait for partitions that cannot be created.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_does_not_wait_for_upcoming_partitions() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let db = TestDb::postgres().await;
    drop_upcoming_partitions(&db).await;
    let mut reader = AsyncPgConnection::establish(&db.url).await.unwrap();
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM audit_logs")
        .await
        .unwrap();
    let (writer, _guard) = db.writer();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    wait_for("the creation to wait for the reader", async || {
        db.text("SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs_default'::regclass AND NOT granted").await != "0"
    })
    .await;
    for _ in 0..50 {
        assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    }
    assert_eq!(upcoming_partitions(&db).await, "0");
    reader.batch_execute("COMMIT").await.unwrap();
    wait_for("the partitions", async || upcoming_partitions(&db).await == "23").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_may_not_create_partitions_warns_once_if_few_are_left() {
    let db = TestDb::postgres().await;
    db.sql("REVOKE EXECUTE ON FUNCTION audit_logs_ensure_partitions FROM audit_writer")
        .await
        .unwrap();
    for (few, level) in [(false, "audit=debug"), (true, "audit=warn")] {
        if few {
            drop_upcoming_partitions(&db).await;
        }
        let mut app = Command::new(env!("CARGO_BIN_EXE_app"))
            .arg("await-input")
            .env("AUDIT_DATABASE_URL", as_writer(&db))
            .env("RUST_LOG", level)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = String::new();
        BufReader::new(app.stdout.take().unwrap())
            .read_line(&mut printed)
            .unwrap();
        assert_eq!(printed, "committed\n");
        let log = BufReader::new(app.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || log.lines().try_for_each(|line| sender.send(line.unwrap())));
        let mut logged = String::new();
        while !logged.contains("permission denied") {
            logged += &lines
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|error| panic!("{error}: {logged}"));
            logged.push('\n');
        }
        assert_eq!(logged.contains("auditlog partitions ensure"), few, "{logged}");
        drop(app.stdin.take());
        for line in lines {
            logged += &line;
            logged.push('\n');
        }
        assert!(app.wait().unwrap().success());
        assert_eq!(
            logged.lines().filter(|line| line.contains("WARN")).count(),
            usize::from(few),
            "{logged}"
        );
    }
}
