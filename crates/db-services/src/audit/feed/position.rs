//! Where a reader of the feed is, as a text that it can keep.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::PositionError;
use super::frontier::Frontier;
use super::place::Place;

/// The only version of a position's bytes.
const VERSION: u8 = 1;

/// Where a reader of the feed is: which transactions it has seen, and in which database.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) is opaque, safe in a URL, has a version and a checksum, and grows
/// with the number of open transactions: some hundred characters in general. Keep it wherever rows are taken, or by
/// name in the database with [`save`](super::save). It is not signed: a position that somebody makes up shows
/// what the filter and the rights of the connection allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub(super) State);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Of any database.
    #[serde(rename = "b")]
    Beginning,
    #[serde(rename = "p")]
    Postgres(Box<Frontier>),
    #[serde(rename = "s")]
    Sqlite(Place),
}

impl Position {
    /// Before all rows, in any database.
    pub fn beginning() -> Self {
        Self(State::Beginning)
    }

    /// Names the database that the position belongs to, in words for a person: the server and its database, or the file. None
    /// for the beginning.
    pub fn origin(&self) -> Option<String> {
        match &self.0 {
            State::Beginning => None,
            State::Postgres(frontier) => {
                let origin = &frontier.origin;
                Some(format!(
                    "PostgreSQL system {}, timeline {}, database {}, table {}",
                    origin.system, origin.timeline, origin.database, origin.table
                ))
            }
            State::Sqlite(place) => Some(format!("SQLite file {}", place.file)),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, &self.0).map_err(|_| fmt::Error)?;
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PositionError::Damaged)?;
        let (content, sum) = bytes.split_last_chunk().ok_or(PositionError::Damaged)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*sum) {
            return Err(PositionError::Damaged);
        }
        let (&version, content) = content.split_first().ok_or(PositionError::Damaged)?;
        if version != VERSION {
            return Err(PositionError::Version(version));
        }
        let state: State = serde_json::from_slice(content).map_err(|_| PositionError::Damaged)?;
        let is_valid = match &state {
            State::Beginning => true,
            State::Postgres(frontier) => frontier.is_valid(),
            State::Sqlite(place) => place.is_valid(),
        };
        is_valid.then_some(Self(state)).ok_or(PositionError::Damaged)
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
