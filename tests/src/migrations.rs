//! Does every migration go up, down and up again, empty and filled, on any runtime?

use db_services::audit::{AuditEntry, count, for_tenant, insert};

use crate::support::TestDb;

/// Up, down to nothing, up: on an empty database, then on one with rows in it.
async fn up_down_up(db: TestDb) {
    let steps = db.database.migration_status().await.unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| !step.applied));
    for filled in [false, true] {
        assert_eq!(db.database.migrate().await.unwrap().len(), steps.len());
        assert_eq!(
            db.database.migrate().await.unwrap(),
            [""; 0],
            "nothing is left to do"
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
async fn up_down_up_on_postgres() {
    up_down_up(TestDb::empty_postgres()).await;
}

#[tokio::test]
async fn up_down_up_on_sqlite() {
    up_down_up(TestDb::empty_sqlite()).await;
}

/// Reverts to the first migration alone, with rows in the partitions that the second has created.
#[tokio::test]
async fn the_rows_outlive_the_partition_functions() {
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
async fn two_programs_that_migrate_at_once_take_turns() {
    let db = TestDb::empty_postgres();
    let (one, other) = tokio::join!(db.database.migrate(), db.database.migrate());
    let mut counts = [one.unwrap().len(), other.unwrap().len()];
    counts.sort();
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 0);
}

#[tokio::test]
async fn the_table_may_be_in_another_schema() {
    for schema in ["audit", "Audit-1"] {
        let db = TestDb::empty_postgres();
        db.sql(&format!("CREATE SCHEMA \"{schema}\"")).await.unwrap();
        let url = format!("{}?options=-csearch_path%3D%22{schema}%22", db.url);
        let elsewhere = db_services::client::Database::from_url(&url).unwrap();
        elsewhere.migrate().await.unwrap();
        insert(&mut elsewhere.connection().await.unwrap(), &AuditEntry::new("x"))
            .await
            .unwrap();
        // The owner's functions find the table whatever the caller's search_path is.
        let created = format!(
            "SELECT \"{schema}\".audit_logs_ensure_partitions('2031-01-01', '2031-03-01')::text AS value"
        );
        assert_eq!(db.text(&created).await, "3");
        let plan = format!("SELECT count(*)::text AS value FROM \"{schema}\".audit_retention_plan(13)");
        assert_ne!(db.text(&plan).await, "0");
        let count_rows = format!("SELECT count(*)::text AS value FROM \"{schema}\".audit_logs");
        assert_eq!(db.text(&count_rows).await, "1");
        // The roles may use the schema, which is not open to all.
        let rows = for_tenant(&elsewhere, "nobody", async |conn| count(conn).await)
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }
}

/// Every migration completes the functions that it creates.
#[tokio::test]
async fn no_function_is_left_with_a_placeholder() {
    let db = TestDb::postgres().await;
    let functions = "SELECT count(*)::text AS value FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    assert_ne!(
        db.text(&format!("{functions} AND prosrc LIKE '%public.%'")).await,
        "0"
    );
    assert_eq!(
        db.text(&format!("{functions} AND prosrc LIKE '%@schema@%'"))
            .await,
        "0"
    );
}
