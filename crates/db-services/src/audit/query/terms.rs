//! The terms of the query language: what each key means.

use db_schema::models::parse_network;

use super::filter::{Column, Condition};
use super::parse_time::{self, Clock};

/// All keys, for messages.
pub(super) const KEYS: &str = "tenant, actor, actor_type, on_behalf_of, action, outcome, resource_type, resource_id, ip, \
     user_agent, request, trace, operation, since, until, meta.NAME, meta";

/// The key of a column.
pub(super) fn key(column: Column) -> &'static str {
    match column {
        Column::Tenant => "tenant",
        Column::Actor => "actor",
        Column::ActorType => "actor_type",
        Column::OnBehalfOf => "on_behalf_of",
        Column::Action => "action",
        Column::Outcome => "outcome",
        Column::ResourceType => "resource_type",
        Column::ResourceId => "resource_id",
        Column::UserAgent => "user_agent",
        Column::Request => "request",
        Column::Trace => "trace",
    }
}

/// The value of a term, without its quotes.
pub(super) struct Given {
    pub(super) text: String,
    /// Whether a `*` follows it.
    pub(super) is_prefix: bool,
}

/// The condition of a key and a value. `Ok(None)` if there is no such key; the error says what the value is not.
pub(super) fn condition(
    key: &str,
    value: Given,
    clock: &Clock<'_>,
) -> Result<Option<Condition>, &'static str> {
    if let Some(column) = Column::ALL.into_iter().find(|column| self::key(*column) == key) {
        return Ok(Some(match value.is_prefix {
            true => Condition::begins_with(column, value.text),
            false => Condition::equals(column, value.text),
        }));
    }
    let read: fn(&str, &Clock<'_>) -> Result<Condition, &'static str> = match key {
        "ip" => |text, _| network(text),
        "operation" => |text, _| Ok(Condition::operation(text.parse().map_err(|_| "is not a UUID")?)),
        "since" => |text, clock| time(text, clock).map(Condition::since),
        "until" => |text, clock| time(text, clock).map(Condition::until),
        _ => return Ok(None),
    };
    match value.is_prefix {
        true => Err(NO_PREFIX),
        false => read(&value.text, clock).map(Some),
    }
}

pub(super) const NO_PREFIX: &str = "cannot end with *: this key needs a whole value";

fn network(text: &str) -> Result<Condition, &'static str> {
    parse_network(text)
        .map(Condition::address)
        .ok_or("is not an address or a network: 10.1.2.3, 10.0.0.0/8, 2001:db8::/32")
}

fn time(text: &str, clock: &Clock<'_>) -> Result<chrono::DateTime<chrono::Utc>, &'static str> {
    parse_time::read(text, clock).ok_or(parse_time::EXPECTED)
}
