//! Real events in a database.

use std::io::Read;
use std::sync::LazyLock;

use db_services::audit::query::{AuditFilter, AuditQuery, Order};
use db_services::audit::{AuditEntry, AuditLog, insert_many};
use db_services::client::Connection;
use flate2::read::GzDecoder;
use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::support::TestDb;

#[path = "../../../crates/audit-cli/src/cloudtrail.rs"]
mod cloudtrail;

/// The events as the command imports them. One in three is of an operation, four of each.
pub static EVENTS: LazyLock<Vec<AuditEntry>> = LazyLock::new(|| {
    let mut lines = String::new();
    GzDecoder::new(&include_bytes!("../../data/cloudtrail.ndjson.gz")[..])
        .read_to_string(&mut lines)
        .unwrap();
    let events: Vec<_> = lines
        .lines()
        .map(|line| cloudtrail::entry(line.as_bytes()).unwrap())
        .enumerate()
        .map(|(nth, event)| match nth % 3 {
            0 => event.operation_id(Uuid::from_u128(1 + nth as u128 / 12)),
            _ => event,
        })
        .collect();
    assert_eq!(events.len(), 1_285);
    events
});

/// A database with the events. A few have no outcome that the library knows, no metadata, or are records of writers.
pub async fn import(db: &TestDb) {
    let mut conn = db.connection().await;
    for events in EVENTS.chunks(400) {
        insert_many(&mut conn, events).await.unwrap();
    }
    let insert = "INSERT INTO audit_logs (action, outcome, actor_type, actor_id, metadata) VALUES";
    db.sql(&format!(
        "{insert} ('order.shipped', 'partial', 'robot', 'Alice', NULL), ('audit.viewed', 'success', NULL, NULL, '{{}}'), \
         ('Audit.Viewed', 'success', 'user', 'alice', '{{\"n\": 1.50, \"s\": \"1.5\", \"yes\": true, \"none\": null, \"a.b\": [1, [2], {{\"c\": \"D\"}}]}}')"
    ))
    .await
    .unwrap();
}

/// All rows that pass a filter, the newest first.
pub async fn found(conn: &mut Connection, filter: AuditFilter) -> Vec<AuditLog> {
    let query = AuditQuery::new(filter);
    query.rows(conn, Order::NewestFirst).try_collect().await.unwrap()
}
