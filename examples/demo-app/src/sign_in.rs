//! Sign-in with lock-out, and sign-out.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use db_services::audit::actions::{AUTH_LOCKED_OUT, AUTH_LOGIN, AUTH_LOGIN_FAILED, AUTH_LOGOUT};
use db_services::audit::{AuditEntry, context};
use maud::{Markup, html};
use serde::Deserialize;

use crate::error::{AppError, record};
use crate::form::Fields;
use crate::pages;
use crate::secrets::{is_password, new_token};
use crate::store::{MAX_FAILURES, SignIn, Store, User};
use crate::visitor::{Visitor, bind_user, session_token, set_cookie};

/// Does not tell whether there is such a user, or whether the account is locked.
const REFUSED: &str = "The name or the password is wrong, or the account is locked for a while.";

#[derive(Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

pub(crate) async fn page() -> Markup {
    form("")
}

fn form(message: &str) -> Markup {
    let content = html! {
        @if !message.is_empty() { p.error { (message) } }
        form.card method="post" action="/sign-in" {
            label { "Name" input name="name" autocomplete="username" required; }
            label { "Password" input name="password" type="password" autocomplete="current-password" required; }
            button { "Sign in" }
        }
        p.hint { (MAX_FAILURES) " failures in a row lock an account for 15 minutes." }
    };
    pages::layout(None, "Sign in", content)
}

pub(crate) async fn sign_in(
    State(store): State<Store>,
    headers: HeaderMap,
    Fields(given): Fields<Credentials>,
) -> Result<Response, AppError> {
    // Nobody has proven to be the user, and a session or an API key of somebody else proves nothing: without the type
    // the entry would get their name, in the trail of the attempted account's tenant.
    let failed = AuditEntry::new(AUTH_LOGIN_FAILED).actor_type("anonymous");
    let user = store
        .user(&given.name)
        .await
        .inspect_err(|error| error.record(failed.clone()))?;
    // The account is what is attempted, and not the actor. A name that is no user's is not recorded, since it may be a
    // password in the wrong field.
    let failed = match &user {
        Some(user) => failed.tenant(&*user.tenant_id).resource("user", &*user.name),
        None => failed,
    };
    let token = new_token();
    let ended = attempt(&store, user.as_ref(), given.password, &token).await;
    match (ended.inspect_err(|error| error.record(failed.clone()))?, user) {
        (SignIn::Began, Some(user)) => {
            end_replaced_session(&store, &headers).await;
            bind_user(&user);
            AuditEntry::new(AUTH_LOGIN).resource("user", user.name).write();
            return Ok((set_cookie(Some(&token)), Redirect::to("/skills")).into_response());
        }
        (SignIn::Locked, _) => AppError::Forbidden("the account is locked").record(failed),
        (SignIn::LockedNow, _) => {
            AppError::Invalid("the password is wrong").record(failed.clone());
            let mut locked = failed.detail("failures", MAX_FAILURES);
            locked.action = AUTH_LOCKED_OUT.into();
            locked.write();
        }
        (_, Some(_)) => AppError::Invalid("the password is wrong").record(failed),
        (_, None) => AppError::Invalid("there is no such user").record(failed),
    }
    Ok((StatusCode::UNAUTHORIZED, form(REFUSED)).into_response())
}

/// Ends the session of the cookie that the new one replaces. Its user is the actor of the context until then.
async fn end_replaced_session(store: &Store, headers: &HeaderMap) {
    let Some(token) = session_token(headers) else {
        return;
    };
    let ended = match store.end_session(token).await {
        // It had ended before.
        Err(AppError::NotFound) => return,
        ended => ended,
    };
    let user = context::current()
        .and_then(|context| context.actor_id)
        .unwrap_or_default();
    let _ = record(
        AuditEntry::new(AUTH_LOGOUT)
            .resource("user", user)
            .detail("replaced", true),
        ended,
    );
}

/// Checks the password and begins a session, or counts the failure.
async fn attempt(
    store: &Store,
    user: Option<&User>,
    password: String,
    token: &str,
) -> Result<SignIn, AppError> {
    let hash = user.map(|user| user.password_hash.clone());
    let is_right = is_password(password, hash).await?;
    match user {
        Some(user) if is_right => store.begin_session(&user.name, token).await,
        Some(user) => store.count_failure(&user.name).await,
        None => Ok(SignIn::Failed),
    }
}

pub(crate) async fn sign_out(
    State(store): State<Store>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let entry = AuditEntry::new(AUTH_LOGOUT);
    let user = visitor.may(&entry)?;
    let token = session_token(&headers).unwrap_or_default();
    record(entry.resource("user", user.name), store.end_session(token).await)?;
    Ok((set_cookie(None), Redirect::to("/sign-in")).into_response())
}
