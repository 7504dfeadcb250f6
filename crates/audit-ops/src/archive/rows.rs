//! The rows of an archive: most are one line, some are followed by the pieces of their long values.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::Path;

use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::Deserialize;
use serde::de::Error;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::read::Lines;
use crate::hashing::hex;
use crate::{ArchiveProblem, OpsError};

/// The only member of a piece, which no row has.
const PIECE: &str = "_piece";

/// Whether a line that the database made is a piece: a row begins with its id.
pub(super) fn is_piece(line: &str) -> bool {
    line.starts_with("{\"_piece\":")
}

/// A row whose JSON is nested more deeply is inserted alone: PostgreSQL's parser needs stack for each level, and has
/// most of it left for a parameter.
const MAX_DEPTH: usize = 500;

/// A row of an archive.
pub(super) enum Row {
    /// Its line is the row.
    Plain(String),
    /// It is too long, or nested too deeply, to be inserted with others.
    Single(Box<SingleRow>),
}

/// A row that is inserted alone.
pub(super) struct SingleRow {
    /// How its line begins.
    pub(super) line: String,
    /// The line without the long values, and without the metadata if that is given apart.
    pub(super) members: String,
    /// Deeply nested metadata.
    pub(super) metadata: Option<String>,
    /// The values that follow in pieces, in this order.
    pub(super) long: VecDeque<LongValue>,
    /// The columns whose values could not be turned into text when the archive was written, or may not become a value
    /// again.
    pub(super) unreadable: Vec<String>,
}

/// A value that follows its line in pieces.
pub(super) struct LongValue {
    pub(super) column: String,
    /// The SHA-256 of its text, as the line has it.
    pub(super) sha256: String,
    missing: u64,
    hasher: Sha256,
    /// How the line of its row begins.
    row: String,
}

/// The JSON in place of a long value.
#[derive(Deserialize)]
struct Reference {
    bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    #[serde(rename = "_piece")]
    text: String,
}

impl Row {
    /// The row of a line, and the names of its columns in alphabetical order.
    pub(super) fn of(line: &str) -> Result<(Self, Vec<String>), serde_json::Error> {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(line)?;
        if members.contains_key(PIECE) {
            return Err(Error::custom("it is a piece, and no long value is due"));
        }
        let markers = [LONG, UNREADABLE].map(|marker| members.remove(marker));
        let columns = members.keys().cloned().collect();
        let depth = depth(line);
        if depth <= MAX_DEPTH && markers.iter().all(Option::is_none) {
            return Ok((Self::Plain(line.to_owned()), columns));
        }
        let [names, unreadable] = markers.map(|names| match names {
            Some(names) => serde_json::from_str::<Vec<String>>(names.get()),
            None => Ok(Vec::new()),
        });
        let (names, unreadable) = (names?, unreadable?);
        let mut long = VecDeque::new();
        for column in names {
            let value = members.remove(&column).map_or("", RawValue::get);
            let Reference { bytes, sha256 } = serde_json::from_str(value)?;
            long.push_back(LongValue {
                column,
                sha256,
                missing: bytes,
                hasher: Sha256::new(),
                row: beginning(line),
            });
        }
        let is_deep = depth > MAX_DEPTH && members.contains_key("metadata");
        let metadata = is_deep.then(|| members.remove("metadata")).flatten();
        let row = SingleRow {
            line: beginning(line),
            members: serde_json::to_string(&members)?,
            metadata: metadata.map(|metadata| metadata.get().to_owned()),
            long,
            unreadable,
        };
        Ok((Self::Single(Box::new(row)), columns))
    }
}

/// The part of a line that identifies its row: id and created_at come first.
fn beginning(line: &str) -> String {
    line.chars().take(90).collect()
}

const LONG: &str = "_long";
const UNREADABLE: &str = "_unreadable";

/// How deeply JSON is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_in_string, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// JSON text that PostgreSQL parses as a parameter, however deeply it is nested.
#[derive(Debug)]
pub(super) struct RawJson<'a>(pub(super) &'a str);

impl ToSql<Jsonb, Pg> for RawJson<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // The version of the binary format.
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl LongValue {
    /// The next piece of the value; none after the last.
    ///
    /// # Errors
    /// When the pieces are not those of the value.
    pub(super) fn next_piece(&mut self, lines: &mut Lines) -> Result<Option<String>, OpsError> {
        if self.missing == 0 {
            return match hex(&self.hasher.clone().finalize()) == self.sha256 {
                true => Ok(None),
                false => Err(self.problem(lines.path())),
            };
        }
        let piece = lines.next_piece()?.map(serde_json::from_str::<Piece>);
        let Some(Ok(Piece { text })) = piece else {
            return Err(self.problem(lines.path()));
        };
        self.hasher.update(&text);
        match self.missing.checked_sub(text.len() as u64) {
            Some(missing) if !text.is_empty() => self.missing = missing,
            _ => return Err(self.problem(lines.path())),
        }
        Ok(Some(text))
    }

    /// Reads all pieces, and compares them with what the line says.
    pub(super) fn verify(mut self, lines: &mut Lines) -> Result<(), OpsError> {
        while self.next_piece(lines)?.is_some() {}
        Ok(())
    }

    fn problem(&self, path: &Path) -> OpsError {
        let (column, row) = (self.column.clone(), self.row.clone());
        OpsError::archive(path, ArchiveProblem::Value { column, row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(line: &str) -> SingleRow {
        match Row::of(line).unwrap() {
            (Row::Single(row), _) => *row,
            (Row::Plain(_), _) => panic!("{line}"),
        }
    }

    #[test]
    fn most_lines_are_plain_rows() {
        for line in [
            r#"{"id":"1","metadata":{"a":[1,2,{}]},"tx_id":7}"#,
            r#"{"id":"1","action":",\"_long\":[\"x\"]}","tx_id":7}"#,
            r#"{"id":"1","metadata":{"b":{},"_long":["x"]},"tx_id":7}"#,
        ] {
            assert!(matches!(Row::of(line).unwrap(), (Row::Plain(_), _)), "{line}");
        }
    }

    #[test]
    fn a_piece_is_no_row_and_a_row_is_no_piece() {
        for line in [
            r#"{"_piece":""}"#,
            r#"{"_piece":"x"}"#,
            r#"{"_piece":"","id":"1","action":"forged"}"#,
            r#"{ "_piece":"","id":"1","action":"forged"}"#,
            r#"{"id":"1","action":"forged","_piece":""}"#,
            r#"{"id":"1","action":"forged","\u005fpiece":""}"#,
            "[1]",
            "1",
            "",
        ] {
            assert!(Row::of(line).is_err(), "{line}");
        }
        for line in [
            r#"{"_piece":"x","id":"1"}"#,
            r#"{"_piece":"x","_piece":"y"}"#,
            r#"{"id":"1"}"#,
        ] {
            assert!(serde_json::from_str::<Piece>(line).is_err(), "{line}");
        }
        let (_, columns) = Row::of(r#"{"id":"1","a":null,"_piec":2}"#).unwrap();
        assert_eq!(columns, ["_piec", "a", "id"]);
    }

    #[test]
    fn a_row_with_long_and_unreadable_values_is_taken_apart() {
        let row = single(
            r#"{"id":"1","actor_id":{"bytes":70000,"sha256":"ab"},"metadata":{"error":"54000"},"tx_id":1.50,"_long":["actor_id"],"_unreadable":["metadata"]}"#,
        );
        assert_eq!(
            row.members,
            r#"{"id":"1","metadata":{"error":"54000"},"tx_id":1.50}"#
        );
        assert_eq!(row.unreadable, ["metadata"]);
        let long: Vec<_> = row
            .long
            .iter()
            .map(|value| (&*value.column, value.missing))
            .collect();
        assert_eq!(long, [("actor_id", 70_000)]);
        assert_eq!(row.metadata, None);
        // The line promises a value that it does not describe.
        assert!(Row::of(r#"{"id":"1","actor_id":"x","_long":["actor_id"]}"#).is_err());
        assert!(Row::of(r#"{"id":"1","_long":["actor_id"]}"#).is_err());
    }

    #[test]
    fn deeply_nested_metadata_is_taken_out_without_recursion() {
        let deep = format!("{}\"]}}\\\"\"{}", "[".repeat(100_000), "]".repeat(100_000));
        let row = single(&format!(r#"{{"id":"1","metadata":{deep},"tx_id":7}}"#));
        assert_eq!(row.members, r#"{"id":"1","tx_id":7}"#);
        assert_eq!(row.metadata, Some(deep));
    }
}
