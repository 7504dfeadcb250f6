//! Are whole months dropped, when they may be, and on record?

use audit_ops::OpsError;
use audit_ops::retention::{self, Rule};
use db_services::audit::{Verdict, verify_writers};

use crate::support::{TIMEOUT, TestDb};

/// A database with months up to this number ago, each with three rows, and their partitions' names, the
/// oldest first.
pub async fn aged(months: i32) -> (TestDb, Vec<String>) {
    let db = TestDb::postgres().await;
    db.sql(&format!(
        "SELECT audit_logs_ensure_partitions(now() - interval '{months} months', now()); \
         INSERT INTO audit_logs (created_at, action, metadata) \
         SELECT date_trunc('month', now()) - m * interval '1 month' + n * interval '1 second', 'row', jsonb_build_object('n', n) \
         FROM generate_series(0, {months}) m, generate_series(1, 3) n"
    ))
    .await
    .unwrap();
    let names = "SELECT string_agg(part, ',' ORDER BY from_time) AS value FROM audit_logs_months() WHERE to_time <= now()";
    let parts: Vec<_> = db.text(names).await.split(',').map(str::to_owned).collect();
    assert_eq!(parts.len(), months as usize);
    (db, parts)
}

/// Runs SQL on a connection of its own: what it leaves set, or open, ends with it.
pub async fn sql_on_new_connection(db: &TestDb, sql: &str) -> Result<(), String> {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    conn.batch_execute(sql).await.map_err(|error| error.to_string())
}

pub fn rule() -> Rule {
    Rule::keep(13)
}

pub async fn verdict(db: &TestDb, part: &str) -> String {
    let plan = retention::plan(&mut db.connection().await, &rule())
        .await
        .unwrap();
    plan.into_iter()
        .find(|month| month.part == part)
        .map_or_else(|| "gone".to_owned(), |month| month.verdict)
}

async fn drop_month(db: &TestDb, part: &str, rule: &Rule) -> Result<i64, String> {
    let dropped = retention::drop_month(&mut db.connection().await, part, rule, None).await;
    dropped.map_err(|error| error.to_string())
}

/// Tries to drop a month of which rows are proven to be there, and proves that they still are.
async fn assert_drop_refused(db: &TestDb, part: &str, rule: &Rule, why: &str) {
    let rows = format!("SELECT string_agg(a::text, '' ORDER BY id) AS value FROM {part} a");
    let before = db.text(&rows).await;
    assert!(before.contains("row"), "there is no row in {part}");
    let error = drop_month(db, part, rule).await.unwrap_err();
    assert!(error.contains(why), "{part}: {error}");
    assert_eq!(db.text(&rows).await, before);
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM audit_retention_ledger")
            .await,
        "0"
    );
}

#[tokio::test]
async fn the_plan_tells_what_would_go() {
    let (db, parts) = aged(20).await;
    let plan = retention::plan(&mut db.connection().await, &rule())
        .await
        .unwrap();
    let going: Vec<_> = plan
        .iter()
        .filter(|month| month.goes())
        .map(|month| &month.part)
        .collect();
    // A month that ended 13 months ago to the day goes; every other one is younger.
    assert_eq!(going, parts[..parts.len() - 13].iter().collect::<Vec<_>>());
    assert!(
        plan.iter()
            .filter(|month| month.goes())
            .all(|month| month.row_count == 3 && month.bytes > 0)
    );
    assert_eq!(
        plan.last()
            .map(|last| (last.part.as_str(), last.verdict.as_str())),
        Some(("audit_logs_default", "not_a_month"))
    );
    assert_eq!(db.count().await, 63, "and changes nothing");
}

#[tokio::test]
async fn a_dropped_month_is_gone_and_on_record() {
    let (db, parts) = aged(20).await;
    let part = &parts[0];
    // What a reader can check for himself: see audit_ops::retention.
    let by_hand = db
        .text(&format!(
            "WITH RECURSIVE lines AS (SELECT row_number() OVER (ORDER BY created_at, id) AS nth, sha256(convert_to(row_to_json(a)::text, 'UTF8')) AS line FROM {part} a), \
             steps AS (SELECT 0::bigint AS nth, decode(repeat('00', 32), 'hex') AS d UNION ALL SELECT l.nth, sha256(d || line) FROM steps s JOIN lines l ON l.nth = s.nth + 1) \
             SELECT encode(d, 'hex') AS value FROM steps ORDER BY nth DESC LIMIT 1"
        ))
        .await;
    let rule = Rule {
        reason: "as the policy says".to_owned(),
        ..rule()
    };
    assert_eq!(drop_month(&db, part, &rule).await, Ok(1));
    assert_eq!(verdict(&db, part).await, "gone");
    assert_eq!(db.count().await, 60);
    assert_eq!(
        db.text(&format!("SELECT (to_regclass('{part}') IS NULL)::text AS value"))
            .await,
        "true"
    );
    assert_eq!(drop_month(&db, &parts[1], &rule).await, Ok(2));

    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger.len(), 2);
    let entry = &ledger[0];
    assert_eq!(
        (entry.event.as_str(), entry.row_count, entry.digest.as_str()),
        ("dropped", 3, by_hand.as_str())
    );
    assert_eq!(
        entry.month,
        part.trim_start_matches("audit_logs_").replace('_', "-")
    );
    assert_eq!(
        (entry.reason.as_str(), entry.keep_months, entry.forced),
        ("as the policy says", Some(13), false)
    );
    assert_eq!(entry.done_by, db.text("SELECT session_user::text AS value").await);
    assert!(ledger[1].digest != entry.digest && ledger[1].done_at > entry.done_at);
    // A row for it has a place all the same.
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES (now() - interval '20 months', 'late')")
        .await
        .unwrap();
}

#[tokio::test]
async fn what_must_be_kept_is_kept() {
    let (db, parts) = aged(20).await;
    let mut conn = db.connection().await;
    // Too young, by the rule.
    assert_drop_refused(
        &db,
        &parts[parts.len() - 13],
        &rule(),
        "rows of the last 13 months",
    )
    .await;
    assert_drop_refused(
        &db,
        &parts[19],
        &Rule {
            trust_clock: true,
            force: true,
            ..rule()
        },
        "rows of the last 13 months",
    )
    .await;
    // Fewer than twelve months.
    let eleven = Rule::keep(11);
    assert_drop_refused(
        &db,
        &parts[0],
        &eleven,
        "fewer than 12 months (11) are kept only if forced",
    )
    .await;
    for months in [0, -1] {
        assert_drop_refused(
            &db,
            &parts[0],
            &Rule {
                force: true,
                ..Rule::keep(months)
            },
            "at least one month",
        )
        .await;
    }
    // No month.
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'row')")
        .await
        .unwrap();
    assert_drop_refused(&db, "audit_logs_default", &rule(), "not a whole month").await;
    db.sql("CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')")
        .await
        .unwrap();
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2001-07-01', 'row')")
        .await
        .unwrap();
    assert_drop_refused(&db, "mine", &rule(), "not a whole month").await;
    for other in ["audit_logs", "audit_legal_holds", "nothing", "pg_class", ""] {
        assert!(
            drop_month(&db, other, &rule())
                .await
                .unwrap_err()
                .contains("no such partition"),
            "{other}"
        );
    }
    // No reason.
    assert!(
        drop_month(
            &db,
            &parts[0],
            &Rule {
                reason: " ".to_owned(),
                ..rule()
            }
        )
        .await
        .is_err()
    );
    // Old rows would hide in an old snapshot.
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT audit_logs_drop_month('{}', 13, 'x'); COMMIT",
        parts[0]
    );
    let error = sql_on_new_connection(&db, &sql).await.unwrap_err();
    assert!(error.contains("READ COMMITTED"), "{error}");
    assert_eq!(retention::ledger(&mut conn).await.unwrap(), []);

    // Forced, eleven are enough, which goes on record.
    assert_eq!(
        drop_month(
            &db,
            &parts[0],
            &Rule {
                force: true,
                ..eleven
            }
        )
        .await,
        Ok(1)
    );
    assert!(retention::ledger(&mut conn).await.unwrap()[0].forced);
}

#[tokio::test]
async fn no_more_than_a_few_months_go_in_a_day() {
    let (db, parts) = aged(30).await;
    for (nth, part) in parts[..3].iter().enumerate() {
        assert_eq!(drop_month(&db, part, &rule()).await, Ok(nth as i64 + 1));
    }
    let error = drop_month(&db, &parts[3], &rule()).await.unwrap_err();
    assert!(
        error.contains("3 months were dropped within a day, no more than 3 may be"),
        "{error}"
    );
    assert_eq!(verdict(&db, &parts[3]).await, "drop");
    assert_eq!(
        drop_month(
            &db,
            &parts[3],
            &Rule {
                max_months: 4,
                ..rule()
            }
        )
        .await,
        Ok(4)
    );
}

/// To the database, a trail that ended in the past and a clock that leapt into the future look the same.
#[tokio::test]
async fn a_leap_of_the_clock_does_not_empty_the_trail() {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2020-01-01', '2021-12-31'); \
         INSERT INTO audit_logs (created_at, action) SELECT '2020-01-15'::timestamptz + m * interval '1 month', 'row' FROM generate_series(0, 23) m; \
         INSERT INTO audit_logs (action) VALUES ('after the leap')",
    )
    .await
    .unwrap();
    let many = Rule {
        max_months: 1_000,
        ..rule()
    };
    let mut dropped = 0;
    for month in 1..=24 {
        let part = format!(
            "audit_logs_{}_{:02}",
            2020 + (month - 1) / 12,
            (month - 1) % 12 + 1
        );
        match drop_month(&db, &part, &many).await {
            Ok(_) => dropped += 1,
            Err(error) => assert!(error.contains("is the clock right?"), "{error}"),
        }
    }
    assert_eq!(
        dropped,
        24 - 12,
        "thirteen months with rows are left: twelve old ones, and the present"
    );
    assert_eq!(verdict(&db, "audit_logs_2021_01").await, "few_later");
    // A trail that really ended is the operator's word.
    assert!(
        drop_month(
            &db,
            "audit_logs_2021_01",
            &Rule {
                trust_clock: true,
                ..many
            }
        )
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn a_clock_behind_the_ledger_drops_nothing() {
    let (db, parts) = aged(20).await;
    db.sql(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason, done_at) \
         VALUES (1, 'dropped', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x', now() + interval '1 hour')",
    )
    .await
    .unwrap();
    let error = drop_month(&db, &parts[0], &rule()).await.unwrap_err();
    assert!(error.contains("but the ledger has an entry of"), "{error}");
    assert_eq!(verdict(&db, &parts[0]).await, "drop");
}

/// The row is inserted after the month was read, and committed before it is locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_meanwhile_stops_the_drop() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let (db, parts) = aged(20).await;
    let mut late = AsyncPgConnection::establish(&db.url).await.unwrap();
    let insert = format!(
        "BEGIN; INSERT INTO audit_logs (created_at, action) SELECT from_time, 'late' FROM audit_logs_months() WHERE part = '{}'",
        parts[0]
    );
    late.batch_execute(&insert).await.unwrap();
    let (url, part) = (db.url.clone(), parts[0].clone());
    let dropping = tokio::spawn(async move {
        let database = db_services::client::Database::from_url(&url).unwrap();
        retention::drop_month(&mut database.connection().await.unwrap(), &part, &rule(), None).await
    });
    crate::support::wait_for("the drop to wait for the insert", async || {
        db.text("SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs'::regclass AND NOT granted").await != "0"
    })
    .await;
    late.batch_execute("COMMIT").await.unwrap();
    let refused = dropping.await.unwrap().unwrap_err().to_string();
    assert!(
        refused.contains("rows came to") && refused.contains("Repeat it"),
        "{refused}"
    );
    assert_eq!(db.count().await, 64);
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
    assert_eq!(
        retention::ledger(&mut db.connection().await).await.unwrap()[0].row_count,
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_drop_the_same_month_drop_it_once() {
    let (db, parts) = aged(20).await;
    let rule = rule();
    let (one, other) = tokio::join!(
        drop_month(&db, &parts[0], &rule),
        drop_month(&db, &parts[0], &rule)
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(db.count().await, 60);
}

/// Dropping and restoring take turns: rows that are being restored would be read by halves.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped_while_something_is_restored() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let (db, parts) = aged(20).await;
    let mut restorer = AsyncPgConnection::establish(&db.url).await.unwrap();
    restorer
        .batch_execute("BEGIN; SELECT audit_retention_turn()")
        .await
        .unwrap();
    assert_drop_refused(
        &db,
        &parts[0],
        &rule(),
        "another session drops or restores a month",
    )
    .await;
    restorer.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
}

/// Every writer's numbers go on record, exactly, and so does what it declared.
#[tokio::test]
async fn what_was_dropped_is_not_missing() {
    let (db, parts) = aged(20).await;
    // Written over two months: 1-10 in the old one, there 4 declared lost, 7 rejected, 9 a duplicate; 11-20 now,
    // 13 missing.
    let writer = "0198c0de-0000-7000-8000-000000000001";
    db.sql(&format!(
        "CREATE TEMP TABLE old AS SELECT from_time AS t FROM audit_logs_months() WHERE part = '{}'; \
         INSERT INTO audit_logs (created_at, action, writer_id, writer_seq) \
         SELECT t + n * interval '1 second', 'x', '{writer}', n FROM old, generate_series(1, 10) n WHERE n NOT IN (4, 7, 9); \
         INSERT INTO audit_logs (created_at, action, writer_id, metadata) SELECT t, action, '{writer}', metadata::jsonb FROM old, (VALUES \
         ('audit.writer_started', '{{\"service\": \"shop\", \"queue_capacity\": 5}}'), ('audit.entries_lost', '{{\"ranges\": [[4, 4]]}}'), \
         ('audit.entry_quarantined', '{{\"seq\": 7}}'), ('audit.entries_duplicate', '{{\"ranges\": [[9, 9]]}}'), ('audit.writer_alive', '{{\"resolved_through\": 3}}'), \
         ('audit.writer_alive', '{{\"resolved_through\": 9}}'), ('audit.writer_alive', '{{\"resolved_through\": [99]}}')) v (action, metadata); \
         INSERT INTO audit_logs (action, writer_id, writer_seq) SELECT 'x', '{writer}', n FROM generate_series(11, 20) n WHERE n <> 13; \
         INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('forged', '{writer}', -5); \
         INSERT INTO audit_logs (created_at, action, writer_id, writer_seq) SELECT t, 'forged', gen_random_uuid(), 9223372036854775807 FROM old",
        parts[0]
    ))
    .await
    .unwrap();
    let stopped = format!(
        "INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.writer_stopped', '{writer}', '{{\"last_seq\": 20}}')"
    );
    db.sql(&stopped).await.unwrap();
    let account = async || {
        let all = verify_writers(&mut db.connection().await).await.unwrap();
        all.into_iter()
            .find(|account| account.writer_id.to_string() == writer)
            .unwrap()
    };
    let before = account().await;
    assert_eq!(
        (before.verdict, before.missing_ranges.clone()),
        (Verdict::Missing, vec![(13, 13)]),
        "{before:?}"
    );
    drop_month(&db, &parts[0], &rule()).await.unwrap();
    let after = account().await;
    assert_eq!(
        after.missing_ranges,
        [(13, 13)],
        "what was missing before is still the only thing"
    );
    assert_eq!(
        (
            after.declared_lost,
            after.quarantined,
            after.repeated,
            after.service.as_deref()
        ),
        (1, 1, 1, Some("shop"))
    );
    assert_eq!((before.dropped, after.dropped), (0, 7));
    assert_eq!(
        db.text(&format!("SELECT numbers::text || ' ' || row_count AS value FROM audit_retention_writers WHERE writer_id = '{writer}'")).await,
        "{[1,4),[5,7),[8,9),[10,11)} 7"
    );
    assert_eq!(
        db.text("SELECT string_agg(metadata->>'resolved_through', ' ') AS value FROM audit_retention_declarations WHERE action = 'audit.writer_alive'").await,
        "9"
    );
}

/// A writer that was fine before is fine after.
#[tokio::test]
async fn a_complete_writer_stays_complete() {
    let (db, parts) = aged(20).await;
    let (writer, guard) = db.writer();
    let begin: String = db.text(&format!("SELECT to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS value FROM audit_logs_months() WHERE part = '{}'", parts[0])).await;
    let old = begin.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    for nth in 0..300_i64 {
        let at = if nth % 3 == 0 {
            old + chrono::TimeDelta::seconds(nth)
        } else {
            chrono::Utc::now()
        };
        drop(writer.write(db_services::audit::AuditEntry::new("x").created_at(at)));
    }
    assert_eq!(guard.shutdown(TIMEOUT).await.committed, 300);
    drop_month(&db, &parts[0], &rule()).await.unwrap();
    let accounts = verify_writers(&mut db.connection().await).await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        (accounts[0].verdict, accounts[0].stored, accounts[0].dropped),
        (Verdict::Complete, 200, 100)
    );
}

/// Members of audit_maintainer do all of it and read no row; nobody else does any of it.
#[tokio::test]
async fn the_maintainer_can_and_nobody_else() {
    let (db, parts) = aged(20).await;
    let calls = [
        "SELECT audit_logs_months()".to_owned(),
        "SELECT audit_retention_plan(13)".to_owned(),
        "SELECT audit_logs_stray_months()".to_owned(),
        "SELECT audit_logs_adopt_month('2019-02-01')".to_owned(),
        "SELECT audit_hold_add('x', 'nobody')".to_owned(),
        "SELECT audit_hold_release(1, 'x')".to_owned(),
        "SELECT audit_logs_digest(now() - interval '1 month', now())".to_owned(),
        format!("SELECT audit_logs_drop_month('{}', 13, 'x')", parts[0]),
        "SELECT FROM audit_retention_ledger, audit_retention_writers, audit_retention_declarations, audit_legal_holds".to_owned(),
    ];
    let auditors = |call: &str| {
        [
            "audit_logs_months",
            "audit_retention_plan",
            "audit_logs_digest",
            "FROM audit_retention_ledger",
        ]
        .iter()
        .any(|may| call.contains(may))
    };
    for role in ["writer", "reader", "auditor", "maintainer"] {
        for call in &calls {
            let done = sql_on_new_connection(&db, &format!("SET ROLE audit_{role}; {call}")).await;
            let may = role == "maintainer" || role == "auditor" && auditors(call);
            assert_eq!(done.is_ok(), may, "{role}: {call}: {done:?}");
            assert!(
                may || done.unwrap_err().contains("permission denied"),
                "{role}: {call}"
            );
        }
        for hidden in [
            "INSERT INTO audit_legal_holds (id, reason) VALUES (9, 'x')",
            "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason) VALUES (9, 'dropped', 'x', now(), now(), 0, sha256(''), 'x')",
            "SELECT audit_holds_on('audit_logs', now(), now())",
            "SELECT audit_retention_take('audit_logs_default', now(), now(), pg_current_snapshot())",
            "SELECT audit_retention_record(NULL)",
            "SELECT audit_retention_check(13, true, 100)",
        ] {
            let error = sql_on_new_connection(&db, &format!("SET ROLE audit_{role}; {hidden}"))
                .await
                .expect_err(hidden);
            assert!(error.contains("permission denied"), "{role}: {hidden}: {error}");
        }
    }
    assert!(
        sql_on_new_connection(&db, "SET ROLE audit_maintainer; SELECT FROM audit_logs")
            .await
            .is_err()
    );
    assert_eq!(verdict(&db, &parts[0]).await, "gone");
}

#[tokio::test]
async fn sqlite_has_none_of_it_and_says_what_to_do() {
    let db = TestDb::sqlite().await;
    let mut conn = db.connection().await;
    let plan = retention::plan(&mut conn, &rule()).await.unwrap_err();
    assert!(matches!(plan, OpsError::Sqlite));
    assert!(plan.to_string().contains("move the file away"), "{plan}");
    assert!(matches!(
        retention::drop_month(&mut conn, "x", &rule(), None).await,
        Err(OpsError::Sqlite)
    ));
    assert!(matches!(
        audit_ops::partitions::list(&mut conn).await,
        Err(OpsError::Sqlite)
    ));
    assert!(matches!(
        audit_ops::holds::list(&mut conn).await,
        Err(OpsError::Sqlite)
    ));
}
