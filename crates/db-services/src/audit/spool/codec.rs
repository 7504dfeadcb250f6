//! Entries as lines of a spool file.
//!
//! A line for each entry: the CRC-32 of the rest in eight hexadecimal digits, a space, the row as JSON (see
//! [`NewAuditLog`]), and a line feed. Each line has its own checksum, so a damaged one does not take its
//! neighbours with it.

use std::io::Write;

use db_schema::NewAuditLog;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::sql_types::Binary;
use diesel::sqlite::{Sqlite, SqliteValue};

use crate::audit::row::LogRow;

/// Writes rows as lines.
pub(super) fn encode<'a>(rows: impl ExactSizeIterator<Item = &'a NewAuditLog>) -> Vec<u8> {
    let mut body = Vec::with_capacity(rows.len() * 512);
    for row in rows {
        let begin = body.len();
        body.extend_from_slice(b"00000000 ");
        // Into memory, of text, numbers and UUIDs: nothing in it can fail.
        if serde_json::to_writer(&mut body, row).is_err() {
            body.truncate(begin);
            continue;
        }
        let sum = crc32fast::hash(&body[begin + 9..]);
        let _ = (&mut body[begin..begin + 8]).write_all(format!("{sum:08x}").as_bytes());
        body.push(b'\n');
    }
    body
}

/// The lines of a body.
#[derive(Debug, Default, PartialEq, FromSqlRow)]
pub(super) struct Decoded {
    pub(super) rows: Vec<LogRow>,
    pub(super) damaged: Vec<Vec<u8>>,
}

/// Decodes a body where SQLite holds it: a copy of a full batch of control characters takes 3 MiB.
impl FromSql<Binary, Sqlite> for Decoded {
    fn from_sql(mut body: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(decode(body.read_blob()))
    }
}

/// Reads lines back.
pub(super) fn decode(body: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match decode_line(line) {
            Some(row) => decoded.rows.push(LogRow(row)),
            None => decoded.damaged.push(line.to_vec()),
        }
    }
    decoded
}

fn decode_line(line: &[u8]) -> Option<NewAuditLog> {
    let (sum, json) = line.split_at_checked(9)?;
    if format!("{:08x} ", crc32fast::hash(json)).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

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
            let decoded = decode(&encode(rows.iter()));
            prop_assert_eq!(decoded, Decoded { rows: rows.into_iter().map(LogRow).collect(), damaged: vec![] });
        }

        /// A flipped bit costs one line, or two where it makes or removes a line feed; never a wrong row.
        #[test]
        fn a_flipped_bit_costs_its_line_alone(at in 0..100_000_usize, bit in 0..8_u32) {
            let rows: Vec<_> = (0..20).map(|n| row(format!("action.{n}"), None, n, n)).collect();
            let mut body = encode(rows.iter());
            let at = at % body.len();
            body[at] ^= 1 << bit;
            let Decoded { rows: read, damaged } = decode(&body);
            prop_assert!(read.len() >= 18 && !damaged.is_empty());
            prop_assert!(read.iter().all(|row| rows.contains(&row.0)));
        }
    }
}
