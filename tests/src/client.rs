//! Database connections: pooling, settings, and errors without the password.

use db_services::audit::{AuditEntry, Delivery, RetryPolicy};
use db_services::client::{Database, MigrationState};

use crate::captured_logs;
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

/// A URL with a server before the others that accepts connections and never answers. The listener must be
/// kept.
fn behind_a_silent_host(url: &str) -> (String, std::net::TcpListener) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = format!("@{},", silent.local_addr().unwrap());
    let url = format!("{}?connect_timeout=1", url.replacen('@', &first, 1));
    (url, silent)
}

#[tokio::test]
async fn a_silent_first_host_is_passed_wherever_connections_are_opened() {
    let db = TestDb::empty_postgres();
    let (url, _silent) = behind_a_silent_host(&db.url);
    let database = Database::from_url(&url).unwrap();
    let pending = |states: &[MigrationState]| states.iter().filter(|state| !state.applied).count();
    assert_ne!(pending(&database.migration_status().await.unwrap()), 0);
    assert!(!database.migrate().await.unwrap().is_empty());
    assert_eq!(pending(&database.migration_status().await.unwrap()), 0);

    let client = database.postgres_client().await.unwrap().unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    // More than the pool may open, all at the same time.
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { database.connection().await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let (writer, _guard) = writer_to(database).start().unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
}

/// An attempt of the writer, and a connection of the pool, last as long as all their hosts.
#[tokio::test]
async fn many_dead_hosts_are_passed() {
    let db = TestDb::postgres().await;
    let (mut url, mut silent) = (db.url.clone(), Vec::new());
    for _ in 0..8 {
        let (longer, listener) = behind_a_silent_host(&url);
        url = longer.split('?').next().unwrap().to_owned();
        silent.push(listener);
    }
    let database = Database::from_url(&format!("{url}?connect_timeout=1")).unwrap();
    database.connection().await.unwrap();
    let mut policy = RetryPolicy::default();
    // For each of them, not for all together.
    policy.attempt_timeout = std::time::Duration::from_secs(5);
    let (writer, _guard) = writer_to(database).retry(policy).start().unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
}

#[tokio::test]
async fn the_error_of_each_host_is_shown() {
    let (url, _silent) = behind_a_silent_host("postgres://u:hush@127.0.0.1:1/db");
    let database = Database::from_url(&url).unwrap();
    let errors = [
        database.connection().await.unwrap_err(),
        database.postgres_client().await.unwrap_err(),
        database.migrate().await.unwrap_err(),
        database.migration_status().await.unwrap_err(),
    ];
    for error in errors {
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("took longer than 1s") && text.contains("refused"),
            "{text}"
        );
        assert!(!text.contains("hush"), "{text}");
    }
}

#[tokio::test]
async fn the_writer_is_misconfigured_if_the_server_that_answers_says_so() {
    let db = TestDb::postgres().await;
    let absent = db.url.replace("test_", "absent_");
    let (url, _silent) = behind_a_silent_host(&absent);
    captured_logs::start_capturing();
    let database = Database::from_url(&url).unwrap();
    let (name, (writer, _guard)) = (database.to_string(), writer_to(database).start().unwrap());
    drop(writer.write(AuditEntry::new("x")));
    captured_logs::wait_for(
        &name,
        &["is misconfigured", "does not exist", "create the database"],
    )
    .await;
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
