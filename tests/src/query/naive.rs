//! The meaning of each condition, written a second time, on rows in memory.

use chrono::{DateTime, Utc};
use db_services::audit::AuditLog;
use db_services::audit::query::{AuditFilter, Column, Condition};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A condition, as a value that both the library and the scan understand.
#[derive(Clone, Debug)]
pub enum Asked {
    Equals(Column, String),
    BeginsWith(Column, String),
    Within(ipnet::IpNet),
    Operation(Uuid),
    Since(DateTime<Utc>),
    Until(DateTime<Utc>),
    Member(Vec<String>, String),
    Contains(Map<String, Value>),
    Text(String),
    Not(Box<Asked>),
}

pub const COLUMNS: [Column; 11] = [
    Column::Tenant,
    Column::Actor,
    Column::ActorType,
    Column::OnBehalfOf,
    Column::Action,
    Column::Outcome,
    Column::ResourceType,
    Column::ResourceId,
    Column::UserAgent,
    Column::Request,
    Column::Trace,
];

/// A row, its metadata parsed once, and the strings in it without capitals.
pub struct Known {
    pub row: AuditLog,
    pub metadata: Option<Value>,
    strings: Vec<String>,
}

impl From<AuditLog> for Known {
    fn from(row: AuditLog) -> Self {
        let metadata = row.metadata.as_ref().map(|metadata| metadata.parse().unwrap());
        let columns = COLUMNS.iter().filter_map(|column| value(&row, *column).cloned());
        let strings: Vec<_> = columns.chain(metadata.iter().flat_map(strings)).collect();
        Self {
            strings: strings.iter().map(|text| text.to_ascii_lowercase()).collect(),
            row,
            metadata,
        }
    }
}

impl Asked {
    pub fn condition(&self) -> Condition {
        match self.clone() {
            Self::Equals(column, text) => Condition::equals(column, text),
            Self::BeginsWith(column, text) => Condition::begins_with(column, text),
            Self::Within(net) => Condition::address(net),
            Self::Operation(id) => Condition::operation(id),
            Self::Since(time) => Condition::since(time),
            Self::Until(time) => Condition::until(time),
            Self::Member(path, text) => Condition::member(path.iter().map(String::as_str), text),
            Self::Contains(object) => Condition::contains(&object),
            Self::Text(text) => Condition::text(text),
            Self::Not(asked) => !asked.condition(),
        }
    }

    pub fn is_met_by(&self, known: &Known) -> bool {
        let row = &known.row;
        match self {
            Self::Equals(column, text) => value(row, *column) == Some(text),
            Self::BeginsWith(column, text) => {
                value(row, *column).is_some_and(|value| value.starts_with(text))
            }
            Self::Within(net) => row.ip_address.is_some_and(|address| {
                address.prefix_len() >= net.prefix_len() && net.contains(&address.addr())
            }),
            Self::Operation(id) => row.operation_id == Some(*id),
            Self::Since(time) => row.created_at >= *time,
            Self::Until(time) => row.created_at < *time,
            Self::Member(path, text) => member(known, path).is_some_and(|value| reads_as(value, text)),
            Self::Contains(object) => known
                .metadata
                .as_ref()
                .is_some_and(|value| contains(value, &object.clone().into())),
            Self::Text(text) => known
                .strings
                .iter()
                .any(|value| value.contains(&text.to_ascii_lowercase())),
            Self::Not(asked) => !asked.is_met_by(known),
        }
    }
}

pub fn filter(asked: &[Asked]) -> AuditFilter {
    asked.iter().map(Asked::condition).collect()
}

pub fn value(row: &AuditLog, column: Column) -> Option<&String> {
    match column {
        Column::Tenant => row.tenant_id.as_ref(),
        Column::Actor => row.actor_id.as_ref(),
        Column::ActorType => row.actor_type.as_ref(),
        Column::OnBehalfOf => row.on_behalf_of.as_ref(),
        Column::Action => Some(&row.action),
        Column::Outcome => Some(&row.outcome),
        Column::ResourceType => row.resource_type.as_ref(),
        Column::ResourceId => row.resource_id.as_ref(),
        Column::UserAgent => row.user_agent.as_ref(),
        Column::Request => row.request_id.as_ref(),
        Column::Trace => row.trace_id.as_ref(),
        other => panic!("{other:?}"),
    }
}

fn member<'a>(known: &'a Known, path: &[String]) -> Option<&'a Value> {
    let metadata = known.metadata.as_ref()?;
    path.iter()
        .try_fold(metadata, |value, name| value.as_object()?.get(name))
}

fn reads_as(value: &Value, text: &str) -> bool {
    match (value, serde_json::from_str(text)) {
        (Value::String(value), _) => value == text,
        (Value::Number(left), Ok(Value::Number(right))) => left.as_f64() == right.as_f64(),
        (Value::Bool(_) | Value::Null, Ok(meant)) => *value == meant,
        _ => false,
    }
}

fn contains(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => right
            .iter()
            .all(|(name, value)| left.get(name).is_some_and(|other| contains(other, value))),
        (Value::Array(left), Value::Array(right)) => right
            .iter()
            .all(|value| left.iter().any(|other| contains(other, value))),
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

/// All strings and names of members.
pub fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| [vec![name.clone()], strings(value)].concat())
            .collect(),
        _ => Vec::new(),
    }
}
