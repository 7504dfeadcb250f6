//! Database connections: pooling, settings, and errors without the password.

use db_services::audit::{AuditEntry, Delivery};
use db_services::client::Database;

use crate::support::{TestDb, on_both, writer_to};

on_both! {
    async fn connections_are_pooled(db: TestDb) {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let database = db.database.clone();
                tokio::spawn(async move { db_services::audit::count(&mut database.connection().await.unwrap()).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 0);
        }
        if db.is_postgres() {
            let open = db.text("SELECT count(*)::text AS value FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'").await;
            assert!(open.parse::<u32>().unwrap() <= 10, "{open} connections");
        }
    }
}

#[tokio::test]
async fn connections_have_an_application_name() {
    let db = TestDb::postgres().await;
    assert_eq!(
        db.text("SELECT current_setting('application_name') AS value")
            .await,
        "db-services"
    );
    let (writer, _guard) = db.writer();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    let writers = "SELECT count(*)::text AS value FROM pg_stat_activity WHERE application_name = 'audit-writer' AND datname = current_database()";
    assert_eq!(db.text(writers).await, "1");

    let named = Database::from_url(&format!("{}?application_name=shop", db.url)).unwrap();
    let (writer, _guard) = writer_to(named).start().unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    assert_eq!(db.text(&writers.replace("audit-writer", "shop")).await, "1");
}

#[tokio::test]
async fn the_writers_commits_are_synced_even_if_synchronous_commit_is_off() {
    let db = TestDb::postgres().await;
    db.sql(
        "CREATE TABLE seen (setting text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER note AFTER INSERT ON audit_logs FOR EACH STATEMENT EXECUTE FUNCTION note()",
    )
    .await
    .unwrap();
    let name = db.text("SELECT current_database() AS value").await;
    for (configured, used) in [("off", "local"), ("on", "on")] {
        db.sql(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = {configured}"
        ))
        .await
        .unwrap();
        let (writer, _guard) = db.writer();
        assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
        assert_eq!(
            db.text("SELECT (array_agg(setting ORDER BY ctid DESC))[1] AS value FROM seen")
                .await,
            used
        );
    }
}

#[tokio::test]
async fn sqlite_survives_a_power_cut_and_waits_for_locks() {
    let db = TestDb::sqlite().await;
    for (pragma, value) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("busy_timeout", "5000"),
    ] {
        let column = if pragma == "busy_timeout" {
            "timeout"
        } else {
            pragma
        };
        let sql = format!("SELECT CAST({column} AS TEXT) AS value FROM pragma_{pragma}");
        assert_eq!(db.text(&sql).await, value, "{pragma}");
    }
}

#[tokio::test]
async fn no_error_contains_the_password() {
    let db = TestDb::postgres().await;
    let existing = Database::from_url(&db.url.replace("postgres@", "nobody:hush@")).unwrap();
    let missing = Database::from_url(
        &db.url
            .replace("postgres@", "postgres:hush@")
            .replace("test_", "absent_"),
    )
    .unwrap();
    for database in [
        existing,
        missing,
        Database::from_url("postgres://u:hush@127.0.0.1:1/db").unwrap(),
    ] {
        let error = database.connection().await.unwrap_err();
        let migration = database.migrate().await.unwrap_err();
        for text in [
            format!("{error} {error:?}"),
            format!("{migration} {migration:?}"),
            format!("{database} {database:?}"),
        ] {
            assert!(!text.contains("hush"), "{text}");
        }
        assert!(
            error.to_string().len() > "cannot connect to ".len() + database.to_string().len(),
            "a cause: {error}"
        );
    }
}

#[tokio::test]
async fn connecting_to_a_server_that_never_answers_times_out() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "postgres://u@{}/db?connect_timeout=1",
        silent.local_addr().unwrap()
    );
    let error = Database::from_url(&url).unwrap().connection().await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn an_idle_connection_the_server_closed_is_replaced() {
    let db = TestDb::postgres().await;
    let (writer, _guard) = db.writer();
    assert_eq!(writer.write(AuditEntry::new("before")).await, Delivery::Committed);
    // In this database alone: the server has other tests' writers too.
    db.sql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE application_name = 'audit-writer' AND datname = current_database()",
    )
    .await
    .unwrap();
    // The writer may notice before this batch or with it.
    assert_eq!(writer.write(AuditEntry::new("after")).await, Delivery::Committed);
}
