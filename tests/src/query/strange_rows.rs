//! Rows that no writer of this project would store are found, and hide no others.

use chrono::{DateTime, TimeDelta};
use db_services::audit::query::{AuditFilter, AuditQuery, Column, Condition, Count, Order, Position};
use db_services::audit::{AuditEntry, AuditLog, insert};
use db_services::client::Connection;
use futures_util::TryStreamExt;

use crate::support::{TestDb, on_both};

/// Rows of other clients: times at the edges, documents that no parser of this project holds, addresses that are none.
async fn fill(db: &TestDb) {
    let deep = format!(
        "{{\"deep\":{}{},\"a\":\"Needle\"}}",
        "[".repeat(6_000),
        "]".repeat(6_000)
    );
    let metadata = [
        r#"{"a":1E400,"b":{"c":1.0},"list":["first"]}"#,
        &deep,
        r#"{"a":"line\nbreak \"quoted\""}"#,
    ];
    for (place, metadata) in metadata.iter().enumerate() {
        db.sql(&format!(
            "INSERT INTO audit_logs (action, outcome, metadata) VALUES ('json.{place}', 'odd', '{metadata}')"
        ))
        .await
        .unwrap();
    }
    let times = match db.is_postgres() {
        true => [
            "'-infinity'",
            "'infinity'",
            "'290000-01-01'",
            "'4714-11-24 00:00:00+00 BC'",
            "'infinity'",
        ],
        false => [
            "-9223372036854775808",
            "9223372036854775807",
            "9100000000000000000",
            "-210866803200000000",
            "9223372036854775807",
        ],
    };
    for (place, time) in times.iter().enumerate() {
        let insert = format!(
            "INSERT INTO audit_logs (action, created_at, metadata) VALUES ('time.{place}', {time}, NULL)"
        );
        db.sql(&insert).await.unwrap();
    }
    if !db.is_postgres() {
        for values in [
            "'text.json', 'unknown', 'no JSON'",
            "'text.bytes', x'FF00', x'FF'",
            "'text.empty', '', ''",
        ] {
            let insert = "INSERT INTO audit_logs (action, ip_address, metadata) VALUES";
            db.sql(&format!("{insert} ({values})")).await.unwrap();
        }
    }
}

async fn actions(conn: &mut Connection, query: &str) -> Vec<String> {
    let filter = AuditFilter::parse(query, &chrono::Utc::now()).unwrap();
    let query = AuditQuery::new(filter);
    let rows = query.rows(conn, Order::OldestFirst).map_ok(|row| row.action);
    let mut actions: Vec<_> = rows.try_collect().await.unwrap();
    actions.sort();
    actions
}

async fn one_by_one(conn: &mut Connection, order: Order) -> Vec<AuditLog> {
    let query = AuditQuery::new(AuditFilter::new());
    let mut rows = Vec::new();
    let mut position = match order {
        Order::NewestFirst => Position::Newest,
        Order::OldestFirst => Position::Oldest,
    };
    loop {
        let page = query.page(conn, &position, 1).await.unwrap();
        rows.extend(page.rows);
        assert!(rows.len() < 100, "the walk does not end");
        position = match order {
            _ if !page.has_more => return rows,
            Order::NewestFirst => Position::OlderThan(page.older.unwrap()),
            Order::OldestFirst => Position::NewerThan(page.newer.unwrap()),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_counted_as_they_are_shown() {
    let db = TestDb::sqlite().await;
    db.sql("INSERT INTO audit_logs (action, actor_id) VALUES ('a', CAST(x'ff41' AS TEXT)), ('a', x'fe'), ('b', 'alice')")
        .await.unwrap();
    let mut conn = db.connection().await;
    let query = AuditQuery::new(AuditFilter::new());
    let mut shown: Vec<_> = query
        .page(&mut conn, &Position::Newest, 9)
        .await
        .unwrap()
        .rows
        .into_iter()
        .map(|row| row.actor_id)
        .collect();
    let top = query.top(&mut conn, Column::Actor, 9).await.unwrap();
    let mut counted: Vec<_> = top.into_iter().map(|top| (top.value, top.rows)).collect();
    shown.sort();
    counted.sort();
    assert_eq!(
        shown,
        ["alice", "\u{fffd}", "\u{fffd}A"].map(|text| Some(text.to_owned()))
    );
    assert_eq!(
        counted,
        shown.into_iter().map(|actor| (actor, 1)).collect::<Vec<_>>()
    );
}

on_both! {
    async fn rows_of_every_time_are_on_one_page_each(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        let all = actions(&mut conn, "").await;
        let newest_first = one_by_one(&mut conn, Order::NewestFirst).await;
        let mut oldest_first = one_by_one(&mut conn, Order::OldestFirst).await;
        oldest_first.reverse();
        assert_eq!(newest_first, oldest_first);
        let mut walked: Vec<_> = newest_first.into_iter().map(|row| row.action).collect();
        walked.sort();
        assert_eq!(walked, all);
        assert_eq!(all.len(), if db.is_postgres() { 8 } else { 11 });
    }

    async fn conditions_on_metadata_survive_any_document(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        let all = actions(&mut conn, "").await.len();
        for (query, expected) in [
            ("needle", vec!["json.1"]),
            ("meta.a:Needle", vec!["json.1"]),
            ("meta.a:1e400", vec!["json.0"]),
            ("meta.b.c:1", vec!["json.0"]),
            (r#"meta:{"a":"Needle"}"#, vec!["json.1"]),
            (r#"meta:{"b":{"c":1.00}}"#, vec!["json.0"]),
            ("\"line\nbreak\"", vec!["json.2"]),
            ("nbreak", vec![]),
            (r#""\"Quoted""#, vec!["json.2"]),
            ("meta.deep:x", vec![]),
            ("meta.list.0:first", vec![]),
            (r#"meta:{"list":["first"]}"#, vec!["json.0"]),
        ] {
            assert_eq!(actions(&mut conn, query).await, expected, "{query}");
            let others = actions(&mut conn, &format!("-{query}")).await;
            assert_eq!(others.len(), all - expected.len(), "-{query} keeps the rows without metadata");
        }
    }

    async fn a_path_of_any_length_has_a_result(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        let all = actions(&mut conn, "").await.len();
        for names in [127, 128, 10_000, 70_000] {
            let path = Condition::member(std::iter::repeat_n("a", names), "1");
            for (condition, expected) in [(path.clone(), 0), (!path, all as u64)] {
                let query = AuditQuery::new([condition].into_iter().collect());
                assert_eq!(query.count(&mut conn, 100).await.unwrap(), Count::Exactly(expected), "{names}");
            }
        }
    }

    async fn an_unknown_outcome_or_a_missing_value_hides_no_row(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        assert_eq!(actions(&mut conn, "-outcome:success").await, ["json.0", "json.1", "json.2"]);
        assert_eq!(actions(&mut conn, "outcome:odd").await.len(), 3);
        let all = actions(&mut conn, "").await;
        for query in ["-actor_type:user", "-actor:*", "-ip:0.0.0.0/0", "-tenant:acme", "-ip:::/0"] {
            assert_eq!(actions(&mut conn, query).await, all, "{query}");
        }
        let top = AuditQuery::new(AuditFilter::new()).top(&mut conn, Column::ActorType, 5).await.unwrap();
        assert_eq!(top.iter().map(|top| (top.value.as_deref(), top.rows)).collect::<Vec<_>>(), [(None, all.len() as u64)]);
    }

    async fn a_histogram_counts_rows_of_every_time(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        let query = AuditQuery::new(AuditFilter::new());
        let Count::Exactly(all) = query.count(&mut conn, 100).await.unwrap() else { panic!("few rows") };
        for width in [TimeDelta::days(1), TimeDelta::microseconds(1), TimeDelta::days(365_000), TimeDelta::MAX] {
            for origin in [DateTime::UNIX_EPOCH, DateTime::<chrono::Utc>::MIN_UTC, DateTime::<chrono::Utc>::MAX_UTC] {
                let buckets = query.histogram(&mut conn, width, origin).await.unwrap();
                assert_eq!(buckets.iter().map(|bucket| bucket.rows).sum::<u64>(), all, "{width} {origin}");
                assert!(buckets.is_sorted_by_key(|bucket| bucket.start));
            }
        }
        let since: Vec<_> = query.histogram(&mut conn, TimeDelta::days(1), DateTime::UNIX_EPOCH).await.unwrap();
        assert_eq!((since[0].rows, since.last().unwrap().rows), (2, 3), "at the edges");
        assert!(query.histogram(&mut conn, TimeDelta::zero(), DateTime::UNIX_EPOCH).await.is_err());
        assert!(query.histogram(&mut conn, TimeDelta::MIN, DateTime::UNIX_EPOCH).await.is_err());
    }

    async fn a_bucket_begins_before_its_rows_also_before_1970(db: TestDb) {
        let mut conn = db.connection().await;
        let day = TimeDelta::days(1);
        for seconds in [-86_401, -86_400, -1, 0, 86_399, 86_400] {
            let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
            insert(&mut conn, &AuditEntry::new("a").created_at(time)).await.unwrap();
        }
        let query = AuditQuery::new(AuditFilter::new());
        for origin in [DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH - day * 400, DateTime::UNIX_EPOCH + day * 400] {
            let buckets = query.histogram(&mut conn, day, origin).await.unwrap();
            let buckets: Vec<_> = buckets.iter().map(|bucket| (bucket.start.timestamp() / 86_400, bucket.rows)).collect();
            assert_eq!(buckets, [(-2, 1), (-1, 2), (0, 2), (1, 1)]);
        }
        let noon = DateTime::UNIX_EPOCH - TimeDelta::hours(12);
        let buckets = query.histogram(&mut conn, day, noon).await.unwrap();
        let buckets: Vec<_> = buckets.iter().map(|bucket| (bucket.start.timestamp() / 43_200, bucket.rows)).collect();
        assert_eq!(buckets, [(-3, 2), (-1, 2), (1, 2)]);
    }

    async fn a_histogram_of_too_many_buckets_is_an_error(db: TestDb) {
        let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n <= 10000)";
        let (time, id) = match db.is_postgres() {
            true => ("'2026-11-01'::timestamptz + n * interval '1 second'", "gen_random_uuid()"),
            false => ("1700000000000000 + n * 1000000", "randomblob(16)"),
        };
        db.sql(&format!("{numbers} INSERT INTO audit_logs (id, action, created_at) SELECT {id}, 'a', {time} FROM n")).await.unwrap();
        let mut conn = db.connection().await;
        let query = AuditQuery::new(AuditFilter::new());
        let error = query.histogram(&mut conn, TimeDelta::seconds(1), DateTime::UNIX_EPOCH).await.unwrap_err();
        assert!(error.to_string().contains("more than 10000 buckets"), "{error}");
        let minutes = query.histogram(&mut conn, TimeDelta::minutes(1), DateTime::UNIX_EPOCH).await.unwrap();
        assert!((167..=168).contains(&minutes.len()), "{}", minutes.len());
        assert_eq!(query.count(&mut conn, 10_000).await.unwrap(), Count::MoreThan(10_000));
        assert_eq!(query.count(&mut conn, 10_001).await.unwrap(), Count::Exactly(10_001));
    }
}
