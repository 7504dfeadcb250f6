//! Migrations run up, down and up again, on empty and filled databases and on any runtime.

use db_services::audit::{AuditEntry, count, for_tenant, insert};

use crate::support::TestDb;

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
        assert!(
            db.database
                .migration_status()
                .await
                .unwrap()
                .iter()
                .all(|step| !step.applied)
        );
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

#[tokio::test]
async fn two_programs_that_migrate_concurrently_take_turns() {
    let db = TestDb::empty_postgres();
    let (one, other) = tokio::join!(db.database.migrate(), db.database.migrate());
    let mut counts = [one.unwrap().len(), other.unwrap().len()];
    counts.sort();
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 0);
}

#[tokio::test]
async fn the_table_can_be_in_another_schema() {
    let db = TestDb::empty_postgres();
    db.sql("CREATE SCHEMA audit").await.unwrap();
    let url = format!("{}?options=-csearch_path%3Daudit", db.url);
    let elsewhere = db_services::client::Database::from_url(&url).unwrap();
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
