//! Errors of real databases are classified as what they are.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use db_schema::NewAuditLog;
use db_test::{Server, wait_for};
use diesel::connection::SimpleConnection;
use tempfile::TempDir;

use super::test_database::{TestDatabase, TestSink, client, rows};
use audit_core::writer::SinkErrorKind;

use super::Rows;

const NO_TABLE: &str = "ALTER TABLE audit_logs RENAME TO hidden";
const TABLE: &str = "ALTER TABLE hidden RENAME TO audit_logs";
const NO_COLUMN: &str = "ALTER TABLE audit_logs RENAME COLUMN trace_id TO hidden";

#[tokio::test]
async fn a_row_that_a_rule_rejects_is_classified_as_rejected() {
    for database in TestDatabase::both().await {
        database.reject("action LIKE 'rude.%'").await;
        let mut sink = TestSink::to(&database.url);
        let error = sink.write(&rows(["polite", "rude.word"])).await.unwrap_err();
        assert_eq!(
            error.kind,
            SinkErrorKind::RowRejected,
            "before any row was accepted: {error:?}"
        );
        assert_eq!(
            error.sqlstate.as_deref(),
            database.is_postgres().then_some("23514")
        );
        assert!(
            error.reason.contains("rule") && !error.reason.contains("rude.word"),
            "{error:?}"
        );
        sink.write(&rows(["polite"])).await.unwrap();
        assert_eq!(
            sink.error_kind(&rows(["rude.word"])).await,
            SinkErrorKind::RowRejected
        );
        assert_eq!(
            database.stored().await,
            ["polite"],
            "the experiment leaves nothing behind"
        );
    }
}

/// A rule that even the harmless row breaks: the rejected row is known once another was accepted.
#[tokio::test]
async fn a_rejected_row_counts_as_misconfiguration_until_a_row_is_known_good() {
    for database in TestDatabase::both().await {
        database.reject("action NOT LIKE 'shop.%'").await;
        let mut sink = TestSink::to(&database.url);
        assert_eq!(
            sink.error_kind(&rows(["rude.word"])).await,
            SinkErrorKind::Misconfigured
        );
        assert_eq!(
            sink.error_kind(&rows(["rude.word", "rude.word"])).await,
            SinkErrorKind::Misconfigured
        );
        assert_eq!(
            sink.error_kind(&rows(["rude.word", "shop.order", "rude.word"]))
                .await,
            SinkErrorKind::RowRejected
        );
        sink.write(&rows(["shop.order"])).await.unwrap();
        assert_eq!(
            sink.error_kind(&rows(["rude.word"])).await,
            SinkErrorKind::RowRejected
        );
        assert_eq!(database.stored().await, ["shop.order"]);
    }
}

/// A row that one lane has written is known to its siblings as accepted.
#[tokio::test]
async fn lanes_share_the_known_good_row() {
    let database = TestDatabase::postgres();
    database.reject("action NOT LIKE 'shop.%'").await;
    let TestSink::Postgres(one) = TestSink::to(&database.url) else {
        panic!("not PostgreSQL")
    };
    let mut other = TestSink::Postgres(Box::new(one.sibling()));
    assert_eq!(
        other.error_kind(&rows(["rude.word"])).await,
        SinkErrorKind::Misconfigured
    );
    TestSink::Postgres(one)
        .write(&rows(["shop.order"]))
        .await
        .unwrap();
    assert_eq!(
        other.error_kind(&rows(["rude.word"])).await,
        SinkErrorKind::RowRejected
    );
}

#[tokio::test]
async fn a_missing_table_or_column_is_a_misconfiguration() {
    for broken in [NO_TABLE, NO_COLUMN] {
        for database in TestDatabase::both().await {
            let (mut used, mut fresh) = (TestSink::to(&database.url), TestSink::to(&database.url));
            used.write(&rows(["before"])).await.unwrap();
            database.sql(broken).await;
            for sink in [&mut used, &mut fresh] {
                let error = sink.write(&rows(["during"])).await.unwrap_err();
                assert_eq!(error.kind, SinkErrorKind::Misconfigured, "{broken}: {error:?}");
                assert!(error.reason.contains("auditlog migrate"), "{error:?}");
            }
            if broken == NO_TABLE {
                database.sql(TABLE).await;
                used.write(&rows(["after"])).await.unwrap();
                assert_eq!(database.stored().await, ["after", "before"]);
            }
        }
    }
}

#[tokio::test]
async fn a_stored_row_that_is_sent_again_is_accepted() {
    for database in TestDatabase::both().await {
        database.reject("action LIKE 'rude.%'").await;
        let mut sink = TestSink::to(&database.url);
        let first = rows(["a", "b"]);
        sink.write(&first).await.unwrap();
        sink.write(&first).await.unwrap();
        // Beside a new one, twice in one batch, and beside one that is rejected.
        let mut mixed = first.to_vec();
        let new = rows(["c"]);
        mixed.extend([new[0].clone(), new[0].clone()]);
        sink.write(&Arc::new(mixed)).await.unwrap();
        assert_eq!(database.stored().await, ["a", "b", "c"]);
        let rejected: Vec<_> = [first[0].clone(), rows(["rude.word"])[0].clone()].into();
        assert_eq!(
            sink.error_kind(&Arc::new(rejected)).await,
            SinkErrorKind::RowRejected
        );
        // The pair identifies an entry, not the id alone.
        let later = NewAuditLog {
            created_at: DateTime::UNIX_EPOCH,
            action: "d".into(),
            ..(*first[0]).clone()
        };
        sink.write(&Arc::new(vec![later.into()])).await.unwrap();
        assert_eq!(database.stored().await, ["a", "b", "c", "d"]);
    }
}

#[tokio::test]
async fn a_missing_or_read_only_server_is_a_transient_error() {
    assert_eq!(
        TestSink::to("postgres://u@%2Fnowhere/db")
            .error_kind(&rows(["x"]))
            .await,
        SinkErrorKind::Transient
    );
    let database = TestDatabase::postgres();
    let name = database.url.rsplit('/').next().unwrap();
    database
        .sql(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await;
    let mut sink = TestSink::to(&database.url);
    let error = sink.write(&rows(["x"])).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sqlstate.as_deref()),
        (SinkErrorKind::Transient, Some("25006"))
    );
    assert!(error.reason.contains("point the URL at the primary"), "{error:?}");
}

#[tokio::test]
async fn a_table_that_others_lock_is_a_transient_error() {
    let database = TestDatabase::postgres();
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let holder = client(&database.url).await;
    holder
        .batch_execute("BEGIN; LOCK TABLE audit_logs")
        .await
        .unwrap();

    // The statement waits for longer than its limit.
    let error = TestSink::within(&database.url, Duration::from_millis(300))
        .write(&rows(["x"]))
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (SinkErrorKind::Transient, None));

    // An administrator ends the session while it waits.
    let mut sink = TestSink::to(&database.url);
    let waiting = tokio::spawn(async move { sink.write(&rows(["x"])).await });
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'audit-writer' AND wait_event_type = 'Lock'";
    let admin = client(&database.url).await;
    // Repeatedly: the session that was given up above may still wait as well.
    wait_for("its end", async || {
        admin.query(end, &[]).await.unwrap();
        waiting.is_finished()
    })
    .await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.sqlstate.as_deref()),
        (SinkErrorKind::Transient, Some("57P01"))
    );

    // The server gives up on the lock by itself.
    admin
        .batch_execute(&format!("ALTER DATABASE {name} SET lock_timeout = '20ms'"))
        .await
        .unwrap();
    let error = TestSink::to(&database.url).write(&rows(["x"])).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sqlstate.as_deref()),
        (SinkErrorKind::Transient, Some("55P03"))
    );
}

#[tokio::test]
async fn an_sqlite_file_that_others_lock_is_a_transient_error() {
    let [_, database] = TestDatabase::both().await;
    let mut holder = database.sqlite();
    holder.batch_execute("BEGIN IMMEDIATE").unwrap();
    let mut sink = TestSink::to(&database.url);
    let error = sink.write(&rows(["x"])).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Transient);
    assert!(
        error.reason.contains("another process held the file"),
        "{error:?}"
    );
    holder.batch_execute("COMMIT").unwrap();
    sink.write(&rows(["x"])).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_a_misconfiguration() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.db");
    std::fs::write(&path, [b'x'; 8_192]).unwrap();
    let error = TestSink::to(&format!("sqlite://{}", path.display()))
        .write(&rows(["x"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(
        error.reason.contains("file is not a database") && error.reason.contains("backup"),
        "{error:?}"
    );
}

fn dated(year: i32) -> Rows {
    let time = chrono::NaiveDate::from_ymd_opt(year, 2, 3)
        .unwrap()
        .and_hms_opt(4, 5, 6)
        .unwrap()
        .and_utc();
    Arc::new(vec![
        NewAuditLog {
            created_at: time,
            ..(*rows(["old"])[0]).clone()
        }
        .into(),
    ])
}

#[tokio::test]
async fn a_missing_partition_is_created() {
    let database = TestDatabase::postgres();
    database.sql("DROP TABLE audit_logs_default").await;
    let mut sink = TestSink::to(&database.url);
    let mut both = dated(1999).to_vec();
    both.extend(dated(2001).to_vec());
    sink.write(&Arc::new(both)).await.unwrap();
    let client = client(&database.url).await;
    let found = client.query_one(
        "SELECT (SELECT count(*) FROM audit_logs_1999_02) + (SELECT count(*) FROM audit_logs_2001_02)",
        &[],
    );
    assert_eq!(found.await.unwrap().get::<_, i64>(0), 2);
}

/// One row of a month without a partition is rejected while others are accepted; once the current
/// partition is missing it is a misconfiguration.
#[tokio::test]
async fn a_partition_that_the_user_may_not_create_is_reported() {
    let server = Server::start(&[]).unwrap();
    let url = server.migrated().unwrap();
    let admin = client(&url).await;
    admin
        .batch_execute(
            "DROP TABLE audit_logs_default; CREATE ROLE app LOGIN PASSWORD 'hush'; GRANT audit_writer TO app; \
             REVOKE EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz, integer) FROM audit_writer",
        )
        .await
        .unwrap();
    let mut sink = TestSink::to(&server.url_as("app", "hush", url.rsplit('/').next().unwrap()));
    sink.write(&rows(["now"])).await.unwrap();
    let error = sink.write(&dated(1999)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sqlstate.as_deref()),
        (SinkErrorKind::RowRejected, Some("23514"))
    );
    assert!(error.reason.contains("audit_logs_ensure_partitions"), "{error:?}");

    let months = admin
        .query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass",
            &[],
        )
        .await
        .unwrap();
    for month in months {
        admin
            .batch_execute(&format!("DROP TABLE {}", month.get::<_, String>(0)))
            .await
            .unwrap();
    }
    let error = sink.write(&rows(["now"])).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Misconfigured);
    assert!(error.reason.contains("GRANT EXECUTE"), "{error:?}");
    admin
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz, integer) TO app",
        )
        .await
        .unwrap();
    sink.write(&rows(["now"])).await.unwrap();
    // A maintainer may create any month, a writer only the upcoming ones.
    assert_eq!(
        sink.write(&dated(1999)).await.unwrap_err().kind,
        SinkErrorKind::RowRejected
    );
    admin
        .batch_execute("GRANT audit_maintainer TO app")
        .await
        .unwrap();
    sink.write(&dated(1999)).await.unwrap();
}
