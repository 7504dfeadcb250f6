//! The trail of a tenant, for its users. The database itself shows no row of another tenant.

use std::time::Duration;

use axum::extract::State;
use db_services::audit::{self, AuditEntry, AuditLog, JsonText};
use maud::{Markup, html};

use crate::actions::TRAIL_READ;
use crate::error::{AppError, record};
use crate::pages;
use crate::store::Store;
use crate::visitor::Visitor;

/// How long the page waits for entries that were written just before.
const FRESH: Duration = Duration::from_secs(2);

pub(crate) async fn page(State(store): State<Store>, visitor: Visitor) -> Result<Markup, AppError> {
    let entry = AuditEntry::new(TRAIL_READ);
    let user = visitor.may(&entry)?;
    audit::flush(FRESH).await;
    let rows = audit::for_tenant(store.database(), &user.tenant_id, async |conn| {
        audit::latest(conn, 100).await
    })
    .await;
    let rows = record(entry, rows.map_err(AppError::from))?;
    let content = html! {
        table.trail {
            thead {
                tr { th { "Time (UTC)" } th { "Outcome" } th { "Action" } th { "Actor" } th { "Resource" } th { "Address" } th { "Details" } }
            }
            tbody { @for entry in &rows { (row(entry)) } }
        }
        p.hint { "The last 100 entries of " (user.tenant_id) ". This visit is recorded too." }
    };
    Ok(pages::layout(Some(&user), "Audit trail", content))
}

fn row(entry: &AuditLog) -> Markup {
    let actor = entry.actor_id.as_ref().or(entry.actor_type.as_ref());
    let details = entry
        .metadata
        .as_ref()
        .map(JsonText::as_str)
        .filter(|text| *text != "{}");
    html! {
        tr title=[entry.request_id.as_ref()] {
            td { (entry.created_at.format("%F %T").to_string()) }
            td { span class={ "outcome " (entry.outcome) } { (entry.outcome) } }
            td { (entry.action) }
            td { @if let Some(actor) = actor { (actor) } }
            td { @if let (Some(kind), Some(id)) = (&entry.resource_type, &entry.resource_id) { (kind) " " (id) } }
            td { @if let Some(address) = entry.ip_address { (address.addr().to_string()) } }
            td.details { @if let Some(details) = details { (details) } }
        }
    }
}
