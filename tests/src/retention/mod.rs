//! Retention: months are dropped when they may be, and every drop is recorded.

mod concurrency;
mod dependents;
mod ledger_size;
mod limits;
mod vanishing;

use audit_ops::OpsError;
use audit_ops::retention::{self, RetentionPolicy};
use db_services::audit::{Verdict, verify_writers};

use crate::support::{TIMEOUT, TestDb};

/// A database with three rows in each of this number of past months, and the names of their partitions, the
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
    let names = "SELECT string_agg(partition, ',' ORDER BY from_time) AS value FROM audit_logs_months() WHERE to_time <= now()";
    let parts: Vec<_> = db.text(names).await.split(',').map(str::to_owned).collect();
    assert_eq!(parts.len(), months as usize);
    (db, parts)
}

/// Runs SQL on a new connection, so that its settings and open transactions end with it.
pub async fn sql_on_new_connection(db: &TestDb, sql: &str) -> Result<(), String> {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    conn.batch_execute(sql).await.map_err(|error| error.to_string())
}

pub fn rule() -> RetentionPolicy {
    RetentionPolicy::keep(13)
}

pub async fn verdict(db: &TestDb, part: &str) -> String {
    let plan = retention::plan(&mut db.connection().await, &rule())
        .await
        .unwrap();
    plan.into_iter()
        .find(|month| month.name == part)
        .map_or_else(|| "gone".to_owned(), |month| month.verdict.as_str().to_owned())
}

async fn drop_month(db: &TestDb, part: &str, rule: &RetentionPolicy) -> Result<i64, String> {
    let dropped = retention::drop_month(&mut db.connection().await, part, rule, None).await;
    dropped.map_err(|error| error.to_string())
}

/// Asserts that a drop is refused, and that the rows of the month are unchanged.
async fn assert_drop_refused(db: &TestDb, part: &str, rule: &RetentionPolicy, why: &str) {
    let rows = format!("SELECT string_agg(a::text, '' ORDER BY id) AS value FROM {part} a");
    let before = db.text(&rows).await;
    assert!(before.contains("row"), "{part} has a row");
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
async fn the_plan_lists_the_months_to_drop() {
    let (db, parts) = aged(20).await;
    let plan = retention::plan(&mut db.connection().await, &rule())
        .await
        .unwrap();
    let going: Vec<_> = plan
        .iter()
        .filter(|month| month.is_droppable())
        .map(|month| &month.name)
        .collect();
    // Months that ended at least 13 months ago are dropped.
    assert_eq!(going, parts[..parts.len() - 13].iter().collect::<Vec<_>>());
    assert!(
        plan.iter()
            .filter(|month| month.is_droppable())
            .all(|month| month.row_count == 3 && month.bytes > 0)
    );
    assert_eq!(
        plan.last()
            .map(|last| (last.name.as_str(), last.verdict.as_str())),
        Some(("audit_logs_default", "not_monthly"))
    );
    assert_eq!(db.count().await, 63, "the plan changes nothing");
}

#[tokio::test]
async fn a_dropped_month_is_recorded_in_the_ledger() {
    let (db, parts) = aged(20).await;
    let part = &parts[0];
    // The digest as documented in audit_ops::retention, computed separately.
    let digest = db
        .text(&format!(
            "WITH RECURSIVE lines AS (SELECT row_number() OVER (ORDER BY created_at, id) AS nth, sha256(convert_to(row_to_json(a)::text, 'UTF8')) AS line FROM {part} a), \
             steps AS (SELECT 0::bigint AS nth, decode(repeat('00', 32), 'hex') AS d UNION ALL SELECT l.nth, sha256(d || line) FROM steps s JOIN lines l ON l.nth = s.nth + 1) \
             SELECT encode(d, 'hex') AS value FROM steps ORDER BY nth DESC LIMIT 1"
        ))
        .await;
    let rule = RetentionPolicy {
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
        ("dropped", 3, digest.as_str())
    );
    assert_eq!(
        entry.month,
        part.trim_start_matches("audit_logs_").replace('_', "-")
    );
    assert_eq!(
        (entry.reason.as_str(), entry.keep_months, entry.overrides.len()),
        ("as the policy says", Some(13), 0)
    );
    assert_eq!(entry.done_by, db.text("SELECT session_user::text AS value").await);
    assert!(ledger[1].digest != entry.digest && ledger[1].done_at > entry.done_at);
    // A late row of the month goes to the default partition.
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES (now() - interval '20 months', 'late')")
        .await
        .unwrap();
}

/// The ledger records the sequence numbers and the declarations of each writer.
#[tokio::test]
async fn dropped_entries_are_not_reported_as_missing() {
    let (db, parts) = aged(20).await;
    // In the old month 1 to 10: 4 declared lost, 7 rejected, 9 a duplicate. In the current month 11 to 20, with
    // 13 missing.
    let writer = "0198c0de-0000-7000-8000-000000000001";
    db.sql(&format!(
        "CREATE TEMP TABLE old AS SELECT from_time AS t FROM audit_logs_months() WHERE partition = '{}'; \
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
        "the same number as before is missing"
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
    assert_eq!((before.expired, after.expired), (0, 7));
    assert_eq!(
        db.text(&format!("SELECT numbers::text || ' ' || row_count AS value FROM audit_retention_writers WHERE writer_id = '{writer}'")).await,
        "{[1,4),[5,7),[8,9),[10,11)} 7"
    );
    assert_eq!(
        db.text("SELECT string_agg(metadata->>'resolved_through', ' ') AS value FROM audit_retention_declarations WHERE action = 'audit.writer_alive'").await,
        "9"
    );
}

/// A drop does not change the verdict of a complete writer.
#[tokio::test]
async fn a_complete_writer_stays_complete_after_a_drop() {
    let (db, parts) = aged(20).await;
    let (writer, guard) = db.writer();
    let begin: String = db.text(&format!("SELECT to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS value FROM audit_logs_months() WHERE partition = '{}'", parts[0])).await;
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
        (accounts[0].verdict, accounts[0].stored, accounts[0].expired),
        (Verdict::Complete, 200, 100)
    );
}

/// Members of audit_maintainer can run everything but read no row.
#[tokio::test]
async fn only_the_maintainer_can_run_the_retention_functions() {
    let (db, parts) = aged(20).await;
    let calls = [
        "SELECT audit_logs_months()".to_owned(),
        "SELECT audit_retention_plan(13)".to_owned(),
        "SELECT audit_logs_default_months()".to_owned(),
        "SELECT audit_logs_move_month('2019-02-01')".to_owned(),
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
            "SELECT audit_retention_drop(now(), now(), pg_current_snapshot())",
            "SELECT audit_retention_log(NULL)",
            "SELECT audit_retention_check(13, true, 100, false)",
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
async fn retention_on_sqlite_is_an_error_with_a_hint() {
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
