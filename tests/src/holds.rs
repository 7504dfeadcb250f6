//! Legal holds keep partitions from being dropped, and are append-only.

use audit_ops::holds::{self, HoldScope};
use audit_ops::retention;

use crate::retention::{aged, rule, verdict};
use crate::support::TestDb;

async fn hold(db: &TestDb, covers: HoldScope) -> i64 {
    holds::add(&mut db.connection().await, &covers, "case 4711")
        .await
        .unwrap()
}

async fn begins(db: &TestDb, part: &str) -> chrono::DateTime<chrono::Utc> {
    let sql = format!(
        "SELECT to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS value FROM audit_logs_months() WHERE partition = '{part}'"
    );
    db.text(&sql).await.parse().unwrap()
}

#[tokio::test]
async fn a_hold_on_a_time_range_covers_the_months_it_touches() {
    let (db, parts) = aged(20).await;
    let from = begins(&db, &parts[2]).await;
    let just_before = from - chrono::TimeDelta::microseconds(1);
    // The range that ends at the beginning of a month covers the month before, not this one.
    let second = hold(
        &db,
        HoldScope {
            from_time: Some(just_before),
            to_time: Some(from),
            ..HoldScope::default()
        },
    )
    .await;
    assert_eq!(
        (verdict(&db, &parts[1]).await, verdict(&db, &parts[2]).await),
        ("held".into(), "drop".into())
    );
    let third = hold(
        &db,
        HoldScope {
            from_time: Some(from),
            to_time: Some(from + chrono::TimeDelta::days(1)),
            ..HoldScope::default()
        },
    )
    .await;
    assert_eq!(verdict(&db, &parts[2]).await, "held");
    assert_eq!(verdict(&db, &parts[0]).await, "drop");

    let mut conn = db.connection().await;
    let refused = retention::drop_month(&mut conn, &parts[2], &rule(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("legal holds {2}"), "{refused}");
    holds::release(&mut conn, third, "the case was closed")
        .await
        .unwrap();
    assert_eq!(verdict(&db, &parts[2]).await, "drop");
    retention::drop_month(&mut conn, &parts[2], &rule(), None)
        .await
        .unwrap();
    assert_eq!(verdict(&db, &parts[1]).await, "held");

    for hold in [third, 4, 77, -1] {
        let error = holds::release(&mut conn, hold, "again")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("not an active hold"), "{hold}: {error}");
    }
    let all = holds::list(&mut conn).await.unwrap();
    assert_eq!(
        all.iter().map(|hold| hold.id).collect::<Vec<_>>(),
        [second, third]
    );
    assert_eq!(
        (all[0].reason.as_str(), all[0].release_reason.as_deref()),
        ("case 4711", None)
    );
    assert_eq!(all[1].release_reason.as_deref(), Some("the case was closed"));
    assert!(
        all[1].released_at.as_deref() > Some(all[1].created_at.as_str()) && !all[1].created_by.is_empty()
    );
}

#[tokio::test]
async fn a_hold_on_a_tenant_covers_the_months_with_rows_of_it() {
    let (db, parts) = aged(20).await;
    db.sql(&format!(
        "INSERT INTO audit_logs (created_at, action, tenant_id) SELECT from_time + interval '3 days', 'x', 'acme' \
         FROM audit_logs_months() WHERE partition IN ('{}', '{}')",
        parts[1], parts[3]
    ))
    .await
    .unwrap();
    let on = |tenant: &str| HoldScope {
        tenant_id: Some(tenant.to_owned()),
        ..HoldScope::default()
    };
    hold(&db, on("nobody")).await;
    let acme = hold(&db, on("acme")).await;
    let until = hold(
        &db,
        HoldScope {
            to_time: Some(begins(&db, &parts[1]).await + chrono::TimeDelta::days(3)),
            ..on("acme")
        },
    )
    .await;
    for (part, expected) in [(0, "drop"), (1, "held"), (2, "drop"), (3, "held")] {
        assert_eq!(verdict(&db, &parts[part]).await, expected, "{part}");
    }
    let mut conn = db.connection().await;
    holds::release(&mut conn, acme, "over").await.unwrap();
    // The row is just outside of the range of the other hold.
    assert_eq!(verdict(&db, &parts[1]).await, "drop");
    holds::release(&mut conn, until, "over").await.unwrap();
}

/// The end of time is in no month, and no range of times ends after it.
#[tokio::test]
async fn a_hold_on_a_tenant_covers_rows_at_infinity_and_in_the_default_partition() {
    let db = TestDb::postgres().await;
    db.sql("INSERT INTO audit_logs (created_at, action, tenant_id) VALUES ('infinity', 'x', 'acme'), ('1999-01-01', 'x', 'globex')")
            .await
            .unwrap();
    let mut conn = db.connection().await;
    for tenant in ["acme", "globex"] {
        let scope = HoldScope {
            tenant_id: Some(tenant.to_owned()),
            ..HoldScope::default()
        };
        hold(&db, scope.clone()).await;
        let covered = holds::coverage(&mut conn, &scope).await.unwrap();
        assert_eq!((covered.row_count, covered.months), (1, 1), "{tenant}");
    }
    let plan = retention::plan(&mut conn, &rule()).await.unwrap();
    let rest = plan
        .iter()
        .find(|part| part.name == "audit_logs_default")
        .unwrap();
    assert_eq!(rest.holds, [1, 2]);
}

/// A drop waits for a transaction that adds a hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_added_during_a_drop_stops_it() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let (db, parts) = aged(20).await;
    let mut other = AsyncPgConnection::establish(&db.url).await.unwrap();
    other
        .batch_execute("BEGIN; SELECT audit_hold_add('in the last moment')")
        .await
        .unwrap();
    let (url, part) = (db.url.clone(), parts[0].clone());
    let dropping = tokio::spawn(async move {
        let database = db_services::client::Database::from_url(&url).unwrap();
        let mut conn = database.connection().await.unwrap();
        retention::drop_month(&mut conn, &part, &rule(), None).await
    });
    crate::support::wait_for("the drop to wait for the hold", async || {
        db.text("SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_legal_holds'::regclass AND NOT granted").await
            != "0"
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    let refused = dropping.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("legal holds {1}"), "{refused}");
    assert_eq!(verdict(&db, &parts[0]).await, "held");
}

#[tokio::test]
async fn a_hold_without_a_reason_or_with_an_empty_range_is_rejected() {
    let db = TestDb::postgres().await;
    let mut conn = db.connection().await;
    let now = chrono::Utc::now();
    for (covers, reason) in [
        (HoldScope::default(), ""),
        (HoldScope::default(), "  \n"),
        (
            HoldScope {
                from_time: Some(now),
                to_time: Some(now),
                ..HoldScope::default()
            },
            "backwards",
        ),
    ] {
        assert!(
            holds::add(&mut conn, &covers, reason).await.is_err(),
            "{covers:?} {reason:?}"
        );
    }
    assert_eq!(holds::list(&mut conn).await.unwrap(), []);
}

/// Tried as owner and superuser, who has all privileges.
#[tokio::test]
async fn holds_and_the_retention_ledger_are_append_only() {
    let (db, parts) = aged(20).await;
    hold(
        &db,
        HoldScope {
            tenant_id: Some("acme".to_owned()),
            ..HoldScope::default()
        },
    )
    .await;
    db.sql(&format!(
        "INSERT INTO audit_logs (created_at, action, writer_id, writer_seq) \
         SELECT from_time, 'x', gen_random_uuid(), 1 FROM audit_logs_months() WHERE partition = '{0}'; \
         INSERT INTO audit_logs (created_at, action, writer_id) \
         SELECT from_time, 'audit.writer_started', gen_random_uuid() FROM audit_logs_months() WHERE partition = '{0}'",
        parts[0]
    ))
    .await
    .unwrap();
    retention::drop_month(&mut db.connection().await, &parts[0], &rule(), None)
        .await
        .unwrap();
    for (table, column) in [
        ("audit_legal_holds", "reason"),
        ("audit_retention_ledger", "reason"),
        ("audit_retention_writers", "row_count"),
        ("audit_retention_declarations", "action"),
    ] {
        let rows = format!("SELECT string_agg(t::text, '') AS value FROM {table} t");
        let before = db.text(&rows).await;
        assert!(!before.is_empty(), "the table {table} has no row to attack");
        for sql in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            for mode in ["origin", "replica"] {
                let error = db
                    .sql(&format!("SET session_replication_role = {mode}; {sql}"))
                    .await
                    .expect_err(&sql);
                assert!(
                    error.contains(&format!("{table} is append-only")) || error.contains("is append-only"),
                    "{sql}: {error}"
                );
                assert_eq!(db.text(&rows).await, before, "{sql}");
            }
        }
    }
    let upsert = "INSERT INTO audit_legal_holds (id, reason) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET reason = 'y'";
    assert!(
        db.sql(upsert)
            .await
            .unwrap_err()
            .contains("audit_legal_holds is append-only")
    );
}
