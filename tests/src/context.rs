//! The ambient context fills what entries leave open, by each way to write them, and never another request's.

use std::net::Ipv4Addr;

use db_schema::AuditLog;
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{self, AuditEntry, insert, insert_many, testing, write_audit_log, write_audit_logs};

use crate::support::{TestDb, on_both};

fn request(nth: u32) -> AuditContext {
    AuditContext::new()
        .actor(format!("user-{nth}"))
        .actor_type("user")
        .tenant(format!("tenant-{}", nth % 7))
        .request_id(format!("request-{nth}"))
        .ip(Ipv4Addr::from_bits(nth))
}

/// Asserts that a row has the values of this request.
fn assert_request(row: &AuditLog, nth: u32) {
    let stored = AuditContext::new()
        .actor(row.actor_id.clone().unwrap())
        .actor_type(row.actor_type.clone().unwrap())
        .tenant(row.tenant_id.clone().unwrap())
        .request_id(row.request_id.clone().unwrap())
        .ip(row.ip_address.unwrap().addr());
    assert_eq!(stored, request(nth), "{}", row.action);
}

on_both! {
    async fn every_way_to_write_fills_entries_from_the_context(db: TestDb) {
        let (writer, guard) = db.writer();
        let mut conn = db.connection().await;
        let direct = writer.clone();
        let writing = context::scope(request(1), async {
            write_audit_log(AuditEntry::new("written"));
            write_audit_logs([AuditEntry::new("together"), AuditEntry::new("together")]);
            direct.write(AuditEntry::new("directly"));
            direct.write_all([AuditEntry::new("directly")]);
            insert(&mut conn, &AuditEntry::new("inserted")).await.unwrap();
            let entries = [AuditEntry::new("inserted"), AuditEntry::new("inserted")];
            insert_many(&mut conn, &entries).await.unwrap();
            // Of the context and of the writer.
            let task = context::carry(async { write_audit_log(AuditEntry::new("spawned")).await });
            assert!(tokio::spawn(task).await.unwrap().is_durable());
        });
        audit::with_writer(writer, writing).await;
        guard.shutdown(db_test::TIMEOUT).await;
        let rows = db.rows().await;
        assert_eq!(rows.len(), 9);
        rows.iter().for_each(|row| assert_request(row, 1));
    }

    async fn the_records_of_the_writer_have_no_context(db: TestDb) {
        let (writer, guard) = db.writer();
        context::scope(request(1), async {
            writer.write(AuditEntry::new("written")).await;
        })
        .await;
        context::scope(request(1), guard.shutdown(db_test::TIMEOUT)).await;
        let mut conn = db.connection().await;
        let rows = audit::latest_with_records(&mut conn, 100).await.unwrap();
        let records: Vec<_> = rows.iter().filter(|row| row.action.starts_with("audit.")).collect();
        assert_eq!(records.len(), 2, "{rows:?}");
        let entry = rows.iter().find(|row| row.action == "written").unwrap();
        assert_eq!(entry.request_id.as_deref(), Some("request-1"), "the context was in force");
        assert!(records.iter().all(|row| row.actor_type.as_deref() != Some("user") && row.request_id.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_concurrent_requests_keep_their_own_values() {
    let db = TestDb::sqlite().await;
    let (writer, guard) = db.writer();
    let handle = |nth: u32| {
        let known_later = AuditContext::new()
            .actor(format!("user-{nth}"))
            .actor_type("user");
        let mut early = request(nth);
        (early.actor_id, early.actor_type) = (None, None);
        context::scope(early, async move {
            tokio::task::yield_now().await;
            // A sign-in: the actor becomes known while the request runs.
            context::bind(known_later);
            tokio::task::yield_now().await;
            write_audit_log(AuditEntry::new("first").operation_id(uuid::Uuid::from_u128(nth.into())));
            let task = context::carry(async move {
                tokio::task::yield_now().await;
                write_audit_log(AuditEntry::new("second").operation_id(uuid::Uuid::from_u128(nth.into())));
            });
            tokio::spawn(task).await.unwrap();
        })
    };
    let tasks: Vec<_> = (0..10_000)
        .map(|nth| tokio::spawn(audit::with_writer(writer.clone(), handle(nth))))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    guard.shutdown(db_test::TIMEOUT).await;
    let rows = db.rows().await;
    assert_eq!(rows.len(), 20_000);
    for row in &rows {
        let nth = u32::try_from(row.operation_id.unwrap().as_u128()).unwrap();
        assert_request(row, nth);
    }
}

#[tokio::test]
async fn the_test_kit_captures_what_a_carried_task_writes() {
    let captured = testing::capture(async {
        let task = context::carry(async { drop(write_audit_log(AuditEntry::new("skill.reindex"))) });
        tokio::spawn(task).await.unwrap();
    })
    .await;
    captured.assert_one(&AuditEntry::new("skill.reindex"));
}
