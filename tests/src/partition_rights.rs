//! Who may create which partitions, and what happens to rows of other months.

use std::time::Duration;

use audit_ops::OpsError;
use audit_ops::partitions::{self, MAX_PARTITIONS};
use chrono::{DateTime, Days, Utc};
use db_services::audit::{AuditEntry, Delivery, ensure_partitions};
use db_services::client::Database;
use db_test::Server;

use crate::attacks::fixture::{connect, text};
use crate::retention::sql_on_new_connection;
use crate::support::{TIMEOUT, TestDb, writer_to};

async fn partition_count(db: &TestDb) -> usize {
    let sql = "SELECT count(*)::text AS value FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass";
    db.text(sql).await.parse().unwrap()
}

/// Runs SQL as a member of a role.
async fn as_role(db: &TestDb, role: &str, sql: &str) -> Result<(), String> {
    sql_on_new_connection(db, &format!("SET ROLE audit_{role}; {sql}")).await
}

/// Drops the partitions of months after the next one.
async fn drop_upcoming(db: &TestDb) {
    db.sql(
        "DO $$ DECLARE part regclass; BEGIN
             FOR part IN SELECT partition FROM audit_logs_months() WHERE from_time > now() + interval '1 month' LOOP
                 EXECUTE format('DROP TABLE %s', part);
             END LOOP;
         END $$",
    )
    .await
    .unwrap();
}

fn month(months: i32) -> String {
    format!("now() + interval '{months} months'")
}

#[tokio::test]
async fn a_writer_creates_only_the_months_that_a_trail_has_anyway() {
    let db = TestDb::postgres().await;
    drop_upcoming(&db).await;
    let before = partition_count(&db).await;
    for outside in [-1_000, -2, 25, 1_000] {
        let (at, from) = (month(outside), month(0));
        let ranges = match outside < 0 {
            true => [format!("{at}, {from}"), format!("{at}, {at}")],
            false => [format!("{from}, {at}"), format!("{at}, {at}")],
        };
        for range in ranges {
            let sql = format!("SELECT audit_logs_ensure_partitions({range}, 5000)");
            let error = as_role(&db, "writer", &sql).await.unwrap_err();
            assert!(
                error.contains("a writer may not create the partition of"),
                "{range}: {error}"
            );
        }
    }
    assert_eq!(partition_count(&db).await, before);
    let all = format!(
        "SELECT audit_logs_ensure_partitions({}, {})",
        month(-1),
        month(24)
    );
    as_role(&db, "writer", &all).await.unwrap();
    // The default partition, and from the previous month to the one in 24 months.
    assert_eq!(partition_count(&db).await, 27);
    for role in ["reader", "auditor"] {
        let error = as_role(&db, role, &all).await.unwrap_err();
        assert!(error.contains("permission denied"), "{error}");
    }
    let far = "SELECT audit_logs_ensure_partitions('1900-01-01', '1900-01-01')";
    as_role(&db, "maintainer", far).await.unwrap();
    assert_eq!(partition_count(&db).await, 28);
}

#[tokio::test]
async fn no_partition_is_created_above_the_limit() {
    let db = TestDb::postgres().await;
    drop_upcoming(&db).await;
    let count = partition_count(&db).await;
    let ensure =
        |limit: usize| format!("SELECT audit_logs_ensure_partitions('2001-01-01', '2001-03-01', {limit})");
    let error = as_role(&db, "maintainer", &ensure(count + 2)).await.unwrap_err();
    assert!(
        error.contains("there is no partition of 2001-03")
            && error.contains(&format!("the limit is {}", count + 2)),
        "{error}"
    );
    assert_eq!(partition_count(&db).await, count);
    as_role(&db, "maintainer", &ensure(count + 3)).await.unwrap();
    // Months that exist are none too many.
    as_role(&db, "maintainer", &ensure(3)).await.unwrap();
    let row = "INSERT INTO audit_logs (created_at, action) VALUES ('1999-02-15', 'x')";
    db.sql(row).await.unwrap();
    let move_month = |limit: usize| format!("SELECT audit_logs_move_month('1999-02-01', {limit})");
    let error = as_role(&db, "maintainer", &move_month(count + 3))
        .await
        .unwrap_err();
    assert!(error.contains("there is no partition of 1999-02"), "{error}");
    let (mut conn, limit) = (db.connection().await, u16::try_from(count + 3).unwrap());
    let months = partitions::default_partition_months(&mut conn).await.unwrap();
    let refused = partitions::move_month(&mut conn, &months[0], limit)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("higher max_partitions"), "{refused}");
    as_role(&db, "maintainer", &move_month(count + 4)).await.unwrap();
    assert_eq!(partition_count(&db).await, count + 4);

    // The limit of the writer's function is a constant.
    db.sql(
        "DO $$ DECLARE d date := '1950-01-01'; BEGIN
             WHILE (SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass) < 480 LOOP
                 EXECUTE format('CREATE TABLE other_%s PARTITION OF audit_logs FOR VALUES FROM (%L) TO (%L)',
                                to_char(d, 'YYYY_MM_DD'), d, d + 1);
                 d := d + 1;
             END LOOP;
         END $$",
    )
    .await
    .unwrap();
    let upcoming = format!("SELECT audit_logs_ensure_partitions({0}, {0}, 5000)", month(20));
    let error = as_role(&db, "writer", &upcoming).await.unwrap_err();
    assert!(error.contains("the limit is 480"), "{error}");
    let error = partitions::ensure(
        &mut conn,
        "0001-01-01T00:00:00Z".parse().unwrap(),
        Utc::now(),
        MAX_PARTITIONS,
        |_, _| {},
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, OpsError::TooManyMonths(MAX_PARTITIONS)),
        "{error}"
    );
}

/// Neither a writer nor an import fails, and no partition is created for each month.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_thousand_months_go_to_the_default_partition() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    db.sql("CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer")
        .await
        .unwrap();
    let before = partition_count(&db).await;
    let app = Database::from_url(&server.url_as("app", "pw", db.url.rsplit('/').next().unwrap())).unwrap();
    let (writer, guard) = writer_to(app.clone()).start().unwrap();
    let first: DateTime<Utc> = "1930-01-15T00:00:00Z".parse().unwrap();
    let times: Vec<_> = (0..1_000).map(|nth| first + Days::new(31 * nth)).collect();
    let mut receipts = Vec::new();
    for time in &times {
        receipts.push(writer.write(AuditEntry::new("x").created_at(*time)));
    }
    for receipt in receipts {
        assert_eq!(receipt.await, Delivery::Committed);
    }
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!((report.committed, report.lost, report.quarantined), (1_000, 0, 0));
    let error = ensure_partitions(&mut app.connection().await.unwrap(), times)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a writer may not create"), "{error}");
    assert_eq!(partition_count(&db).await, before);
    let stored = "SELECT count(*)::text AS value FROM audit_logs_default";
    assert!(db.text(stored).await.parse::<u32>().unwrap() > 900);
}

/// The new partition keeps the default partition locked until the transaction ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_leaves_its_transaction_open_does_not_stop_readers() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    drop_upcoming(&db).await;
    db.sql("CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer")
        .await
        .unwrap();
    let writer = connect(&server.url_as("app", "pw", db.url.rsplit('/').next().unwrap())).await;
    let existing = "BEGIN; SELECT audit_logs_ensure_partitions(now(), now())";
    writer.batch_execute(existing).await.unwrap();
    let locks = "SELECT count(*)::text AS value FROM pg_locks WHERE relation IN ('audit_logs'::regclass, 'audit_logs_default'::regclass)";
    assert_eq!(db.text(locks).await, "0", "a month that exists locks nothing");
    let create = format!("SELECT audit_logs_ensure_partitions({0}, {0})", month(20));
    writer.batch_execute(&create).await.unwrap();
    assert_ne!(db.text(locks).await, "0");
    let reading = db.text("SELECT count(*)::text AS value FROM audit_logs");
    let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert_eq!(read.expect("the reader waits no longer"), "0");
    assert!(
        writer.batch_execute("COMMIT").await.is_err(),
        "the server has ended the transaction"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lock_that_a_login_without_rights_may_take_stops_maintenance() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    db.sql("CREATE ROLE plain LOGIN PASSWORD 'pw'").await.unwrap();
    let plain = connect(&server.url_as("plain", "pw", db.url.rsplit('/').next().unwrap())).await;
    // The locks of an earlier form of the functions, and any that a name of theirs may stand for.
    plain
        .batch_execute(
            "SELECT pg_advisory_lock(hashtextextended(name, seed)) FROM pg_class, unnest('{audit_logs partitions,\
                 audit_logs retention}'::text[]) AS name, unnest(ARRAY[0, pg_class.oid::bigint]) AS seed \
             WHERE relname LIKE 'audit%'",
        )
        .await
        .unwrap();
    let held = "SELECT count(*)::text AS value FROM pg_locks WHERE locktype = 'advisory'";
    assert_ne!(db.text(held).await, "0");
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-01-01', '2001-02-01'), audit_logs_index_closed_months(), audit_retention_lock();
         INSERT INTO audit_logs (created_at, action) VALUES ('1999-02-15', 'x'); SELECT audit_logs_move_month('1999-02-01');
         SELECT audit_logs_drop_month('audit_logs_2001_01', 13, 'x', trust_clock => true)",
    )
    .await
    .unwrap();
    for table in ["audit_logs", "audit_retention_ledger", "audit_legal_holds"] {
        for mode in [
            "ACCESS SHARE",
            "SHARE UPDATE EXCLUSIVE",
            "SHARE ROW EXCLUSIVE",
            "ACCESS EXCLUSIVE",
        ] {
            let lock = format!("BEGIN; LOCK TABLE {table} IN {mode} MODE");
            let refused = plain.batch_execute(&lock).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{table} {mode}");
            plain.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_month_whose_name_is_taken_does_not_prevent_the_others() {
    let db = TestDb::postgres().await;
    db.sql(
        "CREATE VIEW audit_logs_2001_02 AS SELECT; CREATE TYPE audit_logs_2001_03 AS (x int);
         CREATE TABLE wide PARTITION OF audit_logs FOR VALUES FROM ('2001-04-10Z') TO ('2001-04-20Z')",
    )
    .await
    .unwrap();
    let created = "SELECT audit_logs_ensure_partitions('2001-01-01', '2001-05-01')::text AS value";
    assert_eq!(db.text(created).await, "4", "and both ends of April");
    let client = connect(&db.url).await;
    let months =
        "SELECT partition::text FROM audit_logs_months() WHERE from_time < '2001-06-01' ORDER BY from_time";
    assert_eq!(
        text(&client, months).await,
        ["audit_logs_2001_01", "audit_logs_2001_04", "audit_logs_2001_05"]
    );
}
