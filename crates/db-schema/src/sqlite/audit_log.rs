//! A new row in the types of SQLite, which has no UUID, time or address.

use diesel::Insertable;
use uuid::Uuid;

use super::schema::audit_logs;
use crate::models::stored::network_text;

/// A row to insert into SQLite, borrowed from a [`crate::NewAuditLog`].
#[derive(Debug, Insertable)]
#[diesel(table_name = audit_logs, check_for_backend(diesel::sqlite::Sqlite), treat_none_as_default_value = false)]
pub struct NewAuditLog<'a> {
    id: &'a [u8],
    created_at: i64,
    tenant_id: Option<&'a str>,
    actor_id: Option<&'a str>,
    actor_type: Option<&'a str>,
    on_behalf_of: Option<&'a str>,
    action: &'a str,
    outcome: &'a str,
    resource_type: Option<&'a str>,
    resource_id: Option<&'a str>,
    ip_address: Option<String>,
    user_agent: Option<&'a str>,
    request_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    operation_id: Option<&'a [u8]>,
    metadata: &'a str,
    writer_id: Option<&'a [u8]>,
    writer_seq: Option<i64>,
}

impl<'a> NewAuditLog<'a> {
    /// Returns the primary key: the id's bytes and the time in microseconds.
    pub fn key(&self) -> (&'a [u8], i64) {
        (self.id, self.created_at)
    }
}

impl<'a> From<&'a crate::NewAuditLog> for NewAuditLog<'a> {
    fn from(row: &'a crate::NewAuditLog) -> Self {
        Self {
            id: row.id.as_bytes(),
            created_at: row.created_at.timestamp_micros(),
            tenant_id: row.tenant_id.as_deref(),
            actor_id: row.actor_id.as_deref(),
            actor_type: row.actor_type.as_deref(),
            on_behalf_of: row.on_behalf_of.as_deref(),
            action: &row.action,
            outcome: &row.outcome,
            resource_type: row.resource_type.as_deref(),
            resource_id: row.resource_id.as_deref(),
            ip_address: row.ip_address.map(network_text),
            user_agent: row.user_agent.as_deref(),
            request_id: row.request_id.as_deref(),
            trace_id: row.trace_id.as_deref(),
            operation_id: row.operation_id.as_ref().map(bytes),
            metadata: row.metadata.as_str(),
            writer_id: row.writer_id.as_ref().map(bytes),
            writer_seq: row.writer_seq,
        }
    }
}

fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}
