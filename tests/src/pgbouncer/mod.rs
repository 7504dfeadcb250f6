//! The trail through PgBouncer: it works in session mode, and says that it does not in transaction mode.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use audit_ops::doctor::{Code, Finding, Options, Severity, examine};
use db_services::audit::{TenantError, count, for_tenant};
use db_services::client::{Connection, Database};
use db_test::{Bouncer, Server};
use diesel_async::SimpleAsyncConnection;

use crate::attacks::fixture::connect;
use crate::support::{TIMEOUT, numbered, writer_to};

/// A server with a migrated database, and a login for the application.
async fn server() -> (Server, String) {
    let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let url = server.migrated().unwrap();
    let app = "CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer, audit_reader";
    connect(&url).await.batch_execute(app).await.unwrap();
    (server, url)
}

fn database(bouncer: &Bouncer, user: &str) -> Database {
    Database::from_url(&bouncer.url(user)).unwrap()
}

async fn client(bouncer: &Bouncer, user: &str) -> tokio_postgres::Client {
    connect(&bouncer.url(user)).await
}

async fn pooler_findings(bouncer: &Bouncer) -> Vec<Finding> {
    let report = examine(&database(bouncer, "app"), &Options::default())
        .await
        .unwrap();
    // Other checks work through a pooler as well.
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == Code::RowUpdate && f.severity == Severity::Ok)
    );
    report
        .findings
        .into_iter()
        .filter(|finding| finding.code == Code::Pooler)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_pgbouncer_in_session_mode() {
    let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    connect(&server.url("postgres"))
        .await
        .batch_execute("CREATE DATABASE shop")
        .await
        .unwrap();
    let bouncer = Bouncer::start(&server, &server.url("shop"), "session", 20).unwrap();
    assert!(!database(&bouncer, "postgres").migrate().await.unwrap().is_empty());
    let app = "CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer, audit_reader";
    connect(&server.url("shop"))
        .await
        .batch_execute(app)
        .await
        .unwrap();

    let (writer, guard) = writer_to(database(&bouncer, "app")).start().unwrap();
    let entries = numbered(2_000).enumerate();
    let given = entries.map(|(nth, entry)| entry.tenant(if nth % 2 == 0 { "acme" } else { "globex" }));
    assert!(writer.write_all(given).await.is_durable());
    guard.shutdown(TIMEOUT).await;
    let database = database(&bouncer, "app");
    for (tenant, rows) in [("acme", 1_000), ("globex", 1_000), ("initech", 0)] {
        let seen = for_tenant(&database, tenant, async |conn| count(conn).await)
            .await
            .unwrap();
        assert_eq!(seen, rows, "{tenant}");
    }
    let pooler = pooler_findings(&bouncer).await;
    assert_eq!(
        (pooler.len(), pooler[0].severity),
        (1, Severity::Ok),
        "{pooler:#?}"
    );
}

/// Nothing that migrations or their status set or lock stays in a session that others use next.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_through_pgbouncer_in_transaction_mode() {
    let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let admin = connect(&server.url("postgres")).await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let bouncer = Bouncer::start(&server, &server.url("shop"), "transaction", 2).unwrap();
    let database = database(&bouncer, "postgres");
    let all = database.migration_status().await.unwrap().len();
    let (one, other) = tokio::join!(database.migrate(), database.migrate());
    assert_eq!(one.unwrap().len() + other.unwrap().len(), all);
    database.revert_migration().await.unwrap();
    assert_eq!(database.migrate().await.unwrap().len(), 1);

    let sessions = [
        client(&bouncer, "postgres").await,
        client(&bouncer, "postgres").await,
    ];
    for session in &sessions {
        session.batch_execute("BEGIN").await.unwrap();
        let set = session
            .query_one("SELECT current_setting('lock_timeout')", &[])
            .await
            .unwrap();
        assert_eq!(set.get::<_, &str>(0), "0");
    }
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                 OR relation = '__diesel_schema_migrations'::regclass";
    let direct = connect(&server.url("shop")).await;
    assert_eq!(direct.query_one(locks, &[]).await.unwrap().get::<_, i64>(0), 0);
    let direct = db_services::client::Database::from_url(&server.url("shop")).unwrap();
    assert_eq!(direct.revert_migration().await.unwrap().len(), 14);
}

/// The pooler gives the session to the next client as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_ended_its_transaction_does_not_break_the_next_one_in_transaction_mode() {
    let (server, url) = server().await;
    let bouncer = Bouncer::start(&server, &url, "transaction", 1).unwrap();
    let (writer, guard) = writer_to(db_services::client::Database::from_url(&url).unwrap())
        .start()
        .unwrap();
    let given = numbered(3).map(|entry| entry.tenant("acme"));
    assert!(writer.write_all(given).await.is_durable());
    guard.shutdown(TIMEOUT).await;
    let database = database(&bouncer, "app");
    for _ in 0..2 {
        let ended = for_tenant(&database, "acme", async |conn| {
            let Connection::Postgres(conn) = conn else {
                panic!("not PostgreSQL")
            };
            SimpleAsyncConnection::batch_execute(conn, "COMMIT").await
        });
        let error = ended.await.unwrap_err();
        assert!(matches!(error, TenantError::Changed { .. }), "{error}");
        let seen = for_tenant(&database, "acme", async |conn| count(conn).await);
        assert_eq!(seen.await.unwrap(), 3);
    }
}

#[tokio::test]
async fn the_doctor_reports_transaction_mode_and_leaves_no_prepared_statement() {
    let (server, url) = server().await;
    let bouncer = Bouncer::start(&server, &url, "transaction", 20).unwrap();
    for _ in 0..3 {
        let pooler = pooler_findings(&bouncer).await;
        assert_eq!(
            (pooler.len(), pooler[0].severity),
            (1, Severity::Critical),
            "{pooler:#?}"
        );
        assert!(
            pooler[0].found.contains("loses prepared statements"),
            "{pooler:#?}"
        );
        assert!(
            pooler[0].remedy.as_deref().unwrap().contains("1.21"),
            "{pooler:#?}"
        );
    }
    // Three clients at the same time, so that each has another session.
    let clients = [
        client(&bouncer, "app").await,
        client(&bouncer, "app").await,
        client(&bouncer, "app").await,
    ];
    for client in &clients {
        client.batch_execute("BEGIN").await.unwrap();
        let left = client
            .simple_query("SELECT name FROM pg_prepared_statements")
            .await
            .unwrap();
        assert!(
            !left
                .iter()
                .any(|m| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_))),
            "{left:?}"
        );
    }
}

#[tokio::test]
async fn the_doctor_reports_a_pool_with_one_session() {
    let (server, url) = server().await;
    let bouncer = Bouncer::start(&server, &url, "transaction", 1).unwrap();
    let pooler = pooler_findings(&bouncer).await;
    assert_eq!(
        (pooler.len(), pooler[0].severity),
        (1, Severity::Warning),
        "{pooler:#?}"
    );
}

/// The writer logs a hint, and no entry is rejected or lost.
#[tokio::test]
async fn the_writer_logs_a_hint_in_transaction_mode() {
    let (server, url) = server().await;
    let bouncer = Bouncer::start(&server, &url, "transaction", 20).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut app = Command::new(env!("CARGO_BIN_EXE_app"))
        .arg("await-lines")
        .env("RUST_LOG", "warn")
        .env("AUDIT_DATABASE_URL", bouncer.url("app"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap();
    let mut lines = app.stdin.take().unwrap();
    let mut answers = BufReader::new(app.stdout.take().unwrap()).lines();
    let mut written = 0;
    let mut write = |count: usize| {
        for _ in 0..count {
            writeln!(lines, "{written}").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), "committed");
            written += 1;
        }
        written
    };
    write(2);
    let other = client(&bouncer, "app").await;
    let logged = || std::fs::read_to_string(log.path()).unwrap();
    for _ in 0..20 {
        // Occupies the session that the writer used last, so that the writer gets another one.
        other.batch_execute("BEGIN; SELECT 1").await.unwrap();
        write(2);
        other.batch_execute("ROLLBACK").await.unwrap();
        if logged().contains("prepared statement") {
            break;
        }
    }
    let stored = write(1);
    drop(lines);
    app.wait().unwrap();
    let logged = logged();
    assert!(logged.contains("is misconfigured"), "{logged}");
    assert!(
        logged.contains("PgBouncer in transaction mode needs 1.21 or newer"),
        "{logged}"
    );
    assert!(!logged.contains("quarantine"), "{logged}");
    let count = "SELECT count(*)::text FROM audit_logs WHERE action = 'app.await'";
    let row = connect(&url).await.query_one(count, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), stored.to_string());
}
