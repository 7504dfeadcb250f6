//! The limits of an entry, and how one beyond them is cut.
//!
//! Nothing is refused: an attacker must not be able to suppress a record by making it too large.
//!
//! | part | limit | beyond it |
//! | --- | --- | --- |
//! | `resource_id` | [`RESOURCE_ID_CHARS`] characters | cut, ends with `…` |
//! | `user_agent` | [`USER_AGENT_CHARS`] characters | cut, ends with `…` |
//! | `tenant_id` | [`TEXT_CHARS`] characters | cut, ends with `…` and the SHA-256 of the whole in hexadecimal digits |
//! | other text columns | [`TEXT_CHARS`] characters | cut, ends with `…` |
//! | `metadata` | [`METADATA_BYTES`] bytes of JSON | members that fit stay, long strings among the rest are cut to [`TEXT_CHARS`] characters, other members are left out |
//! | nesting of `metadata` | [`METADATA_DEPTH`] levels, the object itself being the first | deeper values become a text that says so |
//! | `created_at` | years -4712 to 262000 | the nearest of the two |
//! | the character NUL | nowhere | becomes U+FFFD |
//!
//! Two tenants never have the same `tenant_id`, because [`for_tenant`](super::for_tenant) would show the rows of both to
//! each. Therefore a tenant with NUL, or one that itself ends with `…` and 64 hexadecimal digits, also gets the ending of one
//! that was cut.
//!
//! The member `_audit` of the metadata records each cut, even beyond the limit of the metadata: the original
//! size in bytes and the SHA-256 of a text under `cut`, the original time under `clamped`, and the text that
//! [`ip_text`](super::AuditEntry::ip_text) could not read under `ip_text`.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use compact_str::{CompactString, format_compact};
use db_schema::{JsonText, NewAuditLog};
use ipnet::IpNet;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::AuditEntry;
use super::ids::IdGenerator;
use super::json::{REPLACEMENT, each_member, has_nul, write_member};
use super::metadata::{ANNOTATIONS_KEY, Metadata, State};
use super::scrub;

/// The most characters of a text column that has no limit of its own.
pub const TEXT_CHARS: usize = 512;
/// The most characters of `resource_id`, which may be a path or an ARN.
pub const RESOURCE_ID_CHARS: usize = 2_048;
/// The most characters of `user_agent`.
pub const USER_AGENT_CHARS: usize = 256;
/// The most bytes of metadata as compact JSON, without the member `_audit`: 64 KiB.
pub const METADATA_BYTES: usize = 64 * 1024;
/// The most levels of nesting in metadata: what `serde_json` reads back.
pub const METADATA_DEPTH: usize = 127;

/// The digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// The text columns of an entry or a row, each with its limit in characters: the one list of them. `$as` and
/// `$borrow` say whether they are borrowed (`as_ref, &`) or changed (`as_mut, &mut`).
macro_rules! text_columns {
    ($row:expr, $as:ident, $($borrow:tt)+) => {{
        use $crate::audit::limits::{RESOURCE_ID_CHARS, TEXT_CHARS, USER_AGENT_CHARS};
        [
            ("action", Some($($borrow)+ $row.action), TEXT_CHARS),
            ("tenant_id", $row.tenant_id.$as(), TEXT_CHARS),
            ("actor_id", $row.actor_id.$as(), TEXT_CHARS),
            ("actor_type", $row.actor_type.$as(), TEXT_CHARS),
            ("on_behalf_of", $row.on_behalf_of.$as(), TEXT_CHARS),
            ("resource_type", $row.resource_type.$as(), TEXT_CHARS),
            ("resource_id", $row.resource_id.$as(), RESOURCE_ID_CHARS),
            ("user_agent", $row.user_agent.$as(), USER_AGENT_CHARS),
            ("request_id", $row.request_id.$as(), TEXT_CHARS),
            ("trace_id", $row.trace_id.$as(), TEXT_CHARS),
        ]
    }};
}
pub(in crate::audit) use text_columns;

impl From<&AuditEntry> for NewAuditLog {
    /// Returns the row of an entry, within the limits, with a new id unless the entry has one.
    fn from(entry: &AuditEntry) -> Self {
        Self::from(entry.clone())
    }
}

impl From<AuditEntry> for NewAuditLog {
    /// Returns the row of an entry, within the limits, with a new id unless the entry has one.
    fn from(entry: AuditEntry) -> Self {
        row(entry, &mut IdGenerator::default())
    }
}

/// Returns the row of an entry, within the limits. The ids of one generator are in the order of its calls.
pub(super) fn row(mut entry: AuditEntry, ids: &mut IdGenerator) -> NewAuditLog {
    apply(&mut entry);
    NewAuditLog {
        id: entry.id.unwrap_or_else(|| ids.next(entry.created_at)),
        created_at: entry.created_at,
        tenant_id: entry.tenant_id,
        actor_id: entry.actor_id,
        actor_type: entry.actor_type,
        on_behalf_of: entry.on_behalf_of,
        action: entry.action,
        outcome: CompactString::const_new(entry.outcome.as_str()),
        resource_type: entry.resource_type,
        resource_id: entry.resource_id,
        ip_address: entry.ip_address.map(IpNet::from),
        user_agent: entry.user_agent,
        request_id: entry.request_id,
        trace_id: entry.trace_id,
        operation_id: entry.operation_id,
        metadata: JsonText::from_text(entry.metadata.into_text()),
        writer_id: None,
        writer_seq: None,
    }
}

/// Scrubs an entry, cuts it to the limits and annotates the cuts, once.
pub(super) fn apply(entry: &mut AuditEntry) {
    let state = entry.metadata.state();
    if state == State::Limited {
        return;
    }
    // Before anything is cut: what is left of a secret may not look like one.
    scrub::scrub(entry);
    let mut annotations = Annotations::default();
    if entry.action.starts_with("audit.") {
        entry.action = format_compact!("app.{}", entry.action);
    }
    if let Some(tenant) = &mut entry.tenant_id {
        limit_tenant(tenant, &mut annotations);
    }
    let ip_text = ("ip_text", entry.ip_text.as_mut(), TEXT_CHARS);
    for (name, text, limit) in text_columns!(entry, as_mut, &mut).into_iter().chain([ip_text]) {
        if let Some(text) = text {
            truncate(name, text, limit, &mut annotations);
        }
    }
    entry.created_at = clamp_time(entry.created_at, &mut annotations);
    if let Some(text) = entry.ip_text.take() {
        annotations
            .0
            .insert("ip_text".to_owned(), Value::from(text.as_str()));
    }
    if state == State::DepthCut {
        annotations.cut("metadata", json!({"depth": METADATA_DEPTH}));
    }
    let metadata = std::mem::take(&mut entry.metadata);
    entry.metadata = Metadata::limited(metadata_text(metadata.into_text(), annotations));
}

/// The changes to an entry, for the member `_audit`.
#[derive(Default)]
struct Annotations(Map<String, Value>);

impl Annotations {
    /// Notes a cut; notes on the same field add up.
    fn cut(&mut self, field: &str, note: Value) {
        let cuts = self.0.entry("cut").or_insert_with(|| json!({}));
        match (&mut cuts[field], note) {
            (Value::Object(known), Value::Object(note)) => known.extend(note),
            (slot, note) => *slot = note,
        }
    }
}

pub(super) fn size_and_digest(original: &str) -> Value {
    json!({"bytes": original.len(), "sha256": sha256(original)})
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// The hexadecimal digits of bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digits = String::with_capacity(2 * bytes.len());
    bytes.iter().fold(digits, |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Cuts a tenant that is not stored as it is, and notes that.
fn limit_tenant(tenant: &mut CompactString, annotations: &mut Annotations) {
    if is_stored_as_it_is(tenant) {
        return;
    }
    annotations.cut("tenant_id", size_and_digest(tenant));
    let kept = TEXT_CHARS - 1 - SHA256_DIGITS;
    let short: String = tenant.chars().take(kept).collect();
    *tenant = format_compact!("{}…{}", short.replace('\0', REPLACEMENT), sha256(tenant));
}

/// False of a tenant that would be cut, or whose name could be that of one that was cut.
pub(super) fn is_stored_as_it_is(tenant: &str) -> bool {
    // As many bytes as the limit has characters are within it: no need to count.
    let is_long = || tenant.len() > TEXT_CHARS && tenant.chars().nth(TEXT_CHARS).is_some();
    !(is_long() || has_nul(tenant) || has_digest(tenant))
}

fn has_digest(tenant: &str) -> bool {
    let Some((start, digits)) = tenant.as_bytes().split_last_chunk::<SHA256_DIGITS>() else {
        return false;
    };
    start.ends_with("…".as_bytes()) && digits.iter().all(u8::is_ascii_hexdigit)
}

fn truncate(name: &str, value: &mut CompactString, limit: usize, annotations: &mut Annotations) {
    // As many bytes as the limit has characters are within it: no need to count.
    if let Some(short) = (value.len() > limit).then(|| cut(value, limit)).flatten() {
        annotations.cut(name, size_and_digest(value));
        *value = short.into();
    }
    if has_nul(value) {
        *value = value.replace('\0', REPLACEMENT).into();
    }
}

/// The first `limit` characters, the last of them `…`; none if it is no longer than that.
fn cut(value: &str, limit: usize) -> Option<String> {
    value.char_indices().nth(limit)?;
    let end = value.char_indices().nth(limit - 1)?.0;
    Some(format!("{}…", &value[..end]))
}

/// A text within [`TEXT_CHARS`] and without NUL.
pub(super) fn limited(text: &str) -> String {
    let text = cut(text, TEXT_CHARS).unwrap_or_else(|| text.to_owned());
    text.replace('\0', REPLACEMENT)
}

/// The nearest time that both databases and chrono hold, to the microsecond.
fn clamp_time(time: DateTime<Utc>, annotations: &mut Annotations) -> DateTime<Utc> {
    let edge = |year, month, day, clock: NaiveTime| {
        NaiveDate::from_ymd_opt(year, month, day).map(|date| date.and_time(clock).and_utc())
    };
    let last_micro = NaiveTime::from_hms_micro_opt(23, 59, 59, 999_999).unwrap_or(NaiveTime::MIN);
    let first = edge(-4712, 1, 1, NaiveTime::MIN).unwrap_or(DateTime::UNIX_EPOCH);
    let last = edge(262_000, 12, 31, last_micro).unwrap_or(DateTime::UNIX_EPOCH);
    let near = time.clamp(first, last);
    if near != time {
        annotations
            .0
            .insert("clamped".to_owned(), json!({"created_at": time.to_rfc3339()}));
    }
    // Through the number, so that a leap second becomes an ordinary one.
    DateTime::from_timestamp_micros(near.timestamp_micros()).unwrap_or(near)
}

/// Metadata as compact JSON within the limits, the annotations added.
fn metadata_text(whole: String, mut annotations: Annotations) -> String {
    let mut text = whole;
    if text.len() > METADATA_BYTES {
        let (short, left_out) = truncate_object(&text);
        annotations.cut("metadata", size_and_digest(&text));
        annotations.cut("metadata", json!({"members_left_out": left_out}));
        text = short;
    }
    if !annotations.0.is_empty() {
        let annotations = Value::Object(annotations.0).to_string();
        text.pop();
        let comma = if text.len() > 1 { "," } else { "" };
        let member = [comma, "\"", ANNOTATIONS_KEY, "\":", &annotations, "}"];
        // Allocates exactly that: the row may be queued for a long time.
        text.reserve_exact(member.iter().map(|part| part.len()).sum());
        member.iter().for_each(|part| text.push_str(part));
    }
    text
}

/// Keeps the members that fit, in their order; of a string that does not fit, its beginning. Returns the
/// text, and how many members were left out.
fn truncate_object(whole: &str) -> (String, usize) {
    let (mut short, mut left_out) = (Vec::new(), 0);
    each_member(whole, |name, value| {
        let before = short.len();
        let mut fits = |value: &RawValue| {
            write_member(&mut short, &name, value);
            // The closing brace counts.
            let fits = short.len() < METADATA_BYTES;
            if !fits {
                short.truncate(before);
            }
            fits
        };
        if !fits(value) && !truncate_string(value).is_some_and(|short| fits(&short)) {
            left_out += 1;
        }
    });
    short.extend_from_slice(if short.is_empty() { b"{}" } else { b"}" });
    short.shrink_to_fit();
    (
        String::from_utf8(short).unwrap_or_else(|_| "{}".to_owned()),
        left_out,
    )
}

/// The beginning of a long string; none for any other value.
fn truncate_string(value: &RawValue) -> Option<Box<RawValue>> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    to_raw_value(&cut(&text, TEXT_CHARS)?).ok()
}

/// The bytes of memory that an entry holds, estimated from above, after unused capacity was released.
#[inline]
pub(super) fn estimated_size(entry: &mut AuditEntry) -> usize {
    let metadata = entry.metadata.trim();
    let texts = text_columns!(entry, as_ref, &).map(|(_, text, _)| text);
    let texts = texts.into_iter().chain([entry.ip_text.as_ref()]).flatten();
    size_of::<AuditEntry>() + texts.map(heap_bytes).sum::<usize>() + malloc_size(metadata)
}

/// Returns [`estimated_size`]. An entry that would take more than `large` is cut to its limits first.
#[inline]
pub(super) fn estimated_size_within(entry: &mut AuditEntry, large: usize) -> usize {
    let bytes = estimated_size(entry);
    if bytes <= large {
        return bytes;
    }
    apply(entry);
    estimated_size(entry)
}

/// The bytes that a text takes on the heap: none up to 24 bytes of text.
fn heap_bytes(text: &CompactString) -> usize {
    if text.is_heap_allocated() {
        malloc_size(text.capacity())
    } else {
        0
    }
}

/// The size of an allocation in the GNU C library: eight bytes more, in steps of sixteen, at least 32. Without it a full queue of
/// short texts took an eighth more than its bound.
fn malloc_size(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        (bytes + 8).next_multiple_of(16).max(32)
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
