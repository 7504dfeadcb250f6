//! A place in the trail from which pages go on, as a text that a client can keep.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::filter::{AuditFilter, Test};
use super::sql::Dialect;

/// The only version of a cursor's bytes.
const VERSION: u8 = 1;

/// Version, kind of database, time, id, fingerprint of the filter, and a checksum of all that.
const LENGTH: usize = 1 + 1 + 8 + 16 + 4 + 4;

/// Why a cursor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// It is not a cursor, or was changed.
    #[error("the cursor is damaged: pass it on exactly as it was returned, or begin at the first page")]
    Damaged,
    /// It is of another version of this program.
    #[error("the cursor has version {0}, and this program reads version {VERSION}: begin at the first page")]
    Version(u8),
    /// It was returned for a filter with other conditions than on the time.
    #[error(
        "the cursor belongs to another filter: repeat the filter that it was returned for, or begin at the first page"
    )]
    Filter,
    /// It was returned by the other kind of database.
    #[error("the cursor belongs to another database: begin at the first page")]
    Database,
}

/// A place between two rows of one query: after a row, in the direction of the next page.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) is opaque and safe in a URL. It names a time and an id, no more
/// than the row itself. It has a version and a checksum. It stays valid while rows arrive, and also if `since` and
/// `until` change, so that a relative time can be resolved anew; a filter with other conditions refuses it. It is not
/// signed: who makes up a place sees what the filter and the rights of the connection allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) dialect: Dialect,
    /// The time as the database stores it.
    pub(super) created_at: i64,
    pub(super) id: Uuid,
    pub(super) fingerprint: u32,
}

impl Cursor {
    /// Checks that it belongs to this filter on this kind of database.
    pub(super) fn check(&self, dialect: Dialect, filter: &AuditFilter) -> Result<(), CursorError> {
        if self.dialect != dialect {
            Err(CursorError::Database)
        } else if self.fingerprint != fingerprint(filter) {
            Err(CursorError::Filter)
        } else {
            Ok(())
        }
    }
}

/// Identifies the conditions of a filter, in whatever order, but for those on the time.
pub(super) fn fingerprint(filter: &AuditFilter) -> u32 {
    let conditions = filter.conditions.iter();
    let mut texts: Vec<_> = conditions
        .filter(|condition| !matches!(condition.test, Test::Since(_) | Test::Until(_)))
        .map(|condition| format!("{condition}\n"))
        .collect();
    texts.sort();
    crc32fast::hash(texts.concat().as_bytes())
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.push(match self.dialect {
            Dialect::Postgres => b'p',
            Dialect::Sqlite => b's',
        });
        bytes.extend(self.created_at.to_be_bytes());
        bytes.extend(self.id.as_bytes());
        bytes.extend(self.fingerprint.to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Damaged)?;
        let (content, sum) = bytes.split_last_chunk().ok_or(CursorError::Damaged)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*sum) {
            return Err(CursorError::Damaged);
        }
        let (&version, content) = content.split_first().ok_or(CursorError::Damaged)?;
        if version != VERSION {
            return Err(CursorError::Version(version));
        }
        read(content).ok_or(CursorError::Damaged)
    }
}

fn read(content: &[u8]) -> Option<Cursor> {
    let (kind, rest) = content.split_first()?;
    let (created_at, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    Some(Cursor {
        dialect: match kind {
            b'p' => Dialect::Postgres,
            b's' => Dialect::Sqlite,
            _ => return None,
        },
        created_at: i64::from_be_bytes(*created_at),
        id: Uuid::from_bytes(*id),
        fingerprint: u32::from_be_bytes(rest.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::filter::Condition;
    use super::*;

    fn cursor() -> Cursor {
        Cursor {
            dialect: Dialect::Sqlite,
            created_at: 1,
            id: Uuid::from_u128(7),
            fingerprint: 9,
        }
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back(created_at: i64, id: u128, fingerprint: u32, postgres: bool) {
            let dialect = if postgres { Dialect::Postgres } else { Dialect::Sqlite };
            let cursor = Cursor { dialect, created_at, id: Uuid::from_u128(id), fingerprint };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_panics_or_is_a_cursor(text in "\\PC*") {
            prop_assert_eq!(text.parse::<Cursor>(), Err(CursorError::Damaged));
        }
    }

    #[test]
    fn a_cursor_with_another_character_is_damaged() {
        let text = cursor().to_string();
        for place in 0..text.len() {
            for other in ["A", "B", "_", "=", " ", "é", ""] {
                let mut changed = text.clone();
                changed.replace_range(place..=place, other);
                if changed != text {
                    assert_eq!(changed.parse::<Cursor>(), Err(CursorError::Damaged), "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_cursor_of_another_version_is_named() {
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor().to_string()).unwrap();
        bytes[0] = 2;
        bytes.truncate(LENGTH - 4);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        let text = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(text.parse::<Cursor>(), Err(CursorError::Version(2)));
    }

    #[test]
    fn a_cursor_belongs_to_a_filter_whose_times_and_order_may_change() {
        let (alice, login) = (Condition::actor("alice"), Condition::action("auth.login"));
        let filter: AuditFilter = [alice.clone(), login.clone()].into_iter().collect();
        let mut cursor = cursor();
        cursor.fingerprint = fingerprint(&filter);
        let since = Condition::since(chrono::DateTime::UNIX_EPOCH);
        let same = [login.clone(), since, alice.clone()].into_iter().collect();
        assert_eq!(cursor.check(Dialect::Sqlite, &same), Ok(()));
        assert_eq!(cursor.check(Dialect::Postgres, &same), Err(CursorError::Database));
        for other in [
            vec![alice.clone()],
            vec![alice.clone(), !login.clone()],
            vec![],
            vec![alice, login.clone(), login],
        ] {
            let other = other.into_iter().collect();
            assert_eq!(cursor.check(Dialect::Sqlite, &other), Err(CursorError::Filter));
        }
    }
}
