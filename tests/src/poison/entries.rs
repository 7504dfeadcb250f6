//! Entries with extreme content, and their expected rows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, AuditLog, AuditWriter, NewAuditLog, Outcome};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::TestDb;

/// JSON of this number of levels, every second one an object.
pub(super) fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |inner, level| match level % 2 {
        0 => Value::Array(vec![inner]),
        _ => Value::Object(Map::from_iter([("d".to_owned(), inner)])),
    })
}

fn nul_everywhere() -> AuditEntry {
    let mut entry = AuditEntry::new("nul\0")
        .outcome(Outcome::Denied)
        .ip_text("\0nowhere\0")
        .resource("\0", "\0i\0");
    for field in [
        &mut entry.tenant_id,
        &mut entry.actor_id,
        &mut entry.actor_type,
        &mut entry.on_behalf_of,
        &mut entry.user_agent,
        &mut entry.request_id,
        &mut entry.trace_id,
    ] {
        *field = Some("\0a\0\0b\0".into());
    }
    let deep = (0..100).fold(
        json!("\0"),
        |inner, n| json!({format!("\0{n}\0"): [inner, "v\0"]}),
    );
    entry.metadata(json!({"\0": deep, "\0\0": "\0", "_audit\0": "\0"}))
}

/// Entries that exceed one limit each: of size, depth or time.
fn poison() -> Vec<AuditEntry> {
    let members: Map<String, Value> = (0..100_000).map(|n| (format!("key\0{n}"), json!(n))).collect();
    let mut all = vec![
        nul_everywhere(),
        AuditEntry::new("big text").metadata(json!({"text": "x".repeat(1 << 20)})),
        AuditEntry::new("big list").metadata(json!({"list": vec!["\0"; 1 << 18]})),
        AuditEntry::new("big key").metadata(json!({"k".repeat(1 << 20): 1})),
        AuditEntry::new("many members").metadata(members),
        AuditEntry::new("first moment").created_at(DateTime::<Utc>::MIN_UTC),
        AuditEntry::new("last moment").created_at(DateTime::<Utc>::MAX_UTC),
        AuditEntry::new("numbers")
            .metadata(json!({"n": [f64::MAX, f64::MIN_POSITIVE, u64::MAX, i64::MIN, f64::NAN]})),
        AuditEntry::new("\u{FEFF}\u{202E}\u{10FFFF}\u{7F}\u{85}'\"\\;--{}%$1"),
        AuditEntry::new("")
            .actor("")
            .resource("", "")
            .metadata(json!({"": {"": [""]}})),
    ];
    for levels in [125, 126, 127, 128, 129, 1_000, 10_000, 100_000] {
        all.push(AuditEntry::new(format!("nested {levels}")).metadata(nested(levels)));
    }
    all
}

/// The columns that are compared. Metadata is parsed, because jsonb changes its spelling.
type Content = (String, [Option<String>; 9], DateTime<Utc>, Value);

/// The content of a row that is inserted or read.
macro_rules! content {
    ($row:expr, $metadata:expr) => {{
        let row = $row;
        let first = [&row.tenant_id, &row.actor_id, &row.actor_type, &row.on_behalf_of];
        let last = [
            &row.resource_type,
            &row.resource_id,
            &row.user_agent,
            &row.request_id,
            &row.trace_id,
        ];
        let texts = std::array::from_fn(|nth| {
            first
                .iter()
                .chain(&last)
                .nth(nth)
                .unwrap()
                .as_deref()
                .map(str::to_owned)
        });
        (
            row.action.to_string(),
            texts,
            row.created_at,
            $metadata.parse().unwrap(),
        )
    }};
}

fn wanted_content(row: &NewAuditLog) -> Content {
    content!(row, row.metadata)
}

fn read_content(row: &AuditLog) -> Content {
    content!(row, row.metadata.as_ref().unwrap())
}

/// Writes these entries with a neighbour before and after each, on a thread with an ordinary stack. Returns
/// the expected rows.
pub(super) fn write_poison(writer: &AuditWriter) -> HashMap<Uuid, NewAuditLog> {
    let writer = writer.clone();
    let on_small_stack = move || {
        let mut wanted = HashMap::new();
        for (nth, entry) in poison().into_iter().enumerate() {
            let entries = [AuditEntry::new("before"), entry, AuditEntry::new("after")];
            let entries = entries.map(|entry| entry.id(Uuid::now_v7()));
            wanted.extend(entries.iter().map(NewAuditLog::from).map(|row| (row.id, row)));
            if nth % 2 == 0 {
                drop(writer.write_all(entries));
            } else {
                for entry in entries {
                    drop(writer.write(entry));
                }
            }
        }
        wanted
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(on_small_stack)
        .unwrap()
        .join()
        .unwrap()
}

pub(super) async fn assert_all_stored(db: &TestDb, wanted: &HashMap<Uuid, NewAuditLog>) {
    let rows = db.rows().await;
    assert_eq!(rows.len(), wanted.len());
    for row in &rows {
        assert_eq!(read_content(row), wanted_content(&wanted[&row.id]));
    }
}

pub(super) fn assert_limited(wanted: &HashMap<Uuid, NewAuditLog>) {
    let of = |action: &str| wanted.values().find(|row| row.action == action).unwrap();
    let marks = |action: &str| of(action).metadata.parse().unwrap()["_audit"].clone();
    assert!(
        wanted
            .values()
            .all(|row| !row.metadata.as_str().contains("\\u0000"))
    );
    assert!(
        wanted
            .values()
            .all(|row| row.metadata.as_str().len() < (64 << 10) + 1_024)
    );
    assert_eq!(
        of("nul\u{FFFD}").trace_id.as_deref(),
        Some("\u{FFFD}a\u{FFFD}\u{FFFD}b\u{FFFD}")
    );
    for big in ["big text", "big list", "big key", "many members"] {
        assert!(
            marks(big)["cut"]["metadata"]["bytes"].as_u64().unwrap() > 1 << 20,
            "{big}"
        );
    }
    for far in ["first moment", "last moment"] {
        assert!(marks(far)["clamped"]["created_at"].is_string(), "{far}");
    }
    // The object itself is a level.
    for (levels, cut) in [
        (125, false),
        (126, false),
        (127, true),
        (128, true),
        (100_000, true),
    ] {
        assert_eq!(
            marks(&format!("nested {levels}"))["cut"]["metadata"]["depth"] == 127,
            cut,
            "{levels}"
        );
    }
}
