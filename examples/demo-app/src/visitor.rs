//! Who sends a request: nobody known, a user with a session, or a program with an API key.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use db_services::audit::AuditEntry;
use db_services::audit::context::{self, AuditContext};

use crate::actions::REQUEST_REJECT;
use crate::error::AppError;
use crate::store::{Store, User};

/// The cookie of a session.
///
/// `SameSite=Strict`: browsers do not send it with a request that another site has caused, so no other site can act as
/// the user. An application that is served with TLS adds `Secure` and the prefix `__Host-`.
const COOKIE: &str = "demo_session";

/// Who sends the request.
#[derive(Clone, Debug)]
pub(crate) enum Visitor {
    Anonymous,
    User(User),
    /// A program, with the key of this user. It may only read.
    Program(User),
}

impl Visitor {
    /// The user, for a page that shows something.
    pub(crate) fn signed_in(self) -> Result<User, AppError> {
        match self {
            Self::User(user) => Ok(user),
            Self::Program(_) => Err(AppError::Forbidden("an API key may only export")),
            Self::Anonymous => Err(AppError::SignInFirst),
        }
    }

    /// The user, if there is one to do this. Otherwise the entry is written as denied.
    pub(crate) fn may(self, entry: &AuditEntry) -> Result<User, AppError> {
        self.signed_in().inspect_err(|error| error.record(entry.clone()))
    }

    /// As [`may`](Self::may), for administrators only.
    pub(crate) fn may_administer(self, entry: &AuditEntry) -> Result<User, AppError> {
        let user = self.may(entry)?;
        if user.is_admin {
            return Ok(user);
        }
        let error = AppError::Forbidden("only an administrator may do this");
        error.record(entry.clone());
        Err(error)
    }

    /// As [`may`](Self::may), for programs too.
    pub(crate) fn may_export(self, entry: &AuditEntry) -> Result<User, AppError> {
        match self {
            Self::Program(user) => Ok(user),
            other => other.may(entry),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Anonymous))
    }
}

/// Finds out who sends the request, and binds it to the context: entries get actor and tenant.
pub(crate) async fn authenticate(State(store): State<Store>, mut request: Request, next: Next) -> Response {
    match identify(&store, request.headers()).await {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(error) => reject(request.uri().path(), error),
    }
}

async fn identify(store: &Store, headers: &HeaderMap) -> Result<Visitor, AppError> {
    context::bind(AuditContext::new().actor_type("anonymous"));
    if let Some(key) = bearer(headers) {
        let Some((key, owner)) = store.api_key(key).await? else {
            return Err(AppError::Forbidden("the API key is unknown or was revoked"));
        };
        let program = AuditContext::new()
            .actor(key.id)
            .actor_type("api_key")
            .on_behalf_of(&*owner.name);
        context::bind(program.tenant(&*owner.tenant_id));
        return Ok(Visitor::Program(owner));
    }
    let Some(token) = session_token(headers) else {
        return Ok(Visitor::Anonymous);
    };
    Ok(match store.session(token).await? {
        Some(user) => {
            bind_user(&user);
            Visitor::User(user)
        }
        None => Visitor::Anonymous,
    })
}

/// Says who acts, for all entries that are written from now on in this request.
pub(crate) fn bind_user(user: &User) {
    context::bind(
        AuditContext::new()
            .actor(&*user.name)
            .actor_type("user")
            .tenant(&*user.tenant_id),
    );
}

/// Refuses what another site makes a browser send. The cookie is not sent then, but a sign-in needs none.
pub(crate) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let site = request
        .headers()
        .get("sec-fetch-site")
        .map(|site| site.as_bytes());
    if request.method().is_safe() || matches!(site, None | Some(b"same-origin" | b"none")) {
        return next.run(request).await;
    }
    reject(
        request.uri().path(),
        AppError::Forbidden("another site has caused this request"),
    )
}

/// Records a request that does not get as far as its own action, and answers it.
pub(crate) fn reject(path: &str, error: AppError) -> Response {
    error.record(AuditEntry::new(REQUEST_REJECT).detail("path", path));
    error.into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// The token in the cookie of the session.
pub(crate) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// The header that sets the cookie, or removes it.
pub(crate) fn set_cookie(token: Option<&str>) -> [(header::HeaderName, String); 1] {
    let (token, age) = token.map_or(("", "; Max-Age=0"), |token| (token, ""));
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{age}");
    [(header::SET_COOKIE, cookie)]
}
