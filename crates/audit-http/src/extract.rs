//! The extractor for handlers of axum.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use db_services::audit::context::{self, AuditContext};
use http::request::Parts;

use crate::AuditLayer;

/// The context of the request, for handlers that create entries from it:
///
/// ```
/// use audit_http::Context;
/// use db_services::audit::write_audit_log;
///
/// async fn sign_out(Context(context): Context) {
///     write_audit_log(context.entry("auth.logout"));
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(sign_out));
/// ```
///
/// It is a copy of the current context, as it is when the handler is called. Without an [`AuditLayer`] it is what a
/// layer without settings would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(pub AuditContext);

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let found = || AuditLayer::new().context_of(&mut parts.headers, &parts.extensions);
        Ok(Self(context::current().unwrap_or_else(found)))
    }
}
