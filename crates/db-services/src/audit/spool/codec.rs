//! Entries as lines of a spool file.
//!
//! A line for each entry: the CRC-32 of the rest in eight hexadecimal digits, a space, a JSON object with the
//! names of the columns, and a line feed. Absent columns are left out. Times are microseconds since
//! 1970-01-01 UTC. `metadata` is a string that holds the JSON text exactly. Each line carries its own
//! sum so that a damaged one does not take its neighbours with it.

use std::borrow::Cow;
use std::io::Write;

use chrono::DateTime;
use compact_str::CompactString;
use db_schema::{JsonText, NewAuditLog};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::row::LogRow;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    id: Uuid,
    created_at: i64,
    #[serde(borrow)]
    action: Cow<'a, str>,
    outcome: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_address: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation_id: Option<Uuid>,
    metadata: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer_seq: Option<i64>,
}

/// Writes rows as lines.
pub(super) fn encode<'a>(rows: impl ExactSizeIterator<Item = &'a NewAuditLog>) -> Vec<u8> {
    let mut body = Vec::with_capacity(rows.len() * 512);
    for row in rows {
        let begin = body.len();
        body.extend_from_slice(b"00000000 ");
        // Into memory, of text, numbers and UUIDs: nothing in it can fail.
        if serde_json::to_writer(&mut body, &Line::from(row)).is_err() {
            body.truncate(begin);
            continue;
        }
        let sum = crc32fast::hash(&body[begin + 9..]);
        let _ = (&mut body[begin..begin + 8]).write_all(format!("{sum:08x}").as_bytes());
        body.push(b'\n');
    }
    body
}

/// Reads lines back: the rows, and the lines that are damaged.
pub(super) fn decode(body: &[u8]) -> (Vec<LogRow>, Vec<Vec<u8>>) {
    let (mut rows, mut damaged) = (Vec::new(), Vec::new());
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match decode_line(line) {
            Some(row) => rows.push(LogRow(row)),
            None => damaged.push(line.to_vec()),
        }
    }
    (rows, damaged)
}

fn decode_line(line: &[u8]) -> Option<NewAuditLog> {
    let (sum, json) = line.split_at_checked(9)?;
    if format!("{:08x} ", crc32fast::hash(json)).as_bytes() != sum {
        return None;
    }
    let line: Line<'_> = serde_json::from_slice(json).ok()?;
    line.row()
}

impl<'a> From<&'a NewAuditLog> for Line<'a> {
    fn from(row: &'a NewAuditLog) -> Self {
        let text = |text: &'a Option<CompactString>| text.as_deref().map(Cow::Borrowed);
        Self {
            id: row.id,
            created_at: row.created_at.timestamp_micros(),
            action: Cow::Borrowed(&row.action),
            outcome: Cow::Borrowed(&row.outcome),
            tenant_id: text(&row.tenant_id),
            actor_id: text(&row.actor_id),
            actor_type: text(&row.actor_type),
            on_behalf_of: text(&row.on_behalf_of),
            resource_type: text(&row.resource_type),
            resource_id: text(&row.resource_id),
            ip_address: row.ip_address,
            user_agent: text(&row.user_agent),
            request_id: text(&row.request_id),
            trace_id: text(&row.trace_id),
            operation_id: row.operation_id,
            metadata: Cow::Borrowed(row.metadata.as_str()),
            writer_id: row.writer_id,
            writer_seq: row.writer_seq,
        }
    }
}

impl Line<'_> {
    fn row(self) -> Option<NewAuditLog> {
        let text = |text: Option<Cow<'_, str>>| text.map(CompactString::from);
        Some(NewAuditLog {
            id: self.id,
            created_at: DateTime::from_timestamp_micros(self.created_at)?,
            tenant_id: text(self.tenant_id),
            actor_id: text(self.actor_id),
            actor_type: text(self.actor_type),
            on_behalf_of: text(self.on_behalf_of),
            action: self.action.into(),
            outcome: self.outcome.into(),
            resource_type: text(self.resource_type),
            resource_id: text(self.resource_id),
            ip_address: self.ip_address,
            user_agent: text(self.user_agent),
            request_id: text(self.request_id),
            trace_id: text(self.trace_id),
            operation_id: self.operation_id,
            metadata: JsonText::from_text(self.metadata),
            writer_id: self.writer_id,
            writer_seq: self.writer_seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::audit::AuditEntry;

    fn row(action: String, actor: Option<String>, seq: i64, micros: i64) -> NewAuditLog {
        let mut entry = AuditEntry::new(action)
            .created_at(DateTime::from_timestamp_micros(micros).unwrap())
            .ip_text("2001:db8::1")
            .metadata(json!({"quote": "\"\n\\", "n": 1.0e-7}));
        entry.actor_id = actor.map(Into::into);
        let mut row = NewAuditLog::from(entry);
        row.writer_id = Some(Uuid::now_v7());
        row.writer_seq = Some(seq);
        row
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(action in any::<String>(), actor in any::<Option<String>>(), seq in any::<i64>(), micros in -210_866_803_200_000_000..8_000_000_000_000_000_000_i64) {
            let rows = vec![row(action, actor, seq, micros), row("x".to_owned(), None, 1, 0)];
            prop_assert_eq!(decode(&encode(rows.iter())), (rows.into_iter().map(LogRow).collect(), vec![]));
        }

        /// A flipped bit costs one line, or two where it makes or removes a line feed; never a wrong row.
        #[test]
        fn a_flipped_bit_costs_its_line_alone(at in 0..100_000_usize, bit in 0..8_u32) {
            let rows: Vec<_> = (0..20).map(|n| row(format!("action.{n}"), None, n, n)).collect();
            let mut body = encode(rows.iter());
            let at = at % body.len();
            body[at] ^= 1 << bit;
            let (read, damaged) = decode(&body);
            prop_assert!(read.len() >= 18 && !damaged.is_empty());
            prop_assert!(read.iter().all(|row| rows.contains(&row.0)));
        }
    }
}
