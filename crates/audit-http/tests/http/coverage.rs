//! A route that forgets its entry fails the coverage.

use audit_http::AuditLayer;
use audit_http::testing::RouteCoverage;
use axum::Router;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use axum::routing::{delete, get};
use db_services::audit::{AuditEntry, Outcome, write_audit_log};
use http::{Request, StatusCode};

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
#[should_panic(expected = "POST /search is a known gap (reads only), and was not checked")]
async fn a_known_gap_that_no_request_checks_fails() {
    let coverage = RouteCoverage::new().known_gap("POST /search", "reads only");
    checked(coverage, "POST", "/skills").await.assert_complete();
}

#[tokio::test]
#[should_panic(expected = "no route that changes something was checked")]
async fn a_coverage_of_nothing_fails() {
    checked(RouteCoverage::new(), "GET", "/skills")
        .await
        .assert_complete();
}

/// A handler that forgets its entry, behind a middleware that records the refusal that it answers with this status.
async fn refused(status: StatusCode) -> RouteCoverage {
    let refuse = move |_: axum::extract::Request, _: Next| async move {
        write_audit_log(AuditEntry::new("request.reject").outcome(Outcome::Denied));
        status
    };
    let router = router().layer(from_fn(refuse));
    let mut coverage = RouteCoverage::new();
    let request = Request::delete("/forgotten").body(Body::empty()).unwrap();
    coverage.check(router, request).await;
    coverage
}

#[tokio::test]
async fn a_request_that_is_answered_with_an_error_is_not_accepted() {
    for status in [401, 403, 404, 405, 422, 500] {
        let refused = tokio::spawn(refused(StatusCode::from_u16(status).unwrap()));
        let panic = refused.await.unwrap_err().into_panic();
        let message = panic.downcast_ref::<String>().unwrap();
        let expected = format!("DELETE /forgotten is answered with {status}");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[tokio::test]
#[should_panic(expected = "DELETE /forgotten leaves no entry of a success")]
async fn the_entry_of_a_refusal_that_redirects_does_not_count() {
    refused(StatusCode::SEE_OTHER).await.assert_complete();
}
