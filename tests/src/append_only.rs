//! The database itself refuses to change stored rows, for every user and through every partition.

use db_services::audit::AuditEntry;
use db_services::audit::insert;

use crate::support::{TestDb, on_both};

/// Asserts that a statement is refused, and that the one stored row is unchanged.
async fn assert_refused(db: &TestDb, sql: &str) {
    let before = db.rows().await;
    assert_eq!(before.len(), 1, "the row that {sql} attacks is stored");
    let error = db.sql(sql).await.expect_err(sql);
    assert!(error.contains("append-only"), "{sql}: {error}");
    assert_eq!(db.rows().await, before, "{sql}");
}

on_both! {
    async fn updates_and_deletes_are_refused(db: TestDb) {
        insert(&mut db.connection().await, &AuditEntry::new("evidence").actor("mallory")).await.unwrap();
        for sql in [
            "UPDATE audit_logs SET actor_id = 'alice'",
            "UPDATE audit_logs SET created_at = created_at",
            "DELETE FROM audit_logs",
            "DELETE FROM audit_logs WHERE actor_id = 'mallory'",
        ] {
            assert_refused(&db, sql).await;
        }
    }
}

#[tokio::test]
async fn postgresql_refuses_changes_through_partitions_upserts_and_replica_mode() {
    let db = TestDb::postgres().await;
    insert(&mut db.connection().await, &AuditEntry::new("evidence"))
        .await
        .unwrap();
    let partition = db
        .text("SELECT tableoid::regclass::text AS value FROM audit_logs")
        .await;
    assert!(partition.starts_with("audit_logs_2"), "{partition}");
    for sql in [
        format!("UPDATE {partition} SET action = 'x'"),
        format!("DELETE FROM {partition}"),
        format!("TRUNCATE {partition}"),
        "TRUNCATE audit_logs".to_owned(),
        "UPDATE audit_logs SET created_at = created_at - interval '1 month'".to_owned(),
        "INSERT INTO audit_logs (id, created_at, action) SELECT id, created_at, 'x' FROM audit_logs \
         ON CONFLICT (id, created_at) DO UPDATE SET action = 'x'"
            .to_owned(),
        "SET session_replication_role = replica; DELETE FROM audit_logs".to_owned(),
        format!("SET session_replication_role = replica; TRUNCATE {partition}"),
    ] {
        // Tried as owner and superuser, who has all privileges.
        assert_refused(&db, &sql).await;
    }
    if db
        .text("SELECT current_setting('server_version_num') AS value")
        .await
        .parse::<u32>()
        .unwrap()
        >= 150_000
    {
        assert_refused(
            &db,
            "MERGE INTO audit_logs a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
        )
        .await;
    }
}

#[tokio::test]
async fn postgresql_refuses_changes_in_the_default_partition_and_in_new_partitions() {
    for created_at in ["1999-01-01", "2031-05-05"] {
        let db = TestDb::postgres().await;
        if created_at == "2031-05-05" {
            db.sql("SELECT audit_logs_ensure_partitions('2031-05-01', '2031-05-01')")
                .await
                .unwrap();
        }
        db.sql(&format!(
            "INSERT INTO audit_logs (created_at, action) VALUES ('{created_at}', 'x')"
        ))
        .await
        .unwrap();
        let partition = db
            .text("SELECT tableoid::regclass::text AS value FROM audit_logs")
            .await;
        assert_eq!(
            partition,
            if created_at == "1999-01-01" {
                "audit_logs_default"
            } else {
                "audit_logs_2031_05"
            }
        );
        for sql in ["UPDATE $1 SET action = 'y'", "DELETE FROM $1", "TRUNCATE $1"] {
            assert_refused(&db, &sql.replace("$1", &partition)).await;
            assert_refused(
                &db,
                &format!(
                    "SET session_replication_role = replica; {}",
                    sql.replace("$1", &partition)
                ),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn postgresql_refuses_changes_in_manually_created_partitions() {
    let db = TestDb::postgres().await;
    db.sql("CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2040-01-01') TO ('2040-02-01')")
        .await
        .unwrap();
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2040-01-15', 'x')")
        .await
        .unwrap();
    assert_eq!(
        db.text("SELECT tableoid::regclass::text AS value FROM audit_logs")
            .await,
        "mine"
    );
    for sql in [
        "UPDATE audit_logs SET action = 'y'",
        "DELETE FROM mine",
        "TRUNCATE audit_logs",
    ] {
        assert_refused(&db, sql).await;
        assert_refused(&db, &format!("SET session_replication_role = replica; {sql}")).await;
    }
}

#[tokio::test]
async fn a_refused_change_has_a_stable_sqlstate() {
    let db = TestDb::postgres().await;
    db.sql("INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    db.sql(
        "DO $$ BEGIN DELETE FROM audit_logs; RAISE 'not refused'; \
         EXCEPTION WHEN SQLSTATE 'UA001' THEN NULL; END $$",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn sqlite_refuses_to_replace_rows() {
    let db = TestDb::sqlite().await;
    db.sql("INSERT INTO audit_logs (id, created_at, action) VALUES (x'00112233445566778899aabbccddeeff', 1, 'x')")
        .await
        .unwrap();
    for verb in ["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT"] {
        let columns =
            "INTO audit_logs (id, created_at, action) VALUES (x'00112233445566778899aabbccddeeff', 1, 'y')";
        assert_refused(&db, &format!("{verb} {columns}")).await;
        assert_refused(&db, &format!("PRAGMA recursive_triggers = OFF; {verb} {columns}")).await;
    }
    assert_refused(&db, "UPDATE OR REPLACE audit_logs SET action = 'y'").await;
}
