//! Any SQL client can write, and every row that it writes can be read.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::support::{TestDb, on_both};

on_both! {
    async fn an_action_is_the_only_required_column(db: TestDb) {
        db.sql("INSERT INTO audit_logs (action) VALUES ('x')").await.unwrap();
        db.sql("INSERT INTO audit_logs (action) VALUES ('x')").await.unwrap();
        let rows = db.rows().await;
        let row = &rows[0];
        assert_eq!((row.action.as_str(), row.outcome.as_str()), ("x", "success"));
        assert_eq!(row.metadata.as_ref().unwrap().as_str(), "{}");
        assert_ne!(rows[0].id, rows[1].id);
        assert_eq!(row.id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(row.id.get_version_num(), if db.is_postgres() { 7 } else { 4 });
        for time in [row.created_at, row.recorded_at] {
            assert!((Utc::now() - time).abs().to_std().unwrap() < Duration::from_secs(60), "{time}");
        }
        assert_eq!(row.writer_id, None);
        assert_eq!(row.tx_id > 0, db.is_postgres());
    }

    async fn metadata_that_cannot_be_parsed_is_returned_as_text(db: TestDb) {
        let deep = format!("{{\"d\":{}1{}}}", "[".repeat(2_000), "]".repeat(2_000));
        for metadata in [r#"{"n":1E400}"#, deep.as_str(), "[1]", "null", r#"{"a":1,"a":2}"#] {
            db.sql(&format!("INSERT INTO audit_logs (action, metadata) VALUES ('x', '{metadata}')")).await.unwrap();
        }
        db.sql("INSERT INTO audit_logs (action, metadata, outcome, actor_type) VALUES ('x', NULL, 'sort of', 'robot')").await.unwrap();
        let rows = db.rows().await;
        assert_eq!(rows.len(), 6);
        assert_eq!(rows.iter().filter(|row| row.metadata.is_none()).count(), 1);
        let unparsed = rows.iter().filter_map(|row| row.metadata.as_ref()).filter(|text| text.parse().is_err());
        assert_eq!(unparsed.count(), 2);
        assert!(rows.iter().any(|row| row.outcome == "sort of"));
    }
}

#[tokio::test]
async fn an_orm_insert_of_the_seven_original_columns_works_unchanged() {
    let db = TestDb::postgres().await;
    // What Drizzle sends: every column it knows, DEFAULT for those without a value.
    db.sql(
        "insert into \"audit_logs\" (\"id\", \"actor_id\", \"tenant_id\", \"action\", \"resource_type\", \"resource_id\", \
         \"ip_address\", \"metadata\", \"created_at\") values (default, 'u1', default, 'skill.create', 'skill', 's1', \
         '203.0.113.7', '{\"name\":\"x\"}', default), (default, default, default, 'auth.login', default, default, default, \
         default, default)",
    )
    .await
    .unwrap();
    let rows = db.rows().await;
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter()
            .any(|row| row.ip_address == Some("203.0.113.7/32".parse().unwrap()))
    );
}

#[tokio::test]
async fn times_out_of_range_are_clamped() {
    let db = TestDb::postgres().await;
    for time in [
        "infinity",
        "-infinity",
        "294276-12-31",
        "4713-01-01 BC",
        "2026-01-01",
    ] {
        db.sql(&format!(
            "INSERT INTO audit_logs (created_at, action) VALUES ('{time}', 'x')"
        ))
        .await
        .unwrap();
    }
    let times: Vec<_> = db.rows().await.into_iter().map(|row| row.created_at).collect();
    assert_eq!(times.len(), 5);
    assert_eq!(
        times
            .iter()
            .filter(|&&time| time == DateTime::<Utc>::MAX_UTC)
            .count(),
        2
    );
    assert_eq!(
        times
            .iter()
            .filter(|&&time| time == DateTime::<Utc>::MIN_UTC)
            .count(),
        1
    );
}

#[tokio::test]
async fn sqlite_rejects_values_of_the_wrong_type() {
    let db = TestDb::sqlite().await;
    for (columns, values) in [
        ("id", "'not sixteen bytes'"),
        ("created_at", "'yesterday'"),
        ("operation_id", "x'00'"),
        ("writer_seq", "'first'"),
    ] {
        let error = db
            .sql(&format!(
                "INSERT INTO audit_logs (action, {columns}) VALUES ('x', {values})"
            ))
            .await
            .unwrap_err();
        assert!(error.contains("CHECK"), "{columns}: {error}");
    }
    db.sql("INSERT INTO audit_logs (action, ip_address) VALUES ('x', 'unknown')")
        .await
        .unwrap();
    assert_eq!(db.rows().await[0].ip_address, None);
}
