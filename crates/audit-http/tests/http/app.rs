//! An application that writes an entry for each request.

use std::net::SocketAddr;

use audit_http::{AuditLayer, Context};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::post;
use db_schema::NewAuditLog;
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{AuditEntry, testing, write_audit_log};
use http::Request;
use tower::ServiceExt;

async fn sign_in() {
    write_audit_log(AuditEntry::new("auth.attempt"));
    tokio::task::yield_now().await;
    context::bind(AuditContext::new().actor("alice").actor_type("user"));
    write_audit_log(AuditEntry::new("auth.login"));
}

async fn sign_out(Context(context): Context) {
    write_audit_log(context.entry("auth.logout"));
}

pub(crate) fn router() -> Router {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/health", post(async || "well"))
}

/// A request from a peer.
pub(crate) fn request(path: &str, peer: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = format!("{peer}:4711").parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// The entries that the application writes for a request.
pub(crate) async fn entries(router: Router, request: Request<Body>) -> Vec<NewAuditLog> {
    let captured = testing::capture(router.oneshot(request)).await;
    let entries = captured.entries().to_vec();
    assert!(captured.output.unwrap().status().is_success());
    entries
}

/// The only entry that a sign-out writes.
pub(crate) async fn signed_out(layer: AuditLayer, peer: &str, headers: &[(&str, &str)]) -> NewAuditLog {
    let mut entries = entries(router().layer(layer), request("/sign-out", peer, headers)).await;
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}
