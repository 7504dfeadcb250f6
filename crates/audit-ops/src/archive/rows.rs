//! The rows of an archive: most are one line, some are followed by the pieces of their long values.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::digest::hex;
use super::read::Lines;
use crate::{ArchiveProblem, OpsError};

/// How the line of a piece begins; that of a row begins with its id.
pub(super) const PIECE: &[u8] = b"{\"_piece\":";

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
    pub(super) line: String,
    /// The line without the long values, and without the metadata if that is given apart.
    pub(super) members: String,
    /// Deeply nested metadata.
    pub(super) metadata: Option<String>,
    /// The values that follow in pieces, in this order.
    pub(super) long: VecDeque<LongValue>,
    /// The columns whose values could not be turned into text when the archive was written.
    pub(super) unreadable: Vec<String>,
}

/// A value that follows its line in pieces.
pub(super) struct LongValue {
    pub(super) column: String,
    missing: u64,
    sha256: String,
    hasher: Sha256,
    nesting: Nesting,
}

/// The JSON in place of a long value.
#[derive(Deserialize)]
struct Reference {
    bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(rename = "_piece")]
    text: String,
}

impl Row {
    /// The row of a line.
    pub(super) fn of(line: &str) -> Result<Self, serde_json::Error> {
        let depth = depth(line.as_bytes());
        if depth <= MAX_DEPTH && !has_markers(line) {
            return Ok(Self::Plain(line.to_owned()));
        }
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line)?;
        let mut names = |marker: &str| -> Result<Vec<String>, serde_json::Error> {
            let names = members.remove(marker);
            names.map_or(Ok(Vec::new()), |names| serde_json::from_str(names.get()))
        };
        let (names, unreadable) = (names(LONG)?, names(UNREADABLE)?);
        let mut long = VecDeque::new();
        for column in names {
            let value = members.remove(&column).unwrap_or_default();
            let Reference { bytes, sha256 } = serde_json::from_str(value.get())?;
            long.push_back(LongValue {
                column,
                missing: bytes,
                sha256,
                hasher: Sha256::new(),
                nesting: Nesting::default(),
            });
        }
        let is_deep = depth > MAX_DEPTH && members.contains_key("metadata");
        let metadata = is_deep.then(|| members.remove("metadata")).flatten();
        Ok(Self::Single(Box::new(SingleRow {
            line: line.to_owned(),
            members: serde_json::to_string(&members)?,
            metadata: metadata.map(|metadata| metadata.get().to_owned()),
            long,
            unreadable,
        })))
    }
}

const LONG: &str = "_long";
const UNREADABLE: &str = "_unreadable";

/// Whether a line may end with the names of columns that it does not have. A value of a column may look like that too;
/// then the line is read as JSON.
fn has_markers(line: &str) -> bool {
    line.ends_with("\"]}") && (line.contains(",\"_long\":[\"") || line.contains(",\"_unreadable\":[\""))
}

/// How deeply JSON is nested.
fn depth(json: &[u8]) -> usize {
    let mut nesting = Nesting::default();
    nesting.read(json);
    nesting.deepest
}

/// How deeply JSON is nested that is read in parts.
#[derive(Default)]
struct Nesting {
    depth: usize,
    deepest: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    fn read(&mut self, json: &[u8]) {
        for byte in json {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                b'{' | b'[' if !self.is_in_string => {
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                }
                b'}' | b']' if !self.is_in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
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
        let piece = lines.next()?.map(serde_json::from_str::<Piece>);
        let Some(Ok(Piece { text })) = piece else {
            return Err(self.problem(lines.path()));
        };
        self.hasher.update(&text);
        self.nesting.read(text.as_bytes());
        match self.missing.checked_sub(text.len() as u64) {
            Some(missing) if !text.is_empty() => self.missing = missing,
            _ => return Err(self.problem(lines.path())),
        }
        Ok(Some(text))
    }

    /// Reads all pieces, and compares them with what the line says. Returns how deeply the value is nested, if it is
    /// JSON.
    pub(super) fn verify(mut self, lines: &mut Lines) -> Result<usize, OpsError> {
        while self.next_piece(lines)?.is_some() {}
        Ok(self.nesting.deepest)
    }

    /// Whether its nesting counts.
    pub(super) fn is_json(&self) -> bool {
        self.column == "metadata"
    }

    fn problem(&self, path: &Path) -> OpsError {
        let column = self.column.clone();
        OpsError::archive(path, ArchiveProblem::Value { column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(line: &str) -> SingleRow {
        match Row::of(line).unwrap() {
            Row::Single(row) => *row,
            Row::Plain(_) => panic!("{line}"),
        }
    }

    #[test]
    fn most_lines_are_plain_rows() {
        for line in [
            r#"{"id":"1","metadata":{"a":[1,2,{}]},"tx_id":7}"#,
            r#"{"id":"1","action":",\"_long\":[\"x\"]}","tx_id":7}"#,
            r#"{"id":"1","metadata":{"b":{},"_long":["x"]},"tx_id":7}"#,
        ] {
            assert!(matches!(Row::of(line).unwrap(), Row::Plain(_)), "{line}");
        }
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
