//! What differs between a thing before and after a change.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::AuditEntry;
use super::limits::{TEXT_CHARS, limited, size_and_digest};

/// The most changes that an entry lists.
pub const MAX_CHANGES: usize = 200;
/// The most bytes of JSON that a value of a change may have; a longer one is replaced by its size and its SHA-256.
pub const MAX_CHANGED_VALUE_BYTES: usize = 1_024;
/// The most bytes of JSON that the list of changes has: half of what metadata may have.
pub const MAX_CHANGES_BYTES: usize = super::limits::METADATA_BYTES / 2;

/// Replaces a value that is not to be stored.
pub(super) const MASK: &str = "***";

/// What differs between a thing before and after a change, for [`AuditEntry::changed`].
///
/// Objects are compared member by member, at any depth; arrays and other values as a whole. A member whose name is
/// left out or masked is so at any depth, with all that it contains.
///
/// ```
/// use db_services::audit::{AuditEntry, Changes};
///
/// let before = serde_json::json!({"name": "Rust", "level": 3, "token": "a", "updated_at": "10:01"});
/// let after = serde_json::json!({"name": "Rust", "level": 4, "token": "b", "updated_at": "10:02"});
/// let changes = Changes::between(&before, &after).without("updated_at").masked("token");
/// let entry = AuditEntry::new("skill.update").changed(changes);
/// assert_eq!(
///     entry.metadata.as_str(),
///     r#"{"changes":[{"from":3,"path":"/level","to":4},{"from":"***","path":"/token","to":"***"}]}"#
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Changes {
    before: Result<Value, String>,
    after: Result<Value, String>,
    left_out: Vec<String>,
    masked: Vec<String>,
}

impl Changes {
    /// Takes a thing as it was and as it is. Give the rows that the database returned (`RETURNING`), not what the
    /// application asked it to store: defaults and triggers change values.
    pub fn between(before: &impl Serialize, after: &impl Serialize) -> Self {
        let value = |result: serde_json::Result<Value>| result.map_err(|error| limited(&error.to_string()));
        Self {
            before: value(serde_json::to_value(before)),
            after: value(serde_json::to_value(after)),
            left_out: Vec::new(),
            masked: Vec::new(),
        }
    }

    /// Leaves out members with this name, as if they had not changed.
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.left_out.push(name.into());
        self
    }

    /// Replaces the values of members with this name by `***`. That they changed is recorded.
    pub fn masked(mut self, name: impl Into<String>) -> Self {
        self.masked.push(name.into());
        self
    }

    /// The members that describe the changes.
    fn into_members(self) -> Map<String, Value> {
        let (mut before, mut after) = match (self.before, self.after) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(error), _) | (_, Err(error)) => {
                let members = [("changes", json!([])), ("changes_error", json!(error))];
                return members
                    .map(|(name, value)| (name.to_owned(), value))
                    .into_iter()
                    .collect();
            }
        };
        remove_members(&mut before, &self.left_out);
        remove_members(&mut after, &self.left_out);
        let mut list = ChangeList {
            masked: self.masked,
            ..ChangeList::default()
        };
        list.compare(&mut String::new(), Some(&before), Some(&after));
        list.into_members()
    }
}

/// Removes members with these names, at any depth.
fn remove_members(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !names.contains(name));
            members
                .values_mut()
                .for_each(|value| remove_members(value, names));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| remove_members(value, names)),
        _ => {}
    }
}

/// Masks members with these names, at any depth.
fn mask_members(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if names.contains(name) {
                    *value = MASK.into();
                } else {
                    mask_members(value, names);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mask_members(value, names)),
        _ => {}
    }
}

/// Changes within the limits.
#[derive(Default)]
struct ChangeList {
    masked: Vec<String>,
    changes: Vec<Value>,
    bytes: usize,
    left_out: usize,
}

impl ChangeList {
    fn compare(&mut self, path: &mut String, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let added = after.keys().filter(|name| !before.contains_key(*name));
                for name in before.keys().chain(added) {
                    self.compare_member(path, name, before.get(name), after.get(name));
                }
            }
            _ if before == after => {}
            _ => self.add(path, before, after),
        }
    }

    fn compare_member(
        &mut self,
        path: &mut String,
        name: &String,
        before: Option<&Value>,
        after: Option<&Value>,
    ) {
        let length = path.len();
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if !self.masked.contains(name) {
            self.compare(path, before, after);
        } else if before != after {
            let mask = Value::from(MASK);
            self.add(path, before.map(|_| &mask), after.map(|_| &mask));
        }
        path.truncate(length);
    }

    /// Adds a change. A member that was added has no `from`, one that was removed no `to`.
    fn add(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        if self.changes.len() == MAX_CHANGES {
            self.left_out += 1;
            return;
        }
        let mut change = Map::new();
        change.insert("path".to_owned(), limited(path).into());
        for (name, value) in [("from", before), ("to", after)] {
            if let Some(value) = value {
                change.insert(name.to_owned(), self.bounded(value));
            }
        }
        let change = Value::Object(change);
        let bytes = change.to_string().len() + 1;
        if self.bytes + bytes > MAX_CHANGES_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes += bytes;
        self.changes.push(change);
    }

    /// The value with its secrets masked, or the size and the digest of a long one.
    fn bounded(&self, value: &Value) -> Value {
        let mut value = value.clone();
        mask_members(&mut value, &self.masked);
        let text = value.to_string();
        if text.len() <= MAX_CHANGED_VALUE_BYTES {
            return value;
        }
        json!({"cut": size_and_digest(&text)})
    }

    fn into_members(self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("changes".to_owned(), self.changes.into());
        if self.left_out > 0 {
            members.insert("changes_left_out".to_owned(), self.left_out.into());
        }
        members
    }
}

impl AuditEntry {
    /// Adds what differs between a thing before and after a change: [`changed`](Self::changed) with all members.
    ///
    /// Use [`Changes::masked`] and [`Changes::without`] where a thing holds secrets.
    pub fn changes(self, before: &impl Serialize, after: &impl Serialize) -> Self {
        self.changed(Changes::between(before, after))
    }

    /// Adds changes to the metadata, as the member `changes`: a list of objects with `path` (a JSON pointer, RFC 6901;
    /// empty for the whole thing), `from` and `to`. A member that was added has no `from`, one that was removed no
    /// `to`.
    ///
    /// | beyond this | happens |
    /// | --- | --- |
    /// | [`MAX_CHANGES`] changes, [`MAX_CHANGES_BYTES`] in all | they are left out; `changes_left_out` counts them |
    /// | [`MAX_CHANGED_VALUE_BYTES`] of a value | `{"cut": {"bytes": …, "sha256": …}}` in its place |
    /// | 512 characters of a path | it is cut, ends with `…` |
    ///
    /// A thing that cannot be serialised gives an empty list, and the reason as the member `changes_error`.
    pub fn changed(self, changes: Changes) -> Self {
        changes
            .into_members()
            .into_iter()
            .fold(self, |entry, (name, value)| entry.detail(name, value))
    }
}

const _: () = assert!(TEXT_CHARS == 512, "the documentation of AuditEntry::changed");

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
