//! The tower layer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use db_services::audit::context::{self, AuditContext};
use http::header::HeaderName;
use http::{Extensions, HeaderMap, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::TrustedProxies;
use crate::request::{request_id, trace_id, user_agent};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The address of the connection's other end: an extension of a request, set by the server's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

type PeerOf = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;

/// Runs each request in an [`AuditContext`] of its own. See the [crate](crate).
#[derive(Clone)]
pub struct AuditLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct Settings {
    proxies: Option<TrustedProxies>,
    request_id: HeaderName,
    peer: PeerOf,
}

impl AuditLayer {
    /// Creates a layer that trusts no proxy and reads the request id from `x-request-id`.
    pub fn new() -> Self {
        Self {
            settings: Arc::new(Settings {
                proxies: None,
                request_id: X_REQUEST_ID,
                peer: Arc::new(default_peer),
            }),
        }
    }

    /// Trusts proxies to name the client.
    pub fn trust(self, proxies: TrustedProxies) -> Self {
        self.with(|settings| settings.proxies = Some(proxies))
    }

    /// Reads the request id from another header. It should be the one that tower-http's `SetRequestIdLayer` sets.
    pub fn request_id(self, header: HeaderName) -> Self {
        self.with(|settings| settings.request_id = header)
    }

    /// Gets the peer's address from what the server has put into the extensions of a request.
    pub fn peer(self, peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.peer = Arc::new(peer))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Returns the context of a request, for servers without tower. Sets the header of the request id if there is no
    /// usable one.
    pub fn context(&self, request: &mut http::request::Parts) -> AuditContext {
        self.context_of(&mut request.headers, &request.extensions)
    }

    pub(crate) fn context_of(&self, headers: &mut HeaderMap, extensions: &Extensions) -> AuditContext {
        let Settings {
            proxies,
            request_id: header,
            peer,
        } = &*self.settings;
        let mut context = AuditContext::new().request_id(request_id(headers, header));
        if let Some(trace) = trace_id(headers) {
            context = context.trace_id(trace);
        }
        if let Some(agent) = user_agent(headers) {
            context = context.user_agent(agent);
        }
        if let Some(peer) = peer(extensions) {
            let peer = peer.to_canonical();
            let client = proxies.as_ref().map(|proxies| proxies.client(peer, headers));
            context = context.ip(client.unwrap_or(peer));
        }
        context
    }
}

impl Default for AuditLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer")
            .field("proxies", &self.settings.proxies)
            .field("request_id", &self.settings.request_id)
            .finish_non_exhaustive()
    }
}

fn default_peer(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<Peer>().map(|peer| peer.0.ip());
    #[cfg(feature = "axum")]
    let peer = peer.or_else(|| {
        let info = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0.ip())
    });
    peer
}

impl<S> Layer<S> for AuditLayer {
    type Service = AuditService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuditService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`AuditLayer`].
#[derive(Clone, Debug)]
pub struct AuditService<S> {
    inner: S,
    layer: AuditLayer,
}

impl<S, B> Service<Request<B>> for AuditService<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let context = self.layer.context(&mut parts);
        let request = Request::from_parts(parts, body);
        // The call itself may write entries too.
        context::sync_scope(context, || Box::pin(context::carry(self.inner.call(request))))
    }
}
