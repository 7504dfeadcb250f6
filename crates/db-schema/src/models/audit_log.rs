//! The rows of `audit_logs`: as they are read, and as they are inserted.

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use diesel::backend::Backend;
use diesel::deserialize::{self, Queryable};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::JsonText;
use super::stored::{StoredIp, StoredText, StoredTime, StoredUuid, network_text};

/// A row of `audit_logs`, from either database.
///
/// Loads from `schema::audit_logs` and from `sqlite::schema::audit_logs`, all columns in their order.
/// Times that chrono cannot hold come as its first or last moment, bytes that are no UTF-8 as U+FFFD.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AuditLog {
    /// Identifies the entry, together with `created_at`.
    pub id: Uuid,
    /// When it happened, by the caller's clock, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// When the database took the row, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// The customer or account the event belongs to.
    pub tenant_id: Option<String>,
    /// Who did it.
    pub actor_id: Option<String>,
    /// What kind of actor; usually user, service, api_key, system or anonymous.
    pub actor_type: Option<String>,
    /// Whom the actor acted for.
    pub on_behalf_of: Option<String>,
    /// What was done.
    pub action: String,
    /// How it ended; usually success, failure, denied or unknown.
    pub outcome: String,
    /// What kind of thing it was done to.
    pub resource_type: Option<String>,
    /// Which thing it was done to.
    pub resource_id: Option<String>,
    /// The network address it came from. In SQLite a text that is no address is read as none.
    #[serde(serialize_with = "address")]
    pub ip_address: Option<IpNet>,
    /// The client software, as it named itself.
    pub user_agent: Option<String>,
    /// The request it was part of.
    pub request_id: Option<String>,
    /// The distributed trace it was part of.
    pub trace_id: Option<String>,
    /// Joins the row of an intent with the row of its outcome.
    pub operation_id: Option<Uuid>,
    /// Further details of the event; none only after a redaction.
    pub metadata: Option<JsonText>,
    /// The audit writer that sent the row.
    pub writer_id: Option<Uuid>,
    /// The entry's number in its writer.
    pub writer_seq: Option<i64>,
    /// The database transaction that inserted the row; 0 in SQLite.
    pub tx_id: i64,
}

/// One host without its prefix, as PostgreSQL prints it.
fn address<S: Serializer>(net: &Option<IpNet>, serializer: S) -> Result<S::Ok, S::Error> {
    net.map(network_text).serialize(serializer)
}

/// A row as diesel reads it; `From` turns it into an [`AuditLog`].
#[derive(Queryable)]
pub struct StoredRow {
    id: StoredUuid,
    created_at: StoredTime,
    recorded_at: StoredTime,
    tenant_id: Option<StoredText>,
    actor_id: Option<StoredText>,
    actor_type: Option<StoredText>,
    on_behalf_of: Option<StoredText>,
    action: StoredText,
    outcome: StoredText,
    resource_type: Option<StoredText>,
    resource_id: Option<StoredText>,
    ip_address: Option<StoredIp>,
    user_agent: Option<StoredText>,
    request_id: Option<StoredText>,
    trace_id: Option<StoredText>,
    operation_id: Option<StoredUuid>,
    metadata: Option<JsonText>,
    writer_id: Option<StoredUuid>,
    writer_seq: Option<i64>,
    tx_id: i64,
}

impl From<StoredRow> for AuditLog {
    fn from(row: StoredRow) -> Self {
        let text = |stored: Option<StoredText>| stored.map(|text| text.0);
        Self {
            id: row.id.0,
            created_at: row.created_at.0,
            recorded_at: row.recorded_at.0,
            tenant_id: text(row.tenant_id),
            actor_id: text(row.actor_id),
            actor_type: text(row.actor_type),
            on_behalf_of: text(row.on_behalf_of),
            action: row.action.0,
            outcome: row.outcome.0,
            resource_type: text(row.resource_type),
            resource_id: text(row.resource_id),
            ip_address: row.ip_address.and_then(|ip| ip.0),
            user_agent: text(row.user_agent),
            request_id: text(row.request_id),
            trace_id: text(row.trace_id),
            operation_id: row.operation_id.map(|id| id.0),
            metadata: row.metadata,
            writer_id: row.writer_id.map(|id| id.0),
            writer_seq: row.writer_seq,
            tx_id: row.tx_id,
        }
    }
}

// Written out rather than derived: the derive's `deserialize_as` cannot reach into an `Option`.
impl<ST, DB: Backend> Queryable<ST, DB> for AuditLog
where
    StoredRow: Queryable<ST, DB>,
{
    type Row = <StoredRow as Queryable<ST, DB>>::Row;

    fn build(row: Self::Row) -> deserialize::Result<Self> {
        StoredRow::build(row).map(Self::from)
    }
}

/// A row to insert: every column that a client may set.
///
/// The database sets `recorded_at` and `tx_id`. Absent values are sent as NULL, not left out, so
/// that the statement's text stays the same and its prepared form can be reused. For SQLite, insert
/// `sqlite::NewAuditLog::from(&row)`.
///
/// Serialized, it is an object with the columns that are not null, as spool files hold it: times are
/// microseconds since 1970-01-01 UTC, `metadata` is a string with the exact JSON text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "postgres",
    derive(diesel::Insertable),
    diesel(table_name = crate::schema::audit_logs, check_for_backend(diesel::pg::Pg), treat_none_as_default_value = false)
)]
pub struct NewAuditLog {
    /// Identifies the entry, together with `created_at`.
    pub id: Uuid,
    /// When it happened. Finer than a microsecond is cut by the database.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub created_at: DateTime<Utc>,
    /// The customer or account the event belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<CompactString>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<CompactString>,
    /// What kind of actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_type: Option<CompactString>,
    /// Whom the actor acted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<CompactString>,
    /// What was done.
    pub action: CompactString,
    /// How it ended.
    pub outcome: CompactString,
    /// What kind of thing it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<CompactString>,
    /// Which thing it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<CompactString>,
    /// The network address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpNet>,
    /// The client software, as it named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<CompactString>,
    /// The request it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<CompactString>,
    /// The distributed trace it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<CompactString>,
    /// Joins the row of an intent with the row of its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<Uuid>,
    /// Further details of the event, a JSON object.
    #[serde(with = "super::json_text::as_string")]
    pub metadata: JsonText,
    /// The audit writer that sends the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_id: Option<Uuid>,
    /// The entry's number in its writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_seq: Option<i64>,
}

impl NewAuditLog {
    /// A row of this action that succeeded; every other column is null, the metadata an empty object.
    pub fn new(id: Uuid, created_at: DateTime<Utc>, action: impl Into<CompactString>) -> Self {
        Self {
            id,
            created_at,
            tenant_id: None,
            actor_id: None,
            actor_type: None,
            on_behalf_of: None,
            action: action.into(),
            outcome: CompactString::const_new("success"),
            resource_type: None,
            resource_id: None,
            ip_address: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            operation_id: None,
            metadata: JsonText::from_text("{}"),
            writer_id: None,
            writer_seq: None,
        }
    }
}
