//! The context of audit entries from HTTP requests.
//!
//! [`AuditLayer`] is a tower layer. It runs each request in an
//! [`AuditContext`](db_services::audit::context::AuditContext) that knows the request's id, its trace, the user agent
//! and the client's address. Entries that a handler writes get them. Nothing is recorded just because a request came:
//! a handler names an action.
//!
//! With axum (feature `axum`), behind a proxy in 10.0.0.0/8:
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # fn router() -> Result<axum::Router, audit_http::NotANetwork> {
//! use audit_http::{AuditLayer, TrustedProxies};
//! use db_services::audit::{AuditEntry, write_audit_log};
//!
//! async fn delete_skill() {
//!     // … delete it …
//!     write_audit_log(AuditEntry::new("skill.delete").resource("skill", "s-1"));
//! }
//!
//! let router = axum::Router::new()
//!     .route("/skills/{id}", axum::routing::delete(delete_skill))
//!     .layer(AuditLayer::new().trust(TrustedProxies::x_forwarded_for(["10.0.0.0/8"])?));
//! // Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: the peer's address comes from there.
//! # Ok(router)
//! # }
//! ```
//!
//! # The order of layers
//!
//! From the outside in: request id, audit, authentication, tenant, handler. The layer reads the id that
//! tower-http's `SetRequestIdLayer` has set, and makes one if there is none. An id that cannot be used (empty, longer
//! than [`MAX_REQUEST_ID_BYTES`], or with other than visible ASCII characters) is replaced in the header, but not in
//! tower-http's extension `RequestId`: where clients may send ids, remove such a header in front of that layer. Authentication knows who acts, and says so
//! with [`context::bind`](db_services::audit::context::bind): the layer has to be outside of it.
//!
//! # The client's address
//!
//! It is the peer's. Nobody is trusted by default, since any client can send `X-Forwarded-For: 127.0.0.1`. Behind
//! proxies, [`AuditLayer::trust`] names their networks, and [`TrustedProxies`] says how their headers are read.
//!
//! The peer's address comes from the extension [`Peer`], which the server's code sets; with the feature `axum` from
//! `ConnectInfo<SocketAddr>` too. Other servers give it through [`AuditLayer::peer`], tonic for example from its
//! extension `TcpConnectInfo`. Without any of them entries have no address.
//!
//! # Spawned tasks
//!
//! A task that a handler spawns takes the context along with
//! [`context::carry`](db_services::audit::context::carry). A closure of `spawn_blocking` does not: pass
//! [`context::current`](db_services::audit::context::current) to
//! [`context::sync_scope`](db_services::audit::context::sync_scope) in it. The same holds for the body of a streamed
//! response, which is sent after the handler has ended.

mod address;
#[cfg(feature = "axum")]
mod extract;
mod forwarded;
mod layer;
mod request;
#[cfg(feature = "testing")]
pub mod testing;

pub use address::{NotANetwork, TrustedProxies};
#[cfg(feature = "axum")]
pub use extract::Context;
pub use layer::{AuditLayer, AuditService, Peer};
pub use request::MAX_REQUEST_ID_BYTES;

#[cfg(all(doctest, feature = "axum", feature = "testing"))]
#[doc = include_str!("../../../docs/in-your-app.md")]
struct InYourApp;
