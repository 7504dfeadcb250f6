//! A route that forgets its entry fails the coverage.

use audit_http::AuditLayer;
use audit_http::testing::RouteCoverage;
use axum::Router;
use axum::body::Body;
use axum::routing::{delete, get};
use db_services::audit::{AuditEntry, write_audit_log};
use http::Request;

fn router() -> Router {
    let recorded = async || drop(write_audit_log(AuditEntry::new("skill.change")));
    Router::new()
        .route("/skills", get(async || "a list").post(recorded))
        // The call that somebody has deleted.
        .route("/forgotten", delete(async || "done"))
        .layer(AuditLayer::new())
}

async fn checked(mut coverage: RouteCoverage, method: &str, path: &str) -> RouteCoverage {
    let request = Request::builder().method(method).uri(path);
    let captured = coverage
        .check(router(), request.body(Body::empty()).unwrap())
        .await;
    assert!(captured.output.status().is_success());
    coverage
}

#[tokio::test]
async fn routes_that_leave_an_entry_or_change_nothing_are_covered() {
    let coverage = checked(RouteCoverage::new(), "POST", "/skills?x=1").await;
    checked(coverage, "GET", "/skills").await.assert_complete();
}

#[tokio::test]
#[should_panic(expected = "DELETE /forgotten leaves no entry")]
async fn a_route_that_forgets_its_entry_fails() {
    checked(RouteCoverage::new(), "DELETE", "/forgotten")
        .await
        .assert_complete();
}

#[tokio::test]
async fn a_known_gap_is_accepted() {
    let coverage = RouteCoverage::new().known_gap("DELETE /forgotten", "no page yet");
    checked(coverage, "DELETE", "/forgotten").await.assert_complete();
}

#[tokio::test]
#[should_panic(expected = "POST /skills is a known gap (no page yet), and leaves an entry")]
async fn a_known_gap_that_was_closed_fails() {
    let coverage = RouteCoverage::new().known_gap("POST /skills", "no page yet");
    checked(coverage, "POST", "/skills").await.assert_complete();
}

#[tokio::test]
#[should_panic(expected = "POST /nowhere is no route")]
async fn a_request_that_no_route_answers_fails() {
    let request = Request::post("/nowhere").body(Body::empty()).unwrap();
    RouteCoverage::new().check(router(), request).await;
}
