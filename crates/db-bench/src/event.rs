//! The events that every contender writes, of about 300 bytes.

use std::net::{IpAddr, Ipv4Addr};

use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, Outcome};
use serde_json::{Map, Value};
use uuid::Uuid;

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";

/// What an application knows about one event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) tenant: String,
    pub(crate) actor: String,
    pub(crate) actor_type: &'static str,
    pub(crate) action: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) resource_type: &'static str,
    pub(crate) resource: String,
    pub(crate) ip: IpAddr,
    pub(crate) user_agent: &'static str,
    pub(crate) request: String,
    pub(crate) metadata: Value,
}

impl Event {
    /// The nth event. Events vary as in production: 200 tenants, 20,000 actors, and a distinct resource
    /// and request for each.
    pub(crate) fn nth(nth: usize) -> Self {
        let [tenant, actor, resource, request] = names(nth);
        Self {
            id: Uuid::now_v7(),
            created_at: Utc::now(),
            tenant,
            actor,
            actor_type: "user",
            action: action(nth),
            outcome: Outcome::Success.as_str(),
            resource_type: "document",
            resource,
            ip: address(nth),
            user_agent: USER_AGENT,
            request,
            metadata: Value::Object(metadata(nth)),
        }
    }

    /// The same event as an audit entry.
    pub(crate) fn entry(nth: usize) -> AuditEntry {
        let [tenant, actor, resource, request] = names(nth);
        AuditEntry::new(action(nth))
            .tenant(tenant)
            .actor(actor)
            .actor_type("user")
            .resource("document", resource)
            .ip(address(nth))
            .user_agent(USER_AGENT)
            .request_id(request)
            .metadata(metadata(nth))
    }
}

/// Tenant, actor, resource, request.
fn names(nth: usize) -> [String; 4] {
    [
        format!("tenant-{:04}", nth % 200),
        format!("user-{:08}", nth * 7_919 % 20_000),
        format!("doc-{:012x}", nth * 2_654_435_761 % (1 << 40)),
        format!("req-{:016x}", nth * 11_400_714_819 % (1 << 60)),
    ]
}

fn action(nth: usize) -> &'static str {
    let actions = [
        "document.read",
        "document.update",
        "member.invite",
        "api_key.create",
        "auth.login",
    ];
    actions[nth % actions.len()]
}

fn address(nth: usize) -> IpAddr {
    let [_, b, c, d] = u32::try_from(nth % (1 << 24)).unwrap_or_default().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, b, c, d))
}

/// Four members, as a request handler would add them.
pub(crate) fn metadata(nth: usize) -> Map<String, Value> {
    Map::from_iter([
        ("field".to_owned(), Value::from("title")),
        ("version".to_owned(), Value::from(nth)),
        ("reason".to_owned(), Value::from("edited in the browser")),
        ("trusted".to_owned(), Value::from(true)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_differ_where_real_ones_do_and_an_entry_is_the_same_event() {
        let (first, second) = (Event::nth(1), Event::nth(2));
        assert!(first.request != second.request && first.resource != second.resource);
        assert_eq!(Event::nth(1).tenant, Event::nth(201).tenant);
        let entry = Event::entry(1);
        assert_eq!(entry.tenant_id.as_deref(), Some(first.tenant.as_str()));
        assert_eq!(entry.actor_id.as_deref(), Some(first.actor.as_str()));
        assert_eq!(Value::Object(entry.metadata.to_map()), first.metadata);
    }
}
