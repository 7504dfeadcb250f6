//! An example application that leaves nothing unrecorded: users of several tenants keep their skills in it.
//!
//! Start reading at [`router`], then `skills.rs`. The rules that make the trail complete:
//!
//! - Each handler that changes something begins with its entry. It is written as denied if the visitor may not do
//!   it (`Visitor::may`), as a failure if it fails (`error::record`), and as a success otherwise.
//! - A client that goes away does not stop its handler between the change and the entry (`in_own_task`).
//! - Where the entry must not be missing even if the process is killed, it is part of the transaction
//!   (`Store::merge_skills`).
//! - Tests drive every route, and fail when one of them forgets its entry (`tests/routes`).

pub mod actions;
mod api_keys;
mod error;
mod form;
mod pages;
mod secrets;
mod settings;
mod sign_in;
mod skills;
mod store;
mod trail;
mod visitor;

use audit_http::AuditLayer;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use db_services::audit::context;
use tokio_util::task::TaskTracker;

pub use error::AppError;
pub use store::{DEMO_USERS, MAX_FAILURES, Store};

/// The routes and their layers. The handlers run as tasks of the tracker: wait for it before the writer is shut down.
pub fn router(store: Store, tasks: TaskTracker) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to("/skills")))
        .route("/style.css", get(pages::style))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/skills", get(skills::list).post(skills::create))
        .route("/skills.json", get(skills::export))
        .route("/skills/merge", post(skills::merge))
        .route("/skills/{id}", get(skills::page).post(skills::update))
        .route("/skills/{id}/delete", post(skills::delete))
        .route("/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/api-keys/{id}/revoke", post(api_keys::revoke))
        .route("/settings", get(settings::page).post(settings::update))
        .route("/trail", get(trail::page))
        .fallback(async || AppError::NotFound)
        .with_state(store.clone())
        // A layer that is added later is outside of the earlier ones. From the outside in: audit, task,
        // authentication, the check of the site, handler.
        .layer(from_fn(visitor::refuse_other_sites))
        .layer(from_fn_with_state(store, visitor::authenticate))
        .layer(from_fn_with_state(tasks, in_own_task))
        // Behind a proxy: `.trust(TrustedProxies::x_forwarded_for(["10.0.0.0/8"])?)`.
        .layer(AuditLayer::new())
        .layer(map_response(no_foreign_content))
}

/// Runs the rest of the request in a task of its own. Otherwise the server drops the handler when the client goes
/// away, which may be after the change and before its entry.
async fn in_own_task(State(tasks): State<TaskTracker>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = tasks.spawn(context::carry(next.run(request))).await;
    answer.unwrap_or_else(|panicked| visitor::reject(&path, panicked.into()))
}

async fn no_foreign_content(answer: Response) -> Response {
    let headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, answer).into_response()
}
