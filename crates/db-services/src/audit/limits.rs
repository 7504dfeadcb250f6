//! How large may an entry be, and what becomes of one that is larger?
//!
//! Nothing is refused: an attacker must not be able to suppress a record by making it too large.
//!
//! | what | limit | beyond it |
//! | --- | --- | --- |
//! | `resource_id` | [`RESOURCE_ID_CHARS`] characters | cut, ends with `…` |
//! | `user_agent` | [`USER_AGENT_CHARS`] characters | cut, ends with `…` |
//! | other text fields | [`TEXT_CHARS`] characters | cut, ends with `…` |
//! | `metadata` | [`METADATA_BYTES`] bytes of JSON | members that fit stay, long strings among the rest are cut to [`TEXT_CHARS`] characters, other members are left out |
//! | nesting of `metadata` | [`METADATA_DEPTH`] levels, the object itself being the first | deeper values become a text that says so |
//! | `created_at` | years -4712 to 262000 | the nearest of the two |
//! | the character NUL | nowhere | becomes U+FFFD |
//!
//! What was cut stands in the metadata's member `_audit`, beyond its limit if need be: the original
//! size in bytes and the SHA-256 of a text under `cut`, the original time under `clamped`, and what
//! [`ip_text`](super::AuditEntry::ip_text) could not read under `ip_text`.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use db_schema::{JsonText, NewAuditLog};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::AuditEntry;

/// The most characters of a text field that has no limit of its own.
pub const TEXT_CHARS: usize = 512;
/// The most characters of `resource_id`, which may be a path or an ARN.
pub const RESOURCE_ID_CHARS: usize = 2_048;
/// The most characters of `user_agent`.
pub const USER_AGENT_CHARS: usize = 256;
/// The most bytes of metadata as compact JSON, without the member `_audit`: 64 KiB.
pub const METADATA_BYTES: usize = 64 * 1024;
/// The most levels of nesting in metadata: what `serde_json` reads back.
pub const METADATA_DEPTH: usize = 127;

/// The member of the metadata that only the writer sets.
const MARKS: &str = "_audit";
const TOO_DEEP: &str = "[cut: nested deeper than 127 levels]";
const REPLACEMENT: &str = "\u{FFFD}";

impl From<&AuditEntry> for NewAuditLog {
    /// Makes the row of an entry, within the limits.
    fn from(entry: &AuditEntry) -> Self {
        let texts = AuditEntry {
            tenant_id: entry.tenant_id.clone(),
            actor_id: entry.actor_id.clone(),
            actor_type: entry.actor_type.clone(),
            on_behalf_of: entry.on_behalf_of.clone(),
            action: entry.action.clone(),
            resource_type: entry.resource_type.clone(),
            resource_id: entry.resource_id.clone(),
            user_agent: entry.user_agent.clone(),
            request_id: entry.request_id.clone(),
            trace_id: entry.trace_id.clone(),
            ip_text: entry.ip_text.clone(),
            // Not cloned but read in place: a clone of deep JSON overflows the stack.
            metadata: Map::new(),
            ..*entry
        };
        row(texts, &entry.metadata)
    }
}

impl From<AuditEntry> for NewAuditLog {
    /// Makes the row of an entry, within the limits.
    fn from(mut entry: AuditEntry) -> Self {
        let metadata = std::mem::take(&mut entry.metadata);
        let row = row(entry, &metadata);
        drop_deep(Value::Object(metadata));
        row
    }
}

fn row(entry: AuditEntry, metadata: &Map<String, Value>) -> NewAuditLog {
    let mut marks = Marks::default();
    let reserved = entry.action.starts_with("audit.");
    let action = if reserved { format!("app.{}", entry.action) } else { entry.action };
    let mut text =
        |name, value: Option<String>, limit| value.map(|value| bounded(name, value, limit, &mut marks));
    NewAuditLog {
        id: entry.id,
        tenant_id: text("tenant_id", entry.tenant_id, TEXT_CHARS),
        actor_id: text("actor_id", entry.actor_id, TEXT_CHARS),
        actor_type: text("actor_type", entry.actor_type, TEXT_CHARS),
        on_behalf_of: text("on_behalf_of", entry.on_behalf_of, TEXT_CHARS),
        resource_type: text("resource_type", entry.resource_type, TEXT_CHARS),
        resource_id: text("resource_id", entry.resource_id, RESOURCE_ID_CHARS),
        user_agent: text("user_agent", entry.user_agent, USER_AGENT_CHARS),
        request_id: text("request_id", entry.request_id, TEXT_CHARS),
        trace_id: text("trace_id", entry.trace_id, TEXT_CHARS),
        action: bounded("action", action, TEXT_CHARS, &mut marks),
        outcome: entry.outcome.as_str().to_owned(),
        ip_address: entry.ip_address.map(IpNet::from),
        operation_id: entry.operation_id,
        created_at: storable(entry.created_at, &mut marks),
        metadata: {
            if let Some(text) = entry.ip_text {
                let text = bounded("ip_text", text, TEXT_CHARS, &mut marks);
                marks.0.insert("ip_text".to_owned(), Value::String(text));
            }
            if entry.metadata_was_deep {
                marks.cut("metadata", json!({"depth": METADATA_DEPTH}));
            }
            metadata_text(metadata, marks)
        },
        writer_id: None,
        writer_seq: None,
    }
}

/// What had to be changed, for the member `_audit`.
#[derive(Default)]
struct Marks(Map<String, Value>);

impl Marks {
    /// Notes a cut; notes on the same field add up.
    fn cut(&mut self, field: &str, note: Value) {
        let cuts = self.0.entry("cut").or_insert_with(|| json!({}));
        match (&mut cuts[field], note) {
            (Value::Object(known), Value::Object(note)) => known.extend(note),
            (slot, note) => *slot = note,
        }
    }
}

fn size_and_digest(original: &str) -> Value {
    use std::fmt::Write;
    let digest = Sha256::digest(original);
    let hex = digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    json!({"bytes": original.len(), "sha256": hex})
}

fn bounded(name: &str, value: String, limit: usize, marks: &mut Marks) -> String {
    // As many bytes as the limit has characters are within it: no need to count.
    let value = match (value.len() > limit).then(|| cut(&value, limit)).flatten() {
        Some(short) => {
            marks.cut(name, size_and_digest(&value));
            short
        }
        None => value,
    };
    if value.contains('\0') { value.replace('\0', REPLACEMENT) } else { value }
}

/// The first `limit` characters, the last of them `…`; none if it is no longer than that.
fn cut(value: &str, limit: usize) -> Option<String> {
    value.char_indices().nth(limit)?;
    let end = value.char_indices().nth(limit - 1)?.0;
    Some(format!("{}…", &value[..end]))
}

/// The nearest time that both databases and chrono hold, to the microsecond.
fn storable(time: DateTime<Utc>, marks: &mut Marks) -> DateTime<Utc> {
    let edge = |year, month, day, clock: NaiveTime| {
        NaiveDate::from_ymd_opt(year, month, day).map(|date| date.and_time(clock).and_utc())
    };
    let last_micro = NaiveTime::from_hms_micro_opt(23, 59, 59, 999_999).unwrap_or(NaiveTime::MIN);
    let first = edge(-4712, 1, 1, NaiveTime::MIN).unwrap_or(DateTime::UNIX_EPOCH);
    let last = edge(262_000, 12, 31, last_micro).unwrap_or(DateTime::UNIX_EPOCH);
    let near = time.clamp(first, last);
    if near != time {
        marks.0.insert("clamped".to_owned(), json!({"created_at": time.to_rfc3339()}));
    }
    // Through the number, so that a leap second becomes an ordinary one.
    DateTime::from_timestamp_micros(near.timestamp_micros()).unwrap_or(near)
}

/// Metadata as compact JSON within the limits, the marks added.
fn metadata_text(metadata: &Map<String, Value>, mut marks: Marks) -> JsonText {
    let mut deep = false;
    let mut members: Vec<(String, String)> = Vec::with_capacity(metadata.len());
    for (key, value) in metadata {
        let mut text = String::new();
        write_json(&mut text, value, 2, &mut deep);
        members.push((member_key(key, metadata), text));
    }
    if deep {
        marks.cut("metadata", json!({"depth": METADATA_DEPTH}));
    }
    let whole = object_text(&members);
    if whole.len() > METADATA_BYTES {
        let left_out = shorten(&mut members, metadata);
        marks.cut("metadata", size_and_digest(&whole));
        marks.cut("metadata", json!({"members_left_out": left_out}));
    } else if marks.0.is_empty() {
        return JsonText::from_text(whole);
    }
    if !marks.0.is_empty() {
        members.push((quoted(MARKS), Value::Object(marks.0).to_string()));
    }
    JsonText::from_text(object_text(&members))
}

/// Keeps the members that fit, in their order; of a string that does not, its beginning. Gives back
/// how many were left out.
fn shorten(members: &mut Vec<(String, String)>, metadata: &Map<String, Value>) -> usize {
    let mut room = METADATA_BYTES - 2;
    let before = members.len();
    let originals = metadata.values();
    let kept = std::mem::take(members).into_iter().zip(originals).filter_map(|((key, text), original)| {
        let size = |text: &str| key.len() + text.len() + 2;
        let text = if size(&text) <= room {
            text
        } else {
            let beginning = cut(original.as_str()?, TEXT_CHARS)?;
            let mut text = String::new();
            write_json(&mut text, &Value::String(beginning), 2, &mut false);
            text
        };
        room = room.checked_sub(size(&text))?;
        Some((key, text))
    });
    *members = kept.collect();
    before - members.len()
}

fn object_text(members: &[(String, String)]) -> String {
    let body: Vec<String> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", body.join(","))
}

/// The key of a top-level member as JSON: without NUL, and not the writer's own.
fn member_key(key: &str, members: &Map<String, Value>) -> String {
    if key == MARKS {
        let mut free = format!("app.{MARKS}");
        while members.contains_key(&free) {
            free.insert_str(0, "app.");
        }
        return quoted(&free);
    }
    quoted(&without_nul_key(key, members))
}

/// A key without NUL that no other member has.
fn without_nul_key(key: &str, members: &Map<String, Value>) -> String {
    let mut clean = key.replace('\0', REPLACEMENT);
    while clean != key && members.contains_key(&clean) {
        clean.push_str(REPLACEMENT);
    }
    clean
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Writes compact JSON without NUL and without anything below level 127.
fn write_json(out: &mut String, value: &Value, level: usize, deep: &mut bool) {
    match value {
        Value::Array(_) | Value::Object(_) if level > METADATA_DEPTH => {
            *deep = true;
            out.push_str(&quoted(TOO_DEEP));
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json(out, item, level + 1, deep);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (key, item)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(&without_nul_key(key, members)));
                out.push(':');
                write_json(out, item, level + 1, deep);
            }
            out.push('}');
        }
        Value::String(text) if text.contains('\0') => out.push_str(&quoted(&text.replace('\0', REPLACEMENT))),
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// How many bytes of memory an entry holds, estimated from above, and whether its metadata is
/// nested too deep to be queued as it is.
pub(super) fn weigh(entry: &AuditEntry) -> (usize, bool) {
    let texts = [
        &entry.tenant_id,
        &entry.actor_id,
        &entry.actor_type,
        &entry.on_behalf_of,
        &entry.resource_type,
        &entry.resource_id,
        &entry.user_agent,
        &entry.request_id,
        &entry.trace_id,
        &entry.ip_text,
    ];
    let held: usize = texts.into_iter().flatten().map(|text| allocated(text.capacity())).sum();
    let mut deep = false;
    let metadata = weigh_members(&entry.metadata, 1, &mut deep);
    (size_of::<AuditEntry>() + allocated(entry.action.capacity()) + held + metadata, deep)
}

/// What an allocation takes: eight bytes more, in steps of sixteen, at least 32, as the GNU C library
/// has it. Short texts are mostly that: counted without it, a full queue took an eighth more than its
/// bound.
fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

fn weigh_members(members: &Map<String, Value>, level: usize, deep: &mut bool) -> usize {
    /// A node of the map, room for eleven members, of which at least five are in use.
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 32;
    let inside: usize = members
        .iter()
        .map(|(key, value)| allocated(key.capacity()) + weigh_value(value, level + 1, deep))
        .sum();
    members.len().div_ceil(5) * NODE + inside
}

/// What a value holds outside of itself.
fn weigh_value(value: &Value, level: usize, deep: &mut bool) -> usize {
    match value {
        Value::Array(_) | Value::Object(_) if level > METADATA_DEPTH => {
            *deep = true;
            0
        }
        Value::String(text) => allocated(text.capacity()),
        Value::Array(items) => {
            let inside: usize = items.iter().map(|item| weigh_value(item, level + 1, deep)).sum();
            allocated(items.capacity() * size_of::<Value>()) + inside
        }
        Value::Object(members) => weigh_members(members, level, deep),
        _ => 0,
    }
}

/// Cuts what is nested too deep, so that the entry can be moved, queued and dropped without
/// overflowing any stack.
pub(super) fn flatten(entry: &mut AuditEntry) {
    for value in entry.metadata.values_mut() {
        flatten_value(value, 2);
    }
    entry.metadata_was_deep = true;
}

fn flatten_value(value: &mut Value, level: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if level > METADATA_DEPTH => {
            drop_deep(std::mem::replace(value, Value::from(TOO_DEEP)));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| flatten_value(item, level + 1)),
        Value::Object(members) => members.values_mut().for_each(|item| flatten_value(item, level + 1)),
        _ => {}
    }
}

/// Drops JSON of any depth without recursion.
fn drop_deep(value: Value) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
