//! The settings of a tenant, which its administrators change.

use axum::extract::State;
use axum::response::Redirect;
use db_services::audit::actions::SETTINGS_UPDATE;
use db_services::audit::{AuditEntry, Changes};
use maud::{Markup, html};
use serde::Deserialize;

use crate::error::{AppError, record};
use crate::form::{Fields, short_text};
use crate::pages;
use crate::store::{NewSettings, Store};
use crate::visitor::Visitor;

#[derive(Deserialize)]
pub(crate) struct SettingsForm {
    name: String,
    webhook_url: String,
    webhook_secret: String,
}

pub(crate) async fn update(
    State(store): State<Store>,
    visitor: Visitor,
    Fields(form): Fields<SettingsForm>,
) -> Result<Redirect, AppError> {
    let entry = AuditEntry::new(SETTINGS_UPDATE);
    let user = visitor.may_administer(&entry)?;
    let entry = entry.resource("tenant", &*user.tenant_id);
    let updated = async {
        let name = short_text(&form.name)?.to_owned();
        let secret = Some(form.webhook_secret).filter(|secret| !secret.is_empty());
        let new = NewSettings {
            name,
            webhook_url: form.webhook_url,
            webhook_secret: secret,
        };
        store.update_tenant(&user.tenant_id, &new).await
    };
    match updated.await {
        // That the secret has changed is recorded; the secret is not.
        Ok((before, after)) => {
            let changes = Changes::between(&before, &after).masked("webhook_secret");
            entry.changed(changes).write();
        }
        Err(error) => return record(entry, Err(error)),
    }
    Ok(Redirect::to("/settings"))
}

pub(crate) async fn page(State(store): State<Store>, visitor: Visitor) -> Result<Markup, AppError> {
    let user = visitor.signed_in()?;
    let tenant = store.tenant(&user.tenant_id).await?;
    let content = html! {
        @if user.is_admin {
            form.card method="post" action="/settings" {
                label { "Name" input name="name" value=(tenant.name) maxlength="100" required; }
                label { "Webhook" input name="webhook_url" type="url" value=(tenant.webhook_url); }
                label { "New secret of the webhook; empty to keep it" input name="webhook_secret" type="password" autocomplete="off"; }
                button { "Save" }
            }
        } @else {
            p { (tenant.name) ", webhook: " (tenant.webhook_url) }
            p.hint { "Only an administrator may change the settings." }
        }
    };
    Ok(pages::layout(Some(&user), "Settings", content))
}
