//! A test that fails when a route forgets its entry. (Feature `testing`.)

use std::convert::Infallible;
use std::fmt::Debug;

use db_services::audit::testing::{Captured, capture};
use http::{Method, Request, Response};
use tower_service::Service;

/// Checks that requests to routes that change something leave an entry.
///
/// ```
/// # #[cfg(feature = "axum")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use audit_http::AuditLayer;
/// use audit_http::testing::RouteCoverage;
/// use axum::Router;
/// use axum::body::Body;
/// use axum::extract::Request;
/// use axum::routing::post;
/// use db_services::audit::{AuditEntry, write_audit_log};
///
/// let router = Router::new()
///     .route("/skills", post(async || drop(write_audit_log(AuditEntry::new("skill.create")))))
///     .route("/search", post(async || "nothing changes"))
///     .layer(AuditLayer::new());
///
/// let mut coverage = RouteCoverage::new().known_gap("POST /search", "reads only");
/// for path in ["/skills", "/search"] {
///     coverage.check(router.clone(), Request::post(path).body(Body::empty()).unwrap()).await;
/// }
/// coverage.assert_complete();
/// # });
/// ```
///
/// Every request counts whose method is not GET, HEAD, OPTIONS or TRACE. It has to succeed: the entry of a refusal or
/// a failure says nothing about the one that the change needs. An entry of a middleware counts like one of the handler;
/// where there is such a middleware, assert the action with [`Captured::assert_one`]. A router does not list its
/// routes: the test names them.
///
/// An entry that [`audit::insert`](db_services::audit::insert) writes in a transaction is not seen. Such a route is a
/// known gap, and its test counts the rows of the database.
#[derive(Clone, Debug, Default)]
pub struct RouteCoverage {
    gaps: Vec<(&'static str, &'static str)>,
    checked: Vec<String>,
    faults: Vec<String>,
}

impl RouteCoverage {
    /// Begins without known gaps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts that a route (`POST /search`: the method and the path of the request) leaves no entry, for a reason.
    pub fn known_gap(mut self, route: &'static str, reason: &'static str) -> Self {
        self.gaps.push((route, reason));
        self
    }

    /// Sends a request, and returns the answer with the entries that were written meanwhile.
    ///
    /// # Panics
    /// When the answer is an error (4xx, 5xx).
    #[allow(clippy::panic)] // a test kit: a test ends by panicking
    pub async fn check<S, B, R>(&mut self, mut service: S, request: Request<B>) -> Captured<Response<R>>
    where
        S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
        R: Debug,
    {
        let route = format!("{} {}", request.method(), request.uri().path());
        let changes = !is_safe(request.method());
        let captured = capture(async {
            let answer = match std::future::poll_fn(|task| service.poll_ready(task)).await {
                Ok(()) => service.call(request).await,
                Err(never) => Err(never),
            };
            answer.unwrap_or_else(|never| match never {})
        })
        .await;
        let status = captured.output.status();
        if status.is_client_error() || status.is_server_error() {
            panic!("{route} is answered with {status}: check a request that succeeds");
        }
        if changes {
            let is_recorded = |outcome: &str| !matches!(outcome, "denied" | "failure");
            let has_entry = captured.entries().iter().any(|entry| is_recorded(&entry.outcome));
            self.note(&route, has_entry);
            self.checked.push(route);
        }
        captured
    }

    fn note(&mut self, route: &str, has_entry: bool) {
        let gap = self.gaps.iter().find(|(gap, _)| *gap == route);
        match (gap, has_entry) {
            (None, false) => self
                .faults
                .push(format!("  {route} leaves no entry of a success")),
            (Some((_, reason)), true) => {
                let fault = format!("  {route} is a known gap ({reason}), and leaves an entry");
                self.faults.push(fault);
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Asserts that each route that changes something has left an entry or is a known gap, and that each known gap was
    /// checked and has left none.
    ///
    /// # Panics
    /// Otherwise, or if no route that changes something was checked. The message lists the routes.
    #[track_caller]
    #[allow(clippy::panic)] // a test kit: a test ends by panicking
    pub fn assert_complete(&self) {
        let unchecked = self
            .gaps
            .iter()
            .filter(|(gap, _)| !self.checked.iter().any(|route| route == gap));
        let unchecked =
            unchecked.map(|(gap, reason)| format!("  {gap} is a known gap ({reason}), and was not checked"));
        let faults: Vec<_> = self.faults.iter().cloned().chain(unchecked).collect();
        if !faults.is_empty() {
            panic!("routes are not covered:\n{}", faults.join("\n"));
        }
        if self.checked.is_empty() {
            panic!("no route that changes something was checked");
        }
    }
}

fn is_safe(method: &Method) -> bool {
    // RFC 9110, section 9.2.1.
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}
