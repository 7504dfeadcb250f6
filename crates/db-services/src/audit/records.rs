//! The rows of the records that a writer makes about itself: a reserved action, `writer_id`, and no
//! `writer_seq`, so that [`verify_writers`](crate::audit::verify_writers) can tell who lost what.

use audit_core::writer::Record;
use audit_core::{DropReason, Loss, SeqRange};
use chrono::Utc;
use compact_str::format_compact;
use db_schema::{JsonText, NewAuditLog};
use serde_json::{Value, json};
use uuid::Uuid;

use super::limits;
use super::row::LogRow;
use super::verify::action;

/// Creates the rows of one writer's records.
pub(super) struct Records {
    pub(super) writer_id: Uuid,
    service: String,
    /// What the first row holds.
    started: Value,
}

impl Records {
    pub(super) fn new(writer_id: Uuid, service: String, mut started: Value) -> Self {
        let service = limits::limited(&service);
        started["service"] = json!(service);
        started["host"] = json!(gethostname::gethostname().to_string_lossy());
        started["version"] = json!(env!("CARGO_PKG_VERSION"));
        started["process"] = json!(std::process::id());
        Self {
            writer_id,
            service,
            started,
        }
    }

    /// For the records that a command makes about the writers whose spool it replays.
    pub(super) fn operator() -> Self {
        Self {
            writer_id: Uuid::nil(),
            service: "auditlog".to_owned(),
            started: Value::Null,
        }
    }

    /// The row of a record.
    pub(super) fn row(&self, record: Record<LogRow>) -> LogRow {
        let (writer, action, metadata) = match record {
            Record::Started => (self.writer_id, action::STARTED, self.started.clone()),
            Record::Alive { resolved_through } => (
                self.writer_id,
                action::ALIVE,
                json!({"resolved_through": resolved_through}),
            ),
            Record::Lost { losses, reason } => (self.writer_id, action::LOST, lost(&losses, &reason)),
            Record::Duplicate { writer, ranges } => (writer, action::DUPLICATE, duplicate(&ranges)),
            Record::Quarantined { row, sqlstate } => (
                row.writer_id.unwrap_or(self.writer_id),
                action::QUARANTINED,
                quarantined(&row, sqlstate),
            ),
            Record::Stopped { last_seq } => (self.writer_id, action::STOPPED, json!({"last_seq": last_seq})),
        };
        record_row(writer, &self.service, action, &metadata)
    }
}

/// A row that records something about a writer, made now.
fn record_row(writer: Uuid, service: &str, action: &str, metadata: &Value) -> LogRow {
    let micros = Utc::now().timestamp_micros();
    let created_at = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    LogRow::from(NewAuditLog {
        actor_id: Some(service.into()),
        actor_type: Some("system".into()),
        resource_type: Some("audit_writer".into()),
        resource_id: Some(format_compact!("{writer}")),
        metadata: JsonText::from_text(metadata.to_string()),
        writer_id: Some(writer),
        ..NewAuditLog::new(Uuid::now_v7(), created_at, action)
    })
}

/// The metadata of `audit.entry_quarantined`.
fn quarantined(row: &NewAuditLog, sqlstate: Option<String>) -> Value {
    json!({
        "seq": row.writer_seq,
        "sqlstate": sqlstate,
        "id": row.id,
        "created_at": row.created_at.to_rfc3339(),
    })
}

fn duplicate(ranges: &[SeqRange]) -> Value {
    let count: u64 = ranges.iter().map(|range| range.len()).sum();
    let ranges: Vec<Value> = ranges
        .iter()
        .map(|range| json!([range.first, range.last]))
        .collect();
    json!({"ranges": ranges, "count": count})
}

fn lost(losses: &[Loss], reason: &DropReason) -> Value {
    let range = |loss: &Loss| {
        if loss.is_whole() {
            json!([loss.first, loss.last])
        } else {
            json!([loss.first, loss.last, loss.count])
        }
    };
    let count: u64 = losses.iter().map(|loss| loss.count).sum();
    json!({"ranges": losses.iter().map(range).collect::<Vec<_>>(), "count": count, "reason": reason.label()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_service_is_within_the_limits_of_a_text() {
        let name = format!("a\0b{}", "x".repeat(10_000));
        let records = Records::new(Uuid::nil(), name, json!({}));
        let row = records.row(Record::Started);
        let actor = row.actor_id.as_deref().unwrap();
        assert!(
            actor.starts_with("a\u{FFFD}b") && actor.chars().count() == limits::TEXT_CHARS,
            "{actor}"
        );
        assert_eq!(row.metadata.parse().unwrap()["service"], json!(actor));
    }

    #[test]
    fn a_declaration_of_the_most_ranges_is_within_the_limit_of_metadata() {
        let losses: Vec<Loss> = (0..1_000)
            .map(|n| {
                Loss::of(
                    SeqRange {
                        first: u64::MAX / 2 + 3 * n,
                        last: u64::MAX / 2 + 3 * n + 1,
                    },
                    &DropReason::QueueFull,
                )
            })
            .collect();
        let metadata = lost(&losses, &DropReason::QueueFull);
        assert!(metadata.to_string().len() < crate::audit::limits::METADATA_BYTES);
        assert_eq!(metadata["count"], 2_000);
        assert_eq!(metadata["ranges"][1], json!([u64::MAX / 2 + 3, u64::MAX / 2 + 4]));
    }
}
