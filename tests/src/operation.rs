//! `observe` and `begin` record how an operation ended, however it ends.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use db_services::audit::actions::API_KEY_CREATE;
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{AuditEntry, Operation, Outcome, begin, observe, testing};
use futures_util::FutureExt;
use serde_json::Value;

/// The metadata of a captured row, without the duration, which it asserts to be one.
fn metadata(row: &db_schema::NewAuditLog) -> Value {
    let mut metadata: Value = serde_json::from_str(row.metadata.as_str()).unwrap();
    let duration = metadata.as_object_mut().unwrap().remove("duration_ms");
    assert!(duration.is_some_and(|duration| duration.as_f64().unwrap() >= 0.0));
    metadata
}

fn entry() -> AuditEntry {
    AuditEntry::new(API_KEY_CREATE)
        .actor("alice")
        .detail("scope", "read")
}

#[tokio::test]
async fn an_observed_success_is_one_entry_with_its_duration() {
    let started = entry();
    let created_at = started.created_at;
    let captured = testing::capture(observe(started, async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, Infallible>(7)
    }))
    .await;
    assert_eq!(captured.output, Ok(7));
    let row = captured.assert_one(&entry());
    assert_eq!(captured.entries().len(), 1);
    assert_eq!(row.outcome, "success");
    assert_eq!(row.created_at.timestamp_micros(), created_at.timestamp_micros());
    assert_eq!(metadata(row), serde_json::json!({"scope": "read"}));
    let duration: Value = serde_json::from_str(row.metadata.as_str()).unwrap();
    assert!(duration["duration_ms"].as_f64().unwrap() >= 20.0);
}

#[tokio::test]
async fn an_observed_error_is_a_failure_with_its_text() {
    let captured = testing::capture(observe(entry(), async { Err::<(), _>("no\nspace") })).await;
    assert_eq!(captured.output, Err("no\nspace"));
    let row = captured.assert_one(&entry().outcome(Outcome::Failure));
    assert_eq!(
        metadata(row),
        serde_json::json!({"scope": "read", "error": "no space"})
    );
}

#[tokio::test]
async fn an_observed_panic_is_recorded_and_goes_on() {
    let captured = testing::capture(async {
        let future = observe(entry(), async {
            tokio::task::yield_now().await;
            panic!("as planned");
            #[allow(unreachable_code)]
            Ok::<(), Infallible>(())
        });
        AssertUnwindSafe(future).catch_unwind().await.is_err()
    })
    .await;
    assert!(captured.output);
    let row = captured.assert_one(&entry().outcome(Outcome::Unknown));
    assert_eq!(metadata(row)["ended"], "panicked");
}

#[tokio::test]
async fn a_cancelled_future_is_recorded_with_its_context_and_one_never_polled_is_not() {
    let request = AuditContext::new().request_id("r-1");
    let captured = testing::capture(context::scope(request, async {
        drop(observe(entry(), std::future::pending::<Result<(), Infallible>>()));
        let future = observe(entry(), std::future::pending::<Result<(), Infallible>>());
        assert!(
            tokio::time::timeout(Duration::from_millis(1), future)
                .await
                .is_err()
        );
    }))
    .await;
    let row = captured.assert_one(&entry().outcome(Outcome::Unknown).request_id("r-1"));
    assert_eq!(metadata(row)["ended"], "cancelled");
}

#[tokio::test]
async fn an_operation_records_its_intent_and_then_its_outcome() {
    let captured = testing::capture(async {
        let mut operation = begin(entry().id(uuid::Uuid::from_u128(7)));
        assert!(operation.intent().await.is_durable());
        assert!(operation.intent().await.is_durable());
        operation.entry_mut().resource_id = Some("key-1".into());
        let id = operation.id();
        operation.finish(Outcome::Denied);
        id
    })
    .await;
    let [intent, outcome] = captured.entries() else {
        panic!("{captured:?}")
    };
    assert_eq!(intent.operation_id, Some(captured.output));
    assert_eq!(outcome.operation_id, Some(captured.output));
    assert_eq!((&*intent.outcome, &*outcome.outcome), ("unknown", "denied"));
    assert_eq!(intent.metadata.as_str(), r#"{"scope":"read","phase":"intent"}"#);
    assert_eq!(
        metadata(outcome),
        serde_json::json!({"scope": "read", "phase": "outcome"})
    );
    assert_eq!(
        (intent.resource_id.as_deref(), outcome.resource_id.as_deref()),
        (None, Some("key-1"))
    );
    assert_eq!(intent.id, uuid::Uuid::from_u128(7));
    assert_ne!(outcome.id, intent.id);
    assert!(outcome.created_at >= intent.created_at);
}

#[tokio::test]
async fn an_operation_keeps_the_operation_id_and_the_context_of_its_begin() {
    let own = uuid::Uuid::from_u128(9);
    let captured = testing::capture(async {
        let request = AuditContext::new().actor("carol");
        let operation: Operation =
            context::sync_scope(request, || begin(AuditEntry::new("key.rotate").operation_id(own)));
        operation.fail(&"the store is sealed").await
    })
    .await;
    let rows = captured.matching(&AuditEntry::new("key.rotate").actor("carol").operation_id(own));
    assert_eq!((rows.len(), captured.entries().len()), (2, 2));
    let failed = AuditEntry::new("key.rotate")
        .actor("carol")
        .operation_id(own)
        .outcome(Outcome::Failure);
    assert_eq!(
        metadata(captured.assert_one(&failed))["error"],
        "the store is sealed"
    );
    captured.assert_one(&failed.clone().outcome(Outcome::Unknown).detail("phase", "intent"));
}

#[tokio::test]
async fn an_operation_without_an_outcome_is_recorded_as_unknown() {
    let captured = testing::capture(async { drop(begin(entry())) }).await;
    let unknown = entry().outcome(Outcome::Unknown);
    let row = captured.assert_one(&unknown.detail("phase", "outcome"));
    assert_eq!(metadata(row)["ended"], "cancelled");
}
