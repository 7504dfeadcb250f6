//! Lists of months while one is dropped.

use audit_ops::holds::{self, HoldScope};
use audit_ops::{partitions, retention};
use db_services::client::Database;

use super::{aged, rule};
use crate::attacks::fixture::connect;
use crate::support::wait_for;

/// Each list has begun when the drop is committed: it waits for a lock of the month.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_is_dropped_meanwhile_is_left_out_of_lists() {
    for look_ups in [true, false] {
        let (db, parts) = aged(20).await;
        if !look_ups {
            // The functions of the migration before.
            assert!(db.database.revert_migration().await.unwrap().ends_with("000005"));
        }
        for (nth, part) in parts[..3].iter().enumerate() {
            let dropper = connect(&db.url).await;
            let sql = format!("BEGIN; SELECT audit_logs_drop_month('{part}', 13, 'x')");
            dropper.batch_execute(&sql).await.unwrap();
            let database = Database::from_url(&db.url).unwrap();
            let listing = tokio::spawn(async move {
                let mut conn = database.connection().await.unwrap();
                match nth {
                    0 => retention::plan(&mut conn, &rule()).await.map(|plan| plan.len()),
                    // A hold of the earlier migrations reads each partition.
                    1 => holds::coverage(&mut conn, &HoldScope::default())
                        .await
                        .map(|coverage| coverage.months as usize),
                    _ if look_ups => partitions::list(&mut conn).await.map(|list| list.len()),
                    _ => Ok(0),
                }
            });
            if look_ups || nth < 2 {
                wait_for("the list to wait", async || {
                    let waits = "SELECT count(*)::text AS value FROM pg_locks WHERE NOT granted";
                    listing.is_finished() || db.text(waits).await != "0"
                })
                .await;
            }
            dropper.batch_execute("COMMIT").await.unwrap();
            let listed = listing.await.unwrap();
            let expected = match nth {
                0 => {
                    db.text("SELECT count(*)::text AS value FROM audit_logs_months()")
                        .await
                }
                1 => "19".to_owned(),
                _ if look_ups => {
                    db.text("SELECT count(*)::text AS value FROM audit_logs_months()")
                        .await
                }
                _ => "0".to_owned(),
            };
            assert_eq!(
                listed.map(|n| n.to_string()).unwrap(),
                expected,
                "{nth} {look_ups}"
            );
        }
    }
}
