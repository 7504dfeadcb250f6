//! Limits on dropping months.

use audit_ops::retention::{self, Rule};

use super::{aged, assert_drop_refused, drop_month, rule, sql_on_new_connection, verdict};
use crate::support::TestDb;

#[tokio::test]
async fn drops_that_violate_a_limit_are_refused() {
    let (db, parts) = aged(20).await;
    let mut conn = db.connection().await;
    // Too recent for the rule.
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
    // Not a partition of one month.
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
    // Without a reason.
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
    // An old snapshot would hide new rows.
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT audit_logs_drop_month('{}', 13, 'x'); COMMIT",
        parts[0]
    );
    let error = sql_on_new_connection(&db, &sql).await.unwrap_err();
    assert!(error.contains("READ COMMITTED"), "{error}");
    assert_eq!(retention::ledger(&mut conn).await.unwrap(), []);

    // With force eleven months are accepted, and the ledger records it.
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
async fn the_number_of_months_dropped_within_a_day_is_limited() {
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
        "thirteen months with rows are left: twelve old ones, and the current one"
    );
    assert_eq!(verdict(&db, "audit_logs_2021_01").await, "few_later");
    // An operator may confirm that the trail ended.
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
async fn nothing_is_dropped_while_the_clock_is_behind_the_ledger() {
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
