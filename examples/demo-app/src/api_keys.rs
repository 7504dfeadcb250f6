//! API keys. A key is shown once, and neither stored nor recorded: the table has its digest, the trail its id.

use axum::extract::{Path, State};
use axum::response::Redirect;
use db_services::audit::AuditEntry;
use db_services::audit::actions::{API_KEY_CREATE, API_KEY_REVOKE};
use maud::{Markup, html};
use serde::Deserialize;

use crate::error::{AppError, record};
use crate::form::{Fields, short_text};
use crate::pages;
use crate::secrets::{new_id, new_token};
use crate::store::{Store, User};
use crate::visitor::Visitor;

#[derive(Deserialize)]
pub(crate) struct KeyForm {
    name: String,
}

pub(crate) async fn create(
    State(store): State<Store>,
    visitor: Visitor,
    Fields(form): Fields<KeyForm>,
) -> Result<Markup, AppError> {
    let (id, key) = (new_id(), new_token());
    let entry = AuditEntry::new(API_KEY_CREATE)
        .resource("api_key", &*id)
        .detail("name", &*form.name);
    let user = visitor.may(&entry)?;
    let created = async {
        store
            .create_api_key(&user, &id, short_text(&form.name)?, &key)
            .await
    };
    record(entry, created.await)?;
    show(&store, &user, Some(&key)).await
}

pub(crate) async fn revoke(
    State(store): State<Store>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Redirect, AppError> {
    let entry = AuditEntry::new(API_KEY_REVOKE).resource("api_key", &*id);
    let user = visitor.may(&entry)?;
    let revoked = async {
        let key = store.find_api_key(&user.tenant_id, &id).await?;
        if !user.is_admin && key.owner != user.name {
            return Err(AppError::Forbidden("the key is another user's"));
        }
        store.revoke_api_key(&user.tenant_id, &id).await
    };
    record(entry, revoked.await)?;
    Ok(Redirect::to("/api-keys"))
}

pub(crate) async fn list(State(store): State<Store>, visitor: Visitor) -> Result<Markup, AppError> {
    show(&store, &visitor.signed_in()?, None).await
}

async fn show(store: &Store, user: &User, new_key: Option<&str>) -> Result<Markup, AppError> {
    let keys = store.api_keys(&user.tenant_id).await?;
    let content = html! {
        @if let Some(key) = new_key {
            p.notice { "The new key, shown only now: " code #key { (key) } }
        }
        table {
            thead { tr { th { "Key" } th { "Owner" } th { } } }
            tbody {
                @for key in &keys {
                    tr {
                        td { (key.name) }
                        td { (key.owner) }
                        td.actions {
                            @if user.is_admin || key.owner == user.name {
                                form method="post" action={ "/api-keys/" (key.id) "/revoke" } { button.danger { "Revoke" } }
                            }
                        }
                    }
                }
            }
        }
        form.card method="post" action="/api-keys" {
            h2 { "New key" }
            label { "Name" input name="name" maxlength="100" required; }
            button { "Create" }
        }
        p.hint { "A key exports the skills: " code { "GET /skills.json" } " with " code { "Authorization: Bearer …" } }
    };
    Ok(pages::layout(Some(user), "API keys", content))
}
