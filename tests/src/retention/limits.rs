//! Limits on dropping months.

use audit_ops::retention::{self, RetentionPolicy};

use super::{aged, assert_drop_refused, drop_month, rule, sql_on_new_connection, verdict};
use crate::support::TestDb;

#[tokio::test]
async fn a_month_that_is_too_recent_is_not_dropped() {
    let (db, parts) = aged(20).await;
    let forced = RetentionPolicy {
        trust_clock: true,
        force: true,
        ..rule()
    };
    let reason = "rows of the last 13 months";
    assert_drop_refused(&db, &parts[parts.len() - 13], &rule(), reason).await;
    assert_drop_refused(&db, &parts[19], &forced, reason).await;
}

#[tokio::test]
async fn fewer_than_twelve_months_are_kept_only_if_forced() {
    let (db, parts) = aged(20).await;
    let forced = |months| RetentionPolicy {
        force: true,
        ..RetentionPolicy::keep(months)
    };
    let reason = "fewer than 12 months (11) are kept only if forced";
    assert_drop_refused(&db, &parts[0], &RetentionPolicy::keep(11), reason).await;
    for months in [0, -1] {
        assert_drop_refused(&db, &parts[0], &forced(months), "at least one month").await;
    }
    assert_eq!(drop_month(&db, &parts[0], &forced(11)).await, Ok(1));
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger[0].overrides, ["force"]);
}

#[tokio::test]
async fn only_partitions_of_one_month_are_dropped() {
    let (db, _) = aged(20).await;
    db.sql(
        "CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2001-01-01') TO ('2002-01-01'); \
         INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'row'), ('2001-07-01', 'row')",
    )
    .await
    .unwrap();
    for part in ["audit_logs_default", "mine"] {
        assert_drop_refused(&db, part, &rule(), "not a whole month").await;
    }
    for other in ["audit_logs", "audit_legal_holds", "nothing", "pg_class", ""] {
        let error = drop_month(&db, other, &rule()).await.unwrap_err();
        assert!(error.contains("no such partition"), "{other}: {error}");
    }
}

#[tokio::test]
async fn a_drop_needs_a_reason_and_the_isolation_level_read_committed() {
    let (db, parts) = aged(20).await;
    let without_reason = RetentionPolicy {
        reason: " ".to_owned(),
        ..rule()
    };
    assert!(drop_month(&db, &parts[0], &without_reason).await.is_err());
    // An old snapshot would hide new rows.
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT audit_logs_drop_month('{}', 13, 'x'); COMMIT",
        parts[0]
    );
    let error = sql_on_new_connection(&db, &sql).await.unwrap_err();
    assert!(error.contains("READ COMMITTED"), "{error}");
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger, []);
}

#[tokio::test]
async fn the_number_of_months_dropped_within_a_day_is_limited() {
    let (db, parts) = aged(30).await;
    for (nth, part) in parts[..3].iter().enumerate() {
        assert_eq!(drop_month(&db, part, &rule()).await, Ok(nth as i64 + 1));
    }
    let error = drop_month(&db, &parts[3], &rule()).await.unwrap_err();
    assert!(
        error.contains("3 months were dropped within a day, the limit is 3"),
        "{error}"
    );
    assert_eq!(verdict(&db, &parts[3]).await, "drop");
    assert_eq!(
        drop_month(
            &db,
            &parts[3],
            &RetentionPolicy {
                max_months: 4,
                ..rule()
            }
        )
        .await,
        Ok(4)
    );
}

/// The database cannot distinguish a trail that ended from a clock that was set to the future.
#[tokio::test]
async fn a_clock_set_to_the_future_does_not_empty_the_trail() {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2020-01-01', '2021-12-31'); \
         INSERT INTO audit_logs (created_at, action) SELECT '2020-01-15'::timestamptz + m * interval '1 month', 'row' FROM generate_series(0, 23) m; \
         INSERT INTO audit_logs (action) VALUES ('after the leap')",
    )
    .await
    .unwrap();
    let many = RetentionPolicy {
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
        "thirteen months with rows are left: twelve old ones, and the current one"
    );
    assert_eq!(verdict(&db, "audit_logs_2021_01").await, "too_few_recent");
    // An operator may confirm that the trail ended.
    assert!(
        drop_month(
            &db,
            "audit_logs_2021_01",
            &RetentionPolicy {
                trust_clock: true,
                ..many
            }
        )
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn nothing_is_dropped_while_the_clock_is_behind_the_ledger_unless_it_is_trusted() {
    let (db, parts) = aged(20).await;
    db.sql(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason, done_at) \
         VALUES (1, 'dropped', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x', now() + interval '1 hour')",
    )
    .await
    .unwrap();
    let error = drop_month(&db, &parts[0], &rule()).await.unwrap_err();
    assert!(error.contains("but the ledger has an entry of"), "{error}");
    assert!(error.contains("--trust-clock"), "{error}");
    assert_eq!(verdict(&db, &parts[0]).await, "drop");

    // Such entries do not count against the limit of a day either.
    db.sql(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason, done_at) \
         SELECT n, 'dropped', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x', now() + interval '1 year' \
         FROM generate_series(2, 9) n",
    )
    .await
    .unwrap();
    let trusting = RetentionPolicy {
        trust_clock: true,
        ..rule()
    };
    assert_eq!(drop_month(&db, &parts[0], &trusting).await, Ok(10));
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger[9].overrides, ["trust_clock"]);
    // Once is enough, also for the limit of a day.
    assert_eq!(drop_month(&db, &parts[1], &rule()).await, Ok(11));
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    assert_eq!(ledger[10].overrides, [""; 0]);
    // An entry that is made later by a clock that is ahead is not settled by it, nor does it settle anything.
    db.sql(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason, done_at, overrides) \
         VALUES (12, 'dropped', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x', now() + interval '1 year', '{}'), \
                (13, 'dropped', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x', now() + interval '1 year', '{trust_clock}')",
    )
    .await
    .unwrap();
    let error = drop_month(&db, &parts[2], &rule()).await.unwrap_err();
    assert!(error.contains("but the ledger has an entry of"), "{error}");
}

#[tokio::test]
async fn months_that_were_restored_do_not_count_against_the_limit_of_a_day() {
    let (db, parts) = aged(20).await;
    db.sql(
        "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason) \
         SELECT n, 'restored', '2020-01', '2020-01-01', '2020-02-01', 0, sha256(''), 'x' FROM generate_series(1, 3) n",
    )
    .await
    .unwrap();
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(4));
}

/// Rows of the future may be there by the clocks of callers, and prove nothing about the server's.
#[tokio::test]
async fn months_that_have_not_begun_do_not_count_as_later_months_with_rows() {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2020-01-01', '2020-01-01'), audit_logs_ensure_partitions(); \
         INSERT INTO audit_logs (created_at, action) VALUES ('2020-01-15', 'row'); \
         INSERT INTO audit_logs (created_at, action) SELECT now() + m * interval '1 month', 'row' FROM generate_series(1, 20) m",
    )
    .await
    .unwrap();
    let in_default = "SELECT count(*)::text AS value FROM audit_logs_default";
    assert_eq!(db.text(in_default).await, "0");
    assert_eq!(verdict(&db, "audit_logs_2020_01").await, "too_few_recent");
}

/// The command's own transaction decides, not the default of the login.
#[tokio::test]
async fn a_month_is_dropped_whatever_the_default_isolation_level_is() {
    use audit_ops::session;
    let (db, parts) = aged(20).await;
    for (part, level) in parts.iter().zip(["serializable", "repeatable%5C%20read"]) {
        let url = format!("{}?options=-cdefault_transaction_isolation%3D{level}", db.url);
        let database = db_services::client::Database::from_url(&url).unwrap();
        let mut conn = session::connect(&database).await.unwrap();
        let dropped = session::bounded_long(&mut conn, async |conn| {
            retention::drop_month(conn, part, &rule(), None).await
        });
        dropped.await.unwrap_or_else(|error| panic!("{level}: {error}"));
    }
}
