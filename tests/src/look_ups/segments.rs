//! A month in segments is one month to everything but PostgreSQL.

use audit_ops::doctor::{Code, Finding, Severity};
use audit_ops::{partitions, retention};
use tempfile::TempDir;

use super::segments;
use crate::archive::{planned, restore, write};
use crate::doctor::fixture::DoctorFixture;
use crate::retention::{aged, rule, verdict};
use crate::support::TestDb;

async fn all_rows(db: &TestDb) -> String {
    db.text(
        "SELECT string_agg(row_to_json(a)::text, E'\\n' ORDER BY created_at, id) AS value FROM audit_logs a",
    )
    .await
}

/// A trail with rows in February 2001, which is cut twice, and in March, which is not.
async fn segmented() -> TestDb {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-02-01', '2001-03-01'); \
         INSERT INTO audit_logs (created_at, action, tenant_id, actor_id) \
         SELECT '2001-02-01Z'::timestamptz + n * interval '1 hour', 'before', 'acme', 'actor' || n FROM generate_series(0, 99) n; \
         INSERT INTO audit_logs (created_at, action) VALUES ('2001-03-01Z', 'next month')",
    )
    .await
    .unwrap();
    for (part, time, cut) in [
        ("audit_logs_2001_02", "2001-02-05 04:00Z", true),
        ("audit_logs_2001_02_2", "2001-02-20Z", true),
        // There are 52 rows behind this time, which move.
        ("audit_logs_2001_02", "2001-02-03Z", true),
    ] {
        let before = all_rows(&db).await;
        let sql = format!("SELECT audit_logs_cut('{part}', '{time}')::text AS value");
        assert_eq!(db.text(&sql).await, cut.to_string(), "{part} at {time}");
        assert_eq!(all_rows(&db).await, before, "{part} at {time}");
    }
    db.sql(
        "INSERT INTO audit_logs (created_at, action, tenant_id, actor_id) \
         SELECT '2001-02-01Z'::timestamptz + n * interval '4 hours', 'after', 'acme', 'actor' || n FROM generate_series(0, 167) n",
    )
    .await
    .unwrap();
    db
}

#[tokio::test]
async fn the_rows_of_a_cut_month_are_in_the_segment_of_their_time() {
    let db = segmented().await;
    assert_eq!(
        segments(&db, "2001-02-01").await,
        [
            "audit_logs_2001_02 01 00:00-03 00:00 60",
            "audit_logs_2001_02_4 03 00:00-05 04:00 65",
            "audit_logs_2001_02_2 05 04:00-20 00:00 89",
            "audit_logs_2001_02_3 20 00:00-01 00:00 54"
        ]
    );
    assert_eq!(
        segments(&db, "2001-03-01").await,
        ["audit_logs_2001_03 01 00:00-01 00:00 1"]
    );
    assert_eq!(db.count().await, 269);
    // Created as a whole, the month exists.
    assert_eq!(
        db.text("SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01')::text AS value")
            .await,
        "0"
    );
    let error = db
        .sql("SELECT audit_logs_cut('audit_logs_2001_02_3', '2001-03-02Z')")
        .await
        .unwrap_err();
    assert!(
        error.contains("is not a time within the partition of a month"),
        "{error}"
    );
    for statement in [
        "UPDATE audit_logs_2001_02_2 SET action = 'x'",
        "TRUNCATE audit_logs_2001_02_3",
        "DELETE FROM audit_logs_2001_02",
    ] {
        let error = db.sql(statement).await.unwrap_err();
        assert!(error.contains("is append-only"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_month_in_segments_is_one_month_for_retention() {
    let db = segmented().await;
    db.sql("ANALYZE audit_logs").await.unwrap();
    let months = partitions::list(&mut db.connection().await).await.unwrap();
    let february = months
        .iter()
        .find(|month| month.month.as_deref() == Some("2001-02"))
        .unwrap();
    assert_eq!(
        (february.name.as_str(), february.segments, february.row_count),
        ("audit_logs_2001_02", 4, 268)
    );
    db.sql("SELECT audit_hold_add('a case', 'acme', '2001-02-25Z', NULL)")
        .await
        .unwrap();
    let coverage =
        "SELECT months || ' ' || row_count AS value FROM audit_hold_coverage('acme', '2001-02-25Z')";
    assert_eq!(db.text(coverage).await, "1 24");
    assert_eq!(
        verdict(&db, "audit_logs_2001_02").await,
        "held",
        "by rows of a later segment"
    );
    db.sql("INSERT INTO audit_logs (created_at, action, tenant_id) VALUES ('2001-03-02Z', 'held', 'acme')")
        .await
        .unwrap();
    let coverage = "SELECT months || ' ' || row_count AS value FROM audit_hold_coverage('acme')";
    assert_eq!(db.text(coverage).await, "2 269", "each row once");
    let keep_one = retention::RetentionPolicy {
        trust_clock: true,
        ..rule()
    };
    let held = retention::drop_month(&mut db.connection().await, "audit_logs_2001_02", &keep_one, None).await;
    assert!(
        held.unwrap_err()
            .to_string()
            .contains("under the legal holds {1}")
    );
    // A segment is not a month.
    let alone = retention::drop_month(
        &mut db.connection().await,
        "audit_logs_2001_02_2",
        &keep_one,
        None,
    )
    .await;
    assert!(
        alone
            .unwrap_err()
            .to_string()
            .contains("there is no such partition")
    );
    assert_eq!(db.count().await, 270);
    db.sql("SELECT audit_hold_release(1, 'closed')").await.unwrap();
    retention::drop_month(&mut db.connection().await, "audit_logs_2001_02", &keep_one, None)
        .await
        .unwrap();
    assert_eq!(db.count().await, 2);
    assert_eq!(segments(&db, "2001-02-01").await, [""]);
    assert_eq!(
        retention::ledger(&mut db.connection().await).await.unwrap()[0].row_count,
        268
    );
}

#[tokio::test]
async fn a_month_in_segments_is_archived_dropped_and_restored() {
    let (db, parts) = aged(20).await;
    let part = &parts[0];
    db.sql(&format!(
        "SELECT audit_logs_cut('{part}', (SELECT from_time + interval '10 days' FROM audit_logs_months() WHERE partition = '{part}')); \
         INSERT INTO audit_logs (created_at, action) SELECT from_time + interval '11 days', 'second segment' FROM audit_logs_months() WHERE partition = '{part}'"
    ))
    .await
    .unwrap();
    assert_eq!(verdict(&db, part).await, "drop");
    let before = all_rows(&db).await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, part, dir.path()).await.unwrap();
    assert_eq!(archived.manifest.rows, 4);
    let month = planned(&db, part).await;
    retention::drop_month(&mut db.connection().await, &month.name, &rule(), Some(&archived))
        .await
        .unwrap();
    assert_ne!(all_rows(&db).await, before);
    assert_eq!(restore(&db, &archived).await, Ok((4, 0)));
    assert_eq!(all_rows(&db).await, before);
}

#[tokio::test]
async fn the_doctor_finds_nothing_in_a_trail_with_segments() {
    let fixture = DoctorFixture::with(&["auditor"]).await;
    fixture
        .admin(
            "INSERT INTO audit_logs (created_at, action) SELECT now() - n * interval '1 minute', 'busy' FROM generate_series(1, 3000) n; \
             SET ROLE trail_owner; SELECT audit_logs_cut('$month', now() + interval '10 minutes'); SELECT audit_logs_index_closed_months()",
        )
        .await;
    let partitions = |finding: &&Finding| {
        matches!(
            finding.code,
            Code::UpcomingPartitions
                | Code::UnattachedTables
                | Code::Indexes
                | Code::Continuity
                | Code::Tables
                | Code::Triggers
        )
    };
    let findings = fixture.findings().await;
    let bad: Vec<&Finding> = findings
        .iter()
        .filter(partitions)
        .filter(|finding| finding.severity > Severity::Info)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // A segment that is missing is a gap, also the first one.
    fixture
        .admin("SET ROLE trail_owner; SELECT audit_logs_ensure_partitions('2001-01-01', now()); SELECT audit_logs_cut('audit_logs_2001_01', '2001-01-20Z', 1000)")
        .await;
    let findings = fixture.findings().await;
    assert!(
        findings
            .iter()
            .all(|finding| finding.code != Code::Continuity || finding.severity <= Severity::Info),
        "{findings:#?}"
    );
    fixture.admin("DROP TABLE audit_logs_2001_01").await;
    let findings = fixture.findings().await;
    assert!(
        findings.iter().any(|finding| finding.code == Code::Continuity
            && finding.found.contains("neither a partition nor an entry")),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn a_segment_that_is_missing_is_created_again_and_gets_its_rows() {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-01-01', '2001-02-01'); \
         SELECT audit_logs_cut('audit_logs_2001_01', '2001-01-10Z', 1000); SELECT audit_logs_cut('audit_logs_2001_01_2', '2001-01-20Z', 1000); \
         ALTER TABLE audit_logs DETACH PARTITION audit_logs_2001_01_2; ALTER TABLE audit_logs DETACH PARTITION audit_logs_2001_01; \
         INSERT INTO audit_logs (created_at, action) VALUES ('2001-01-09Z', 'first'), ('2001-01-15Z', 'middle')",
    )
    .await
    .unwrap();
    let parts = "SELECT string_agg(partition::text || ' ' || to_char(from_time AT TIME ZONE 'UTC', 'DD'), ', ' ORDER BY from_time) AS value \
                 FROM audit_logs_partitions() WHERE from_time < '2001-02-01Z'";
    assert_eq!(db.text(parts).await, "audit_logs_2001_01_3 20");
    // The rows of this time are in the default partition, so that nothing can be created beside them.
    let ensure = "SELECT audit_logs_ensure_partitions('2001-01-01', '2001-01-01')::text AS value";
    assert_eq!(db.text(ensure).await, "0");
    let moved = "SELECT audit_logs_move_month('2001-01-01')::text AS value";
    assert_eq!(db.text(moved).await, "2");
    assert_eq!(db.text(moved).await, "0");
    // The old tables still have their names.
    assert_eq!(
        db.text(parts).await,
        "audit_logs_2001_01_4 01, audit_logs_2001_01_3 20"
    );
    assert_eq!(
        db.text("SELECT string_agg(DISTINCT tableoid::regclass::text, ' ') AS value FROM audit_logs")
            .await,
        "audit_logs_2001_01_4"
    );
    let months =
        "SELECT month || ' ' || segments AS value FROM audit_logs_months() WHERE from_time < '2001-02-01Z'";
    assert_eq!(db.text(months).await, "2001-01 2");
    // Two parts are missing.
    db.sql("DROP TABLE audit_logs_2001_02; CREATE TABLE audit_logs_middle PARTITION OF audit_logs FOR VALUES FROM ('2001-02-10Z') TO ('2001-02-20Z')")
        .await
        .unwrap();
    let ensure = "SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01')::text AS value";
    assert_eq!(db.text(ensure).await, "2");
    assert_eq!(db.text(ensure).await, "0");
}
