//! The index in the order of time on a trail that was there before.

use audit_ops::{indexes, partitions};

use crate::support::{TestDb, has_all_migrations, wait_for};

#[tokio::test]
async fn an_index_that_is_not_complete_is_not_attached() {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01'); DROP INDEX audit_logs_time; \
         CREATE INDEX audit_logs_time ON ONLY audit_logs (created_at, name(actor_id COLLATE \"C\"), name(resource_id COLLATE \"C\"), \
             name(request_id COLLATE \"C\"), name(tenant_id COLLATE \"C\")); \
         CREATE INDEX audit_logs_2001_02_time ON audit_logs_2001_02 (created_at); \
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_logs_2001_02_time'::regclass",
    )
    .await
    .unwrap();
    partitions::maintain(&mut db.connection().await, 13, |_| ())
        .await
        .unwrap();
    let attached = "SELECT count(*)::text AS value FROM pg_inherits WHERE inhrelid = 'audit_logs_2001_02_time'::regclass";
    assert_eq!(db.text(attached).await, "0");
    let mut conn = db.connection().await;
    assert!(indexes::build_time_indexes(&mut conn, |_, _| ()).await.unwrap() > 0);
    assert_eq!(db.text(attached).await, "1");
    assert_eq!(
        db.text(
            "SELECT indisvalid::text AS value FROM pg_index WHERE indexrelid = 'audit_logs_time'::regclass"
        )
        .await,
        "true"
    );
}

/// A trail as the version before left it: five million rows would take the migration seconds, here it is 17 MB.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_trail_gets_the_new_indexes_and_loses_the_old_ones() {
    let db = TestDb::postgres().await;
    while db.database.revert_migration().await.unwrap() != "20261129000005" {}
    db.sql(
        "SELECT audit_logs_ensure_partitions(now() - interval '1 month', now()); \
         INSERT INTO audit_logs (created_at, action, metadata) SELECT now() - n * interval '1 second', 'old', to_jsonb(repeat(md5(n::text), 20)) FROM generate_series(1, 25000) n; \
         INSERT INTO audit_logs (created_at, action) VALUES (now() - interval '1 month', 'ended'); \
         SELECT audit_logs_index_closed_months()",
    )
    .await
    .unwrap();
    assert_eq!(db.database.migrate().await.unwrap()[0], "20261129000005");
    let replaced = "SELECT (to_regclass('audit_logs_tenant_timeline') IS NULL)::text AS value";
    let valid =
        "SELECT indisvalid::text AS value FROM pg_index WHERE indexrelid = 'audit_logs_time'::regclass";
    assert_eq!(
        (db.text(valid).await.as_str(), db.text(replaced).await.as_str()),
        ("false", "false")
    );
    let mut conn = db.connection().await;
    let built = indexes::build_time_indexes(&mut conn, |_, _| ()).await.unwrap();
    assert_eq!(built, 1, "the partition with rows");
    assert_eq!(db.text(valid).await, "true");
    partitions::maintain(&mut conn, 13, |_| ()).await.unwrap();
    assert_eq!(db.text(replaced).await, "true");
    let old = "SELECT count(*)::text AS value FROM pg_class WHERE relname ~ '^audit_logs_[0-9]{4}_[0-9]{2}_(actor|resource|request)$'";
    assert_eq!(db.text(old).await, "0");
    assert_eq!(db.count().await, 25_001);
    assert!(has_all_migrations(&db.database).await);
}

/// A reader whose query was planned with the index, which stays in its transaction, keeps it from being attached. Each
/// attempt lets writers wait for half a second.
#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_an_index_waits_to_be_attached() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let db = TestDb::postgres().await;
    db.sql(
        "DROP INDEX audit_logs_time; \
         CREATE INDEX audit_logs_time ON ONLY audit_logs (created_at, name(actor_id COLLATE \"C\"), name(resource_id COLLATE \"C\"), \
             name(request_id COLLATE \"C\"), name(tenant_id COLLATE \"C\")); \
         CREATE INDEX audit_logs_default_time ON audit_logs_default (created_at, name(actor_id COLLATE \"C\"), \
             name(resource_id COLLATE \"C\"), name(request_id COLLATE \"C\"), name(tenant_id COLLATE \"C\"))",
    )
    .await
    .unwrap();
    let mut reader = AsyncPgConnection::establish(&db.url).await.unwrap();
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM audit_logs")
        .await
        .unwrap();
    let held = "SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs_default_time'::regclass AND granted";
    assert_ne!(db.text(held).await, "0", "the reader has locked the index");
    let database = db.database.clone();
    let building = tokio::spawn(async move {
        let mut conn = database.connection().await.unwrap();
        indexes::build_time_indexes(&mut conn, |_, _| ()).await
    });
    wait_for("the index to wait", async || {
        let waits = "SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs_default_time'::regclass AND NOT granted";
        db.text(waits).await != "0"
    })
    .await;
    for _ in 0..3 {
        db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'meanwhile')")
            .await
            .unwrap();
    }
    assert!(!building.is_finished(), "it waits for the reader");
    reader.batch_execute("COMMIT").await.unwrap();
    assert!(building.await.unwrap().unwrap() > 20, "every partition");
    let valid =
        "SELECT indisvalid::text AS value FROM pg_index WHERE indexrelid = 'audit_logs_time'::regclass";
    assert_eq!(db.text(valid).await, "true");
}
