//! When and where a partition is cut, and what may go on meanwhile.

use audit_ops::partitions;

use super::segments;
use crate::support::TestDb;

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
    let cut = |rows: usize| format!("SELECT audit_logs_segment_months({rows}, max_cuts => 9)::text AS value");
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
    db.sql("INSERT INTO audit_logs (created_at, action) SELECT date_trunc('month', now()) + interval '1 month' - interval '1 s', 'ahead' FROM generate_series(1, 3)")
        .await
        .unwrap();
    // Nothing is cut in the last hours of a month.
    let has_time = db
        .text("SELECT (date_trunc('month', now()) + interval '1 month' - interval '2 hours' > now())::text AS value")
        .await;
    while db
        .text("SELECT audit_logs_segment_months(1000)::text AS value")
        .await
        != "0"
    {}
    let apart = "SELECT bool_and(a.tableoid <> p.partition)::text AS value FROM audit_logs a, audit_logs_partitions() p \
                 WHERE a.action = 'ahead' AND p.from_time <= now() AND p.to_time > now()";
    assert_eq!(
        db.text(apart).await,
        has_time,
        "the partition of now ends before them"
    );
    assert_eq!(db.count().await, 3_003);
}

/// Each month that is kept has an equal share of the partitions: with one of two there are no segments.
#[tokio::test]
async fn the_more_months_are_kept_the_fewer_segments_a_month_has() {
    let db = TestDb::postgres().await;
    busy(&db, 3_000).await;
    let cut = |kept: i32| {
        format!("SELECT audit_logs_segment_months(1000, 9, kept_months => {kept})::text AS value")
    };
    assert_eq!(db.text(&cut(75)).await, "0");
    assert_ne!(db.text(&cut(13)).await, "0");
    let refused = db
        .sql("SELECT audit_logs_segment_months(1000, kept_months => 0)")
        .await;
    assert!(refused.unwrap_err().contains("at least one month is kept"));
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

/// The sessions of this database with this name.
fn named(name: &str) -> String {
    format!("FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{name}'")
}

/// Ends the session with this name, and waits until it has ended.
async fn end_session(db: &TestDb, name: &str) {
    let ended = format!(
        "SELECT count(pg_terminate_backend(pid, 60000))::text AS value {}",
        named(name)
    );
    assert_eq!(db.text(&ended).await, "1");
}

#[tokio::test]
async fn a_session_that_ends_within_a_cut_leaves_the_month_whole() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

    const CUT: &str = "SELECT audit_logs_cut(partition, now() + interval '10 minutes') FROM audit_logs_partitions() \
                       WHERE from_time <= now() AND to_time > now()";
    let db = TestDb::postgres().await;
    busy(&db, 3_000).await;
    let partitions =
        "SELECT string_agg(p::text, ' ' ORDER BY from_time) AS value FROM audit_logs_partitions() p";
    let tables = "SELECT count(*)::text AS value FROM pg_class WHERE relname LIKE 'audit\\_logs%'";
    let rows = "SELECT string_agg(id::text, ' ' ORDER BY id) AS value FROM audit_logs";
    let before = [
        db.text(partitions).await,
        db.text(tables).await,
        db.text(rows).await,
    ];
    // The cut waits for a writer; it has done everything but the commit; it has moved a row as well.
    for step in ["waiting", "cut", "moved"] {
        let mut writer = AsyncPgConnection::establish(&db.url).await.unwrap();
        let mut cutter = AsyncPgConnection::establish(&db.url).await.unwrap();
        cutter
            .batch_execute(&format!("SET application_name = 'cut_{step}'; BEGIN"))
            .await
            .unwrap();
        let name = format!("cut_{step}");
        if step == "waiting" {
            writer
                .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('in flight')")
                .await
                .unwrap();
            let cut = tokio::spawn(async move { cutter.batch_execute(CUT).await });
            let waits = format!(
                "SELECT count(*)::text AS value {} AND wait_event_type = 'Lock'",
                named(&name)
            );
            while db.text(&waits).await == "0" && !cut.is_finished() {}
            end_session(&db, &name).await;
            assert!(cut.await.unwrap().is_err());
            writer.batch_execute("ROLLBACK").await.unwrap();
        } else {
            if step == "moved" {
                let ahead = "INSERT INTO audit_logs (created_at, action) VALUES (now() + interval '15 minutes', 'ahead')";
                cutter.batch_execute(ahead).await.unwrap();
            }
            cutter.batch_execute(CUT).await.unwrap();
            end_session(&db, &name).await;
        }
        let after = [
            db.text(partitions).await,
            db.text(tables).await,
            db.text(rows).await,
        ];
        assert_eq!(after, before, "{step}");
    }
    db.sql(CUT).await.unwrap();
    assert_ne!(db.text(partitions).await, before[0], "the next cut is made");
    assert_eq!(db.text(rows).await, before[2]);
}
