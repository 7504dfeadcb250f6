//! Lists of months while one is dropped.

use audit_ops::holds::{self, HoldScope};
use audit_ops::{OpsError, partitions, retention};
use db_services::client::Database;

use super::{aged, rule};
use crate::attacks::fixture::connect;
use crate::support::wait_for;

/// Each list has begun when the drop is committed: it waits for a lock of the month.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_is_dropped_meanwhile_is_left_out_of_lists() {
    let (db, parts) = aged(20).await;
    for (list, part) in [List::Plan, List::Coverage, List::Partitions]
        .into_iter()
        .zip(&parts)
    {
        let dropper = connect(&db.url).await;
        let sql = format!("BEGIN; SELECT audit_logs_drop_month('{part}', 13, 'x')");
        dropper.batch_execute(&sql).await.unwrap();
        let database = Database::from_url(&db.url).unwrap();
        let listing = tokio::spawn(async move { list.months(&database).await });
        wait_for("the list to wait", async || {
            let waits = "SELECT count(*)::text AS value FROM pg_locks WHERE NOT granted";
            listing.is_finished() || db.text(waits).await != "0"
        })
        .await;
        dropper.batch_execute("COMMIT").await.unwrap();
        let listed = listing.await.unwrap().unwrap();
        let expected = match list {
            // Months without rows are not counted.
            List::Coverage => "19".to_owned(),
            List::Plan | List::Partitions => {
                db.text("SELECT count(*)::text AS value FROM audit_logs_months()")
                    .await
            }
        };
        assert_eq!(listed.to_string(), expected, "{list:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum List {
    Plan,
    Coverage,
    Partitions,
}

impl List {
    async fn months(self, database: &Database) -> Result<usize, OpsError> {
        let conn = &mut database.connection().await.unwrap();
        match self {
            Self::Plan => Ok(retention::plan(conn, &rule()).await?.len()),
            Self::Coverage => Ok(holds::coverage(conn, &HoldScope::default()).await?.months as usize),
            Self::Partitions => Ok(partitions::list(conn).await?.len()),
        }
    }
}
