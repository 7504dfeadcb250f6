//! Migrations run up, down and up again, on empty and filled databases and on any runtime.

use std::process::{Command, Stdio};

use db_services::audit::{AuditEntry, count, for_tenant, insert};
use db_services::client::Database;
use db_test::Server;
use tokio_postgres::SimpleQueryMessage;

use crate::attacks::fixture::connect;
use crate::support::{TestDb, has_all_migrations, has_no_migration};

/// Runs all migrations up, down and up again, first on an empty database, then on one with a row.
async fn migrate_up_down_up(db: TestDb) {
    let steps = db.database.migration_status().await.unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| !step.applied));
    for filled in [false, true] {
        assert_eq!(db.database.migrate().await.unwrap().len(), steps.len());
        assert_eq!(
            db.database.migrate().await.unwrap(),
            [""; 0],
            "a second run does nothing"
        );
        if filled {
            insert(&mut db.connection().await, &AuditEntry::new("x"))
                .await
                .unwrap();
            assert_eq!(db.count().await, 1);
        }
        for step in steps.iter().rev() {
            let reverted = db.database.revert_migration().await.unwrap();
            assert!(
                step.name.replace('-', "").starts_with(&reverted),
                "{reverted} is not {}",
                step.name
            );
        }
        assert!(has_no_migration(&db.database).await);
        assert!(db.database.revert_migration().await.is_err());
    }
    assert_eq!(db.database.migrate().await.unwrap().len(), steps.len());
    insert(&mut db.connection().await, &AuditEntry::new("x"))
        .await
        .unwrap();
    assert_eq!(db.count().await, 1);
}

#[tokio::test]
async fn migrations_run_up_down_and_up_on_postgres() {
    migrate_up_down_up(TestDb::empty_postgres()).await;
}

#[tokio::test]
async fn migrations_run_up_down_and_up_on_sqlite() {
    migrate_up_down_up(TestDb::empty_sqlite()).await;
}

/// There a writer can store a text that no archive can have.
#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused() {
    let server = Server::start(&[]).unwrap();
    for encoding in ["SQL_ASCII", "LATIN1", "UTF8"] {
        let name = encoding.to_lowercase();
        let client = connect(&server.url("postgres")).await;
        let create = format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        client.batch_execute(&create).await.unwrap();
        let db = TestDb::at(server.url(&name));
        let migrated = db.database.migrate().await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
            causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
        });
        match encoding {
            "UTF8" => assert!(migrated.is_ok(), "{migrated:?}"),
            _ => {
                let error = migrated.unwrap_err();
                let why = format!("the encoding of this database is {encoding}, and the trail needs UTF8");
                assert!(error.contains(&why), "{error}");
            }
        }
    }
}

/// Reverts down to the second migration, with rows in the partitions that it created.
#[tokio::test]
async fn rows_survive_reverting_the_partition_functions() {
    let db = TestDb::postgres().await;
    insert(&mut db.connection().await, &AuditEntry::new("x"))
        .await
        .unwrap();
    while !db.database.revert_migration().await.unwrap().ends_with("000002") {}
    assert_eq!(db.count().await, 1);
    db.database.migrate().await.unwrap();
    insert(&mut db.connection().await, &AuditEntry::new("y"))
        .await
        .unwrap();
    assert_eq!(db.count().await, 2);
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit_logs_default")
            .await,
        "0"
    );
}

#[test]
fn migrating_works_on_any_runtime() {
    let on = |mut builder: tokio::runtime::Builder| {
        builder.enable_all().build().unwrap().block_on(async {
            for db in [TestDb::empty_postgres(), TestDb::empty_sqlite()] {
                assert!(!db.database.migrate().await.unwrap().is_empty());
            }
        });
    };
    on(tokio::runtime::Builder::new_current_thread());
    on(tokio::runtime::Builder::new_multi_thread());
    for db in [TestDb::empty_postgres(), TestDb::empty_sqlite()] {
        assert!(
            !futures_executor::block_on(db.database.migrate())
                .unwrap()
                .is_empty()
        );
    }
}

/// Runs `auditlog migrate` or the like in eight processes at the same time. Returns how many migrations each
/// of them ran.
fn migrate_in_eight_processes(url: &str) -> Vec<usize> {
    let processes: Vec<_> = (0..8)
        .map(|_| {
            let mut app = Command::new(env!("CARGO_BIN_EXE_app"));
            app.arg("migrate").env("AUDIT_DATABASE_URL", url);
            app.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut counts: Vec<usize> = processes
        .into_iter()
        .map(|process| {
            let output = process.wait_with_output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(printed.starts_with("Ok("), "{printed}");
            printed.matches('"').count() / 2
        })
        .collect();
    counts.sort_unstable();
    counts
}

#[tokio::test]
async fn several_processes_may_migrate_at_the_same_time() {
    for round in 0..5 {
        for db in [TestDb::empty_postgres(), TestDb::empty_sqlite()] {
            let all = db.database.migration_status().await.unwrap().len();
            let counts = migrate_in_eight_processes(&db.url);
            assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, all], "{round} {}", db.url);
            insert(&mut db.connection().await, &AuditEntry::new("x"))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn reading_the_status_changes_nothing_on_postgres() {
    let db = TestDb::empty_postgres();
    let tables = "SELECT count(*)::text AS value FROM pg_class WHERE relname = '__diesel_schema_migrations'";
    let states = db.database.migration_status().await.unwrap();
    assert!(!states.is_empty() && states.iter().all(|state| !state.applied));
    assert_eq!(db.text(tables).await, "0");
    assert!(
        db.database
            .revert_migration()
            .await
            .unwrap_err()
            .to_string()
            .contains("no migration")
    );
    assert_eq!(db.text(tables).await, "0");

    // On a standby, or for a login that may not write.
    db.database.migrate().await.unwrap();
    let url = format!("{}?options=-cdefault_transaction_read_only%3Don", db.url);
    let reader = Database::from_url(&url).unwrap();
    assert!(has_all_migrations(&reader).await);
    assert_eq!(reader.migrate().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_of_those_before_it() {
    let db = TestDb::empty_postgres();
    // The last migration creates it.
    db.sql("CREATE TABLE audit_legal_holds (x int)").await.unwrap();
    let error = db.database.migrate().await.unwrap_err().to_string();
    assert!(error.contains("audit_legal_holds"), "{error}");
    assert!(has_no_migration(&db.database).await);
    let exists = "SELECT (to_regclass('audit_logs') IS NULL)::text AS value";
    assert_eq!(db.text(exists).await, "true");
    db.sql("DROP TABLE audit_legal_holds").await.unwrap();
    assert!(!db.database.migrate().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_lock_that_a_plain_login_may_hold_stops_the_migrations() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let login = "CREATE ROLE plain LOGIN PASSWORD 'pw'; GRANT SELECT ON __diesel_schema_migrations TO plain";
    db.sql(login).await.unwrap();
    let plain = connect(&server.url_as("plain", "pw", db.url.rsplit('/').next().unwrap())).await;
    plain
        .batch_execute(
            "SELECT pg_advisory_lock(hashtextextended('db-services migrations', 0)); \
             BEGIN; LOCK TABLE __diesel_schema_migrations IN ACCESS SHARE MODE; \
             SELECT FROM __diesel_schema_migrations; \
             PREPARE forged AS INSERT INTO __diesel_schema_migrations (version) VALUES ('x'); SAVEPOINT before",
        )
        .await
        .unwrap();
    let held = "SELECT count(*)::text AS value FROM pg_locks \
                WHERE relation = '__diesel_schema_migrations'::regclass AND mode = 'RowExclusiveLock'";
    assert_eq!(db.text(held).await, "1", "it has no right to insert");
    for mode in [
        "SHARE UPDATE EXCLUSIVE",
        "SHARE ROW EXCLUSIVE",
        "ACCESS EXCLUSIVE",
    ] {
        let lock = format!("LOCK TABLE __diesel_schema_migrations IN {mode} MODE");
        let refused = plain.batch_execute(&lock).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{mode}");
        plain.batch_execute("ROLLBACK TO before").await.unwrap();
    }
    assert!(!db.database.migration_status().await.unwrap().is_empty());
    db.database.revert_migration().await.unwrap();
    assert_eq!(db.database.migrate().await.unwrap().len(), 1);
    plain.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_held_for_long_leads_to_an_error_that_says_how_to_find_its_holder() {
    let db = TestDb::postgres().await;
    db.database.revert_migration().await.unwrap();
    let holder = connect(&db.url).await;
    holder
        .batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = db.database.migrate().await.unwrap_err().to_string();
    assert!(
        error.contains("lock timeout") && error.contains("pg_stat_activity"),
        "{error}"
    );
    // The query in the text finds the holder.
    let query = error
        .split("find it with: ")
        .nth(1)
        .unwrap()
        .strip_suffix(')')
        .unwrap();
    let pid = "SELECT pg_backend_pid()::text AS pid";
    let pid_of = |messages: Vec<SimpleQueryMessage>| -> Vec<String> {
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get("pid").unwrap().to_owned()),
            _ => None,
        });
        rows.collect()
    };
    let found = pid_of(holder.simple_query(query).await.unwrap());
    assert_eq!(found, pid_of(holder.simple_query(pid).await.unwrap()));
    // The list can still be read.
    assert_eq!(
        db.database
            .migration_status()
            .await
            .unwrap()
            .iter()
            .filter(|state| !state.applied)
            .count(),
        1
    );
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(db.database.migrate().await.unwrap().len(), 1);
}

/// The hold is not committed when the migration begins to wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_added_while_its_migration_is_reverted_is_kept() {
    let db = TestDb::postgres().await;
    while !db.database.revert_migration().await.unwrap().ends_with("000005") {}
    let other = connect(&db.url).await;
    other
        .batch_execute("BEGIN; SELECT audit_hold_add('in the last moment')")
        .await
        .unwrap();
    // The default of a login must not hide what is added.
    let url = format!(
        "{}?options=-cdefault_transaction_isolation%3Dserializable",
        db.url
    );
    let database = Database::from_url(&url).unwrap();
    let reverting = tokio::spawn(async move { database.revert_migration().await });
    crate::support::wait_for("the migration to wait for the hold", async || {
        let waits = "SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_legal_holds'::regclass AND NOT granted";
        db.text(waits).await != "0"
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    let refused = reverting.await.unwrap().unwrap_err().to_string();
    // The migration waits for two seconds at most.
    assert!(
        refused.contains("1 active holds") && refused.contains("--force") || refused.contains("lock timeout"),
        "{refused}"
    );
    let refused = db.database.revert_migration().await.unwrap_err().to_string();
    assert!(refused.contains("1 active holds"), "{refused}");
    let holds = "SELECT count(*)::text AS value FROM audit_legal_holds";
    assert_eq!(db.text(holds).await, "1");
    // An entry of the ledger is evidence as well.
    db.sql(
        "SELECT audit_hold_release(1, 'over'); \
         INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason) \
         VALUES (1, 'restored', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x')",
    )
    .await
    .unwrap();
    let refused = db.database.revert_migration().await.unwrap_err().to_string();
    assert!(refused.contains("0 active holds and 1 entries"), "{refused}");
    let reverted = db.database.revert_migration_with_evidence().await.unwrap();
    assert!(reverted.ends_with("000004"), "{reverted}");
}

#[tokio::test]
async fn the_table_can_be_in_another_schema() {
    let db = TestDb::empty_postgres();
    db.sql("CREATE SCHEMA audit").await.unwrap();
    let url = format!("{}?options=-csearch_path%3Daudit", db.url);
    let elsewhere = Database::from_url(&url).unwrap();
    elsewhere.migrate().await.unwrap();
    insert(&mut elsewhere.connection().await.unwrap(), &AuditEntry::new("x"))
        .await
        .unwrap();
    // The owner's functions find the table with any search_path of the caller.
    assert_eq!(
        db.text("SELECT audit.audit_logs_ensure_partitions('2031-01-01', '2031-03-01')::text AS value")
            .await,
        "3"
    );
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit.audit_logs")
            .await,
        "1"
    );
    // The roles may use the schema, although PUBLIC may not.
    let rows = for_tenant(&elsewhere, "nobody", async |conn| count(conn).await)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}
