//! Which rows a statement returns.

use db_test::Postgres;
use diesel_async::SimpleAsyncConnection;

use super::budget::Budget;
use super::postgres::load;
use super::state::{Ahead, Part, Window};
use super::statements;
use crate::audit::query::AuditFilter;
use crate::client::{Connection, Database};

/// As if half of all ids had been given since: `xmin` has 32 bits.
#[tokio::test]
async fn a_row_of_the_cluster_is_not_left_out_two_billion_transactions_after_the_mark() {
    let server = Postgres::migrated().unwrap_or_else(|error| panic!("{error}"));
    let database = Database::from_url(server.url()).unwrap();
    let Connection::Postgres(mut conn) = database.connection().await.unwrap() else {
        panic!("this is PostgreSQL");
    };
    let insert = "INSERT INTO audit_logs (action) VALUES ('own'); \
                  INSERT INTO audit_logs (action, tx_id) VALUES ('foreign', 1000000)";
    conn.batch_execute(insert).await.unwrap();
    let window = |without| Window {
        part: Part::New,
        from: 0,
        to: 1_000_001,
        listed: Vec::new(),
        inside: None,
        without,
    };
    let all = statements::rows(&window(None), &AuditFilter::new(), 10);
    let (all, _) = load(&mut conn, all, &mut Budget::new()).await.unwrap();
    assert_eq!(all.len(), 2);
    let own = all[0].1.tx;
    for age in [1, (1 << 31) - 10, (1 << 31) + 10, (1 << 32) - 10] {
        let ahead = Ahead {
            mark: own + 1 - age,
            until: 2_000_000,
            next: None,
        };
        let statement = statements::rows(&window(Some(ahead)), &AuditFilter::new(), 10);
        let (rows, _) = load(&mut conn, statement, &mut Budget::new()).await.unwrap();
        assert!(rows.iter().any(|(row, _)| row.action == "own"), "{age}");
    }
}
