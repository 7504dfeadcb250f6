//! Look-ups: months in segments, the indexes of partitions, and the plans of queries that use them.

use audit_ops::doctor::{Code, Finding, Severity};
use audit_ops::partitions;
use audit_ops::retention;
use tempfile::TempDir;

use crate::archive::{planned, restore, write};
use crate::doctor::fixture::DoctorFixture;
use crate::retention::{aged, rule, verdict};
use crate::support::{TestDb, has_all_migrations};

/// All partitions of the month that begins at this UTC time, with their bounds and rows, by time.
async fn segments(db: &TestDb, month: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(string_agg(partition_name || ' ' || to_char(from_time AT TIME ZONE 'UTC', 'DD HH24:MI') || '-' || \
             to_char(to_time AT TIME ZONE 'UTC', 'DD HH24:MI') || ' ' || (SELECT count(*) FROM audit_logs a WHERE a.tableoid = p.partition), \
             ',' ORDER BY from_time), '') AS value \
         FROM audit_logs_partitions() p WHERE date_trunc('month', from_time AT TIME ZONE 'UTC') = '{month}'"
    );
    db.text(&sql).await.split(',').map(str::to_owned).collect()
}

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
async fn where_a_partition_is_cut_depends_on_its_rows_and_the_time() {
    let db = TestDb::postgres().await;
    // A month of 30 days; a segment of 1,000 rows takes three days.
    for (now, from, rows, expected) in [
        ("11-10", "11-01", 500, "none"),
        ("11-10 00:00", "11-01", 1_000, "11-10 00:10"),
        // In time for the segment: also while the partition is filling, and a week ahead.
        ("11-02", "11-01", 10, "11-04 00:00"),
        ("11-10", "11-17", 0, "11-20 00:00"),
        ("11-10", "11-18", 0, "none"),
        // A remainder is no segment.
        ("11-26", "11-27 18:00", 0, "none"),
        // It would be cut in the past, or at once.
        ("11-04 00:00", "11-01", 10, "none"),
        ("11-03 23:49", "11-01", 10, "11-04 00:00"),
        ("11-25", "11-26", 0, "11-29 00:00"),
        // The month is about to end.
        ("11-30 23:00", "11-01", 2_000, "none"),
    ] {
        let sql = format!(
            "SELECT coalesce(to_char(audit_logs_next_cut('2026-{now}Z', '2026-{from}Z', '2026-12-01Z', {rows}, 1000, '3 days') \
                 AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), 'none') AS value"
        );
        assert_eq!(
            db.text(&sql).await,
            expected,
            "now {now}, from {from}, {rows} rows"
        );
    }
}

/// Rows that are spread over the last three weeks, so that the planner's estimate of a partition is near.
async fn busy(db: &TestDb, rows: usize) {
    db.sql(&format!(
        "SELECT audit_logs_ensure_partitions(now() - interval '1 month', now()); \
         INSERT INTO audit_logs (created_at, action) SELECT now() - n * interval '21 days' / {rows}, 'busy' FROM generate_series(1, {rows}) n; \
         ANALYZE audit_logs"
    ))
    .await
    .unwrap();
}

#[tokio::test]
async fn only_a_trail_that_outgrows_a_segment_is_cut() {
    let db = TestDb::postgres().await;
    busy(&db, 3_000).await;
    let before = db
        .text("SELECT count(*)::text AS value FROM audit_logs_partitions()")
        .await;
    let cut = |rows: usize| format!("SELECT audit_logs_segment_months({rows})::text AS value");
    assert_eq!(db.text(&cut(1_000_000)).await, "0");
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit_logs_partitions()")
            .await,
        before
    );
    // 143 rows a day: a segment of 1,000 rows each week, and a month of several.
    let added: i64 = db.text(&cut(1_000)).await.parse().unwrap();
    assert!((1..=5).contains(&added), "{added}");
    assert_eq!(db.text(&cut(1_000)).await, "0", "a second call has nothing to do");
    assert_eq!(db.count().await, 3_000);
    let incomplete = "SELECT count(*)::text AS value FROM audit_logs_months() WHERE NOT whole_month AND partition <> 'audit_logs_default'";
    assert_eq!(db.text(incomplete).await, "0");
    // A row of each of the next days has a partition.
    db.sql("INSERT INTO audit_logs (created_at, action) SELECT now() + n * interval '12 hours', 'soon' FROM generate_series(0, 60) n").await.unwrap();
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit_logs_default")
            .await,
        "0"
    );
    assert!(
        db.sql("SELECT audit_logs_segment_months(10)")
            .await
            .unwrap_err()
            .contains("at least 1,000 rows")
    );
}

#[tokio::test]
async fn a_partition_is_not_cut_if_writers_would_wait_for_long() {
    let db = TestDb::postgres().await;
    db.sql("SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01'); \
            INSERT INTO audit_logs (created_at, action) SELECT '2001-02-20Z', 'x' FROM generate_series(1, 1001)").await.unwrap();
    let cut = |time: &str, bytes: &str| {
        format!("SELECT audit_logs_cut('audit_logs_2001_02', '{time}Z', 150, {bytes})::text AS value")
    };
    assert_eq!(
        db.text(&cut("2001-02-10", "1 << 30")).await,
        "false",
        "more than 1,000 rows would move"
    );
    assert_eq!(
        db.text(&cut("2001-02-25", "1000")).await,
        "false",
        "the partition is too large"
    );
    db.sql("INSERT INTO audit_logs (created_at, action) SELECT '1999-02-20Z', 'default' FROM generate_series(1, 1001)").await.unwrap();
    let table = "pg_relation_size('audit_logs_2001_02')";
    assert_eq!(
        db.text(&cut("2001-02-25", table)).await,
        "false",
        "the default partition is read as well"
    );
    assert_eq!(segments(&db, "2001-02-01").await.len(), 1);
    let above = "SELECT audit_logs_cut('audit_logs_2001_02', '2001-02-25Z', 20)::text AS value";
    assert_eq!(db.text(above).await, "false", "there are more partitions");
    // Rights that everybody gets by default are not those of a segment.
    db.sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
        .await
        .unwrap();
    assert_eq!(db.text(&cut("2001-02-25", "1 << 30")).await, "true");
    assert_eq!(segments(&db, "2001-02-01").await.len(), 2);
    let guarded = "SELECT (relrowsecurity AND NOT has_table_privilege('audit_auditor', oid, 'SELECT'))::text AS value FROM pg_class WHERE relname = 'audit_logs_2001_02_2'";
    assert_eq!(db.text(guarded).await, "true");
    // Without one of its segments it is no whole month, and is not dropped as one.
    let whole = "SELECT string_agg(whole_month::text, ',') AS value FROM audit_logs_months() WHERE partition::text LIKE 'audit_logs_2001_02%'";
    assert_eq!(db.text(whole).await, "true");
    db.sql("ALTER TABLE audit_logs DETACH PARTITION audit_logs_2001_02_2")
        .await
        .unwrap();
    assert_eq!(db.text(whole).await, "false");
}

/// Segments are planned a week ahead, by the rate of the time before.
#[tokio::test]
async fn a_segment_that_fills_faster_than_expected_is_cut_again() {
    let db = TestDb::postgres().await;
    db.sql(
        "DO $$ BEGIN PERFORM audit_logs_cut(p.partition, now() + (p.to_time - now()) / 2) \
             FROM (SELECT * FROM audit_logs_partitions() WHERE from_time <= now() AND to_time > now()) p; END $$; \
         INSERT INTO audit_logs (created_at, action) SELECT now() - n * interval '1 ms', 'now' FROM generate_series(1, 1200) n; \
         ANALYZE audit_logs",
    )
    .await
    .unwrap();
    // Nothing is cut in the last hour of a partition.
    let has_time = "SELECT (to_time - interval '2 hours' > now())::text AS value FROM audit_logs_partitions() WHERE from_time <= now() AND to_time > now()";
    let expected = db.text(has_time).await;
    db.sql("SELECT audit_logs_segment_months(1000)").await.unwrap();
    let ends_soon = "SELECT (to_time < now() + interval '11 minutes')::text AS value FROM audit_logs_partitions() WHERE from_time <= now() AND to_time > now()";
    assert_eq!(db.text(ends_soon).await, expected);
}

/// A clock of a caller that is wrong must not keep look-ups slow for the rest of the month.
#[tokio::test]
async fn rows_from_the_future_do_not_prevent_a_cut() {
    let db = TestDb::postgres().await;
    busy(&db, 3_000).await;
    db.sql("INSERT INTO audit_logs (created_at, action) SELECT date_trunc('month', now()) + interval '1 month' - interval '1 s', 'ahead' FROM generate_series(1, 3)").await.unwrap();
    let added: i64 = db
        .text("SELECT audit_logs_segment_months(1000)::text AS value")
        .await
        .parse()
        .unwrap();
    assert!(added > 0);
    assert_eq!(db.count().await, 3_003);
}

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
    assert!(
        partitions::build_time_indexes(&mut conn, |_, _| ())
            .await
            .unwrap()
            > 0
    );
    assert_eq!(db.text(attached).await, "1");
    assert_eq!(
        db.text(
            "SELECT indisvalid::text AS value FROM pg_index WHERE indexrelid = 'audit_logs_time'::regclass"
        )
        .await,
        "true"
    );
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
async fn no_partition_is_cut_above_the_limit() {
    let db = TestDb::postgres().await;
    db.sql("SELECT audit_logs_ensure_partitions('2001-01-01', '2011-12-01')")
        .await
        .unwrap();
    busy(&db, 3_000).await;
    let count: i64 = db
        .text("SELECT count(*)::text AS value FROM audit_logs_partitions()")
        .await
        .parse()
        .unwrap();
    assert!(count > 150, "{count}");
    assert_eq!(
        db.text("SELECT audit_logs_segment_months(1000)::text AS value")
            .await,
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_stored_once_while_months_are_cut_and_indexed() {
    const WRITERS: usize = 8;
    let db = TestDb::postgres().await;
    busy(&db, 5_000).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|nth| {
            let (url, stop) = (db.url.clone(), stop.clone());
            tokio::spawn(async move {
                use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
                let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
                let mut written = 0_usize;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // Rows of now, and late ones.
                    let sql = format!(
                        "INSERT INTO audit_logs (created_at, action, actor_id) SELECT now() - n * interval '5 days', 'w{nth}', '{written}' FROM generate_series(0, 3) n"
                    );
                    conn.batch_execute(&sql).await.unwrap();
                    written += 4;
                }
                written
            })
        })
        .collect();
    let mut conn = db.connection().await;
    let (mut cuts, mut rounds) = (0, 0);
    while cuts == 0 || rounds < 3 {
        let sql = "SELECT audit_logs_segment_months(1000, max_cuts => 1)::text AS value";
        cuts += db.text(sql).await.parse::<i64>().unwrap();
        partitions::maintain(&mut conn, 13, |_| ()).await.unwrap();
        rounds += 1;
        assert!(rounds < 100, "nothing was cut");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert!(written > 0);
    assert_eq!(db.count().await, (5_000 + written) as i64);
    let distinct = "SELECT count(DISTINCT (action, actor_id, created_at))::text AS value FROM audit_logs WHERE action <> 'busy'";
    assert_eq!(db.text(distinct).await, written.to_string());
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit_logs_default")
            .await,
        "0"
    );
}

/// 20,000 rows in an ended month with its indexes, and as many in the open one. Tenant t1 has half of them, an actor of
/// another tenant a tenth.
async fn with_plans() -> TestDb {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01'); \
         INSERT INTO audit_logs (created_at, action, tenant_id, actor_id, resource_type, resource_id, request_id, user_agent) \
         SELECT s + n * interval '1 second', 'x', CASE n % 2 WHEN 0 THEN 't1' ELSE 't' || n % 50 END, \
                CASE WHEN n % 10 = 3 THEN 'frequent' ELSE 'actor' || n % 5000 END, 'thing', 'thing' || n % 5000, 'request' || n, repeat('browser ', 20) \
         FROM generate_series(1, 20000) n, (VALUES ('2001-02-03Z'::timestamptz), (now() - interval '1 day')) AS v (s); \
         SELECT audit_logs_index_closed_months(); ANALYZE audit_logs; \
         CREATE FUNCTION test_plan(who text, condition text) RETURNS text LANGUAGE plpgsql AS $$ \
         DECLARE line text; whole text := ''; BEGIN \
         PERFORM set_config('audit.tenant_id', 't1', true); EXECUTE format('SET LOCAL ROLE %I', who); SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1; \
         FOR line IN EXECUTE 'EXPLAIN SELECT * FROM audit_logs WHERE ' || condition || ' ORDER BY created_at DESC LIMIT 50' \
         LOOP whole := whole || line || E'\\n'; END LOOP; RESET ROLE; RETURN whole; END $$",
    )
    .await
    .unwrap();
    db
}

#[tokio::test]
async fn every_look_up_uses_an_index_condition_on_every_partition() {
    let db = with_plans().await;
    for who in ["audit_auditor", "audit_reader"] {
        for (column, value) in [
            ("actor_id", "actor7"),
            ("actor_id", "nobody"),
            ("resource_id", "thing7"),
            ("request_id", "request777"),
            ("request_id", "nothing"),
        ] {
            let condition =
                format!("{column} = ''{value}'' AND name({column} COLLATE \"C\") = name(''{value}''::text)");
            let plan = db
                .text(&format!("SELECT test_plan('{who}', '{condition}') AS value"))
                .await;
            let name = format!("(name(({column})::text) = '{value}'::name");
            assert!(
                plan.lines()
                    .any(|line| line.contains("Index Cond") && line.contains(&name)),
                "the open month, {who} {condition}: {plan}"
            );
            let ended = format!("audit_logs_2001_02_by_{}", column.trim_end_matches("_id"));
            assert!(
                plan.contains(&ended),
                "the ended month, {who} {condition}: {plan}"
            );
        }
    }
}

/// Without the tenant in the index, each row of the actor would be read and refused: 9.3 s for three million.
#[tokio::test]
async fn a_reader_reads_no_row_of_another_tenants_frequent_actor() {
    let db = with_plans().await;
    let condition = "actor_id = ''frequent'' AND name(actor_id COLLATE \"C\") = name(''frequent''::text)";
    let plan = db
        .text(&format!(
            "SELECT test_plan('audit_reader', '{condition}') AS value"
        ))
        .await;
    let ended = plan
        .lines()
        .position(|line| line.contains("audit_logs_2001_02"))
        .unwrap();
    let conditions: String = plan.lines().skip(ended).take(4).collect();
    assert!(conditions.contains("tenant_id"), "{plan}");
}

#[tokio::test]
async fn a_page_across_tenants_and_a_timeline_are_read_in_the_order_of_the_index() {
    let db = with_plans().await;
    for (who, condition) in [
        ("audit_auditor", "true"),
        ("audit_auditor", "created_at < now()"),
        ("audit_reader", "true"),
        (
            "audit_auditor",
            "tenant_id = ''t1'' AND name(tenant_id COLLATE \"C\") = name(''t1''::text)",
        ),
    ] {
        let plan = db
            .text(&format!("SELECT test_plan('{who}', '{condition}') AS value"))
            .await;
        assert!(
            plan.contains("_time") && !plan.contains("Seq Scan on audit_logs_2"),
            "{who} {condition}: {plan}"
        );
        assert!(!plan.contains("Sort  ("), "{who} {condition}: {plan}");
    }
}

#[tokio::test]
async fn a_row_of_any_length_is_stored_in_a_partition_that_is_written_to() {
    let db = TestDb::postgres().await;
    // Random, so that compression does not make it short.
    db.sql(
        "INSERT INTO audit_logs (action, tenant_id, actor_id, resource_id, request_id) SELECT 'x', v, v, v, v \
         FROM (SELECT string_agg(md5(n::text), '') AS v FROM generate_series(1, 2000) n) AS long",
    )
    .await
    .unwrap();
    assert_eq!(db.count().await, 1);
    // Tenants are distinguished by their whole names, although the index has 63 bytes of each.
    let long = "x".repeat(70);
    db.sql(&format!(
        "INSERT INTO audit_logs (action, tenant_id) VALUES ('a', '{long}1'), ('b', '{long}2')"
    ))
    .await
    .unwrap();
    let seen = db_services::audit::for_tenant(&db.database, &format!("{long}2"), async |conn| {
        db_services::audit::latest(conn, 10).await
    })
    .await;
    let actions: Vec<String> = seen.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["b"]);
}

/// A trail as the version before left it: five million rows would take the migration seconds, here it is 17 MB.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_trail_gets_its_indexes_without_stopping_writers() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let db = TestDb::postgres().await;
    let reverted = db.database.revert_migration().await.unwrap();
    assert_eq!(reverted, "20261129000005");
    db.sql(
        "SELECT audit_logs_ensure_partitions(now() - interval '1 month', now()); \
         INSERT INTO audit_logs (created_at, action, metadata) SELECT now() - n * interval '1 second', 'old', to_jsonb(repeat(md5(n::text), 20)) FROM generate_series(1, 25000) n; \
         INSERT INTO audit_logs (created_at, action) VALUES (now() - interval '1 month', 'ended'); \
         SELECT audit_logs_index_closed_months()",
    )
    .await
    .unwrap();
    // A reader who stays must not stop the migration.
    let mut reader = AsyncPgConnection::establish(&db.url).await.unwrap();
    reader
        .batch_execute("SELECT count(*) FROM audit_logs")
        .await
        .unwrap();
    assert_eq!(db.database.migrate().await.unwrap(), ["20261129000005"]);
    let replaced = "SELECT (to_regclass('audit_logs_tenant_timeline') IS NULL)::text AS value";
    let valid =
        "SELECT indisvalid::text AS value FROM pg_index WHERE indexrelid = 'audit_logs_time'::regclass";
    assert_eq!(
        (db.text(valid).await.as_str(), db.text(replaced).await.as_str()),
        ("false", "false")
    );
    let mut conn = db.connection().await;
    let built = partitions::build_time_indexes(&mut conn, |_, _| ())
        .await
        .unwrap();
    assert_eq!(built, 1, "the partition with rows");
    assert_eq!(db.text(valid).await, "true");
    partitions::maintain(&mut conn, 13, |_| ()).await.unwrap();
    assert_eq!(db.text(replaced).await, "true");
    let old = "SELECT count(*)::text AS value FROM pg_class WHERE relname ~ '^audit_logs_[0-9]{4}_[0-9]{2}_(actor|resource|request)$'";
    assert_eq!(db.text(old).await, "0");
    assert_eq!(db.count().await, 25_001);
    assert!(has_all_migrations(&db.database).await);
}
