//! The metadata of an event.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use memchr::memmem;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{
    FreeNames, REPLACEMENT, drop_deep, each_member, named, write_json, write_member, write_text,
};
use super::members::{Members, may_become_equal};
use super::raw_json::{self, write_raw};

/// The member that only the writer sets.
pub(super) const ANNOTATIONS_KEY: &str = "_audit";

/// Room for a few members from the start, in bytes.
const FIRST: usize = 128;

/// Unused capacity above this size is released.
const ROOMY: usize = 4 << 10;

/// Members that are set one by one in the text itself; the others are set in [`Members`]. Each of these
/// may read the whole text: many of them would take time by the square of their number.
const MAX_IN_TEXT: u16 = 64;

/// A JSON object, held as the text that is stored.
///
/// It is written when it is set, in the caller's thread: a tree of values would be a dozen allocations
/// that another thread frees later (docs/decisions/0014-few-allocations.md). JSON of any depth is safe
/// to give; what [`limits`](super::limits) says about nesting, NUL and the member `_audit` is done at once.
#[derive(Clone, Default)]
pub struct Metadata {
    object: Object,
    /// A bit for each name, several names to a bit: one that is not set says that the name is new.
    names: u32,
    /// How many members were set, up to [`MAX_IN_TEXT`].
    inserted: u16,
    state: State,
    /// The names of members that are stored as they are. In a box, as hardly an entry has one.
    #[allow(clippy::box_collection)]
    plain: Option<Box<BTreeSet<String>>>,
}

/// The members.
#[derive(Clone)]
enum Object {
    /// `{…}`, compact, in UTF-8; nothing for an object without members.
    Text(Vec<u8>),
    Members(Box<Members>),
}

/// How far the limits are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing was nested too deep.
    #[default]
    Whole,
    /// Something was nested too deep, and is cut.
    DepthCut,
    /// All limits are applied: the text is what is stored, with the member of the writer.
    Limited,
}

impl Default for Object {
    fn default() -> Self {
        Self::Text(Vec::new())
    }
}

impl Metadata {
    /// Metadata to which all limits are applied.
    pub(super) fn limited(text: String) -> Self {
        Self {
            object: Object::Text(text.into_bytes()),
            state: State::Limited,
            ..Self::default()
        }
    }

    /// Sets a member; of two with the same name the later one counts. Only names with U+FFFD, which
    /// replaces NUL too, are kept apart with another one: no member takes another's place.
    #[inline]
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl Into<Value>) {
        self.set(name.as_ref(), value.into());
        if let Some(plain) = &mut self.plain {
            plain.remove(name.as_ref());
        }
    }

    /// Sets a member that is stored as it is.
    pub(super) fn insert_plain(&mut self, name: &str, value: impl Into<Value>) {
        self.set(name, value.into());
        let plain = self.plain.get_or_insert_default();
        plain.insert(unreserved(name).replace('\0', REPLACEMENT));
    }

    /// Replaces the text by what a function makes of it, and of the question which members are stored as they are.
    pub(super) fn rewrite(&mut self, rewrite: impl FnOnce(&str, &dyn Fn(&str) -> bool) -> Option<String>) {
        let plain = self.plain.take();
        let is_plain = |name: &str| plain.as_ref().is_some_and(|plain| plain.contains(name));
        if !self.is_empty()
            && let Some(text) = rewrite(self.as_str(), &is_plain)
        {
            self.object = Object::Text(text.into_bytes());
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        let name = unreserved(name);
        let mut deep = false;
        match &mut self.object {
            Object::Text(text) if self.inserted < MAX_IN_TEXT => {
                self.inserted += 1;
                set_in_text(text, &mut self.names, name, &value, &mut deep);
            }
            object => object.set_in_parts(&name, &value, &mut deep),
        }
        self.let_go(value, deep);
    }

    /// Reads an object from JSON text whose numbers are kept as they are written, also those that an `f64` cannot
    /// hold. One with an exponent beyond 400 or more than 1,000 digits becomes text: PostgreSQL would write it out in
    /// full, or reject it. Surrogates without their partner become U+FFFD, and of two members with the same name the later one
    /// counts. Null is an empty object; what is no object becomes the member `value`.
    ///
    /// Use it for JSON from elsewhere. `serde_json::Value` rounds numbers, or refuses them.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self::from_raw)
    }

    pub(super) fn from_raw(value: &RawValue) -> Self {
        let mut deep = false;
        let members = match raw_json::members(value, unreserved, &mut deep) {
            Some(members) => members,
            None if value.get() == "null" => Members::default(),
            None => {
                let mut members = Members::default();
                members.insert("value", |out| write_raw(out, value, 2, &mut deep));
                members
            }
        };
        Self {
            // Later members are set in the parts: the bits of these names are not known.
            object: Object::Members(Box::new(members)),
            state: if deep { State::DepthCut } else { State::Whole },
            ..Self::default()
        }
    }

    /// Returns the object as JSON, compact.
    pub fn as_str(&self) -> &str {
        match &self.object {
            Object::Text(text) => as_str(text),
            Object::Members(members) => members.as_str(),
        }
    }

    /// Reads the members back. A number that `Value` cannot hold becomes its text.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut members = Map::new();
        each_member(self.as_str(), |name, value| {
            members.insert(name.into_owned(), raw_json::to_value(value));
        });
        members
    }

    /// Keeps the members for which `keep` returns true. It gets their names and values, as compact JSON.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        let mut members = Members::default();
        each_member(self.as_str(), |name, value| {
            if keep(&name, value.get()) {
                members.insert(&name, |out| out.extend_from_slice(value.get().as_bytes()));
            }
        });
        self.object = Object::Members(Box::new(members));
    }

    /// True if there is no member.
    pub fn is_empty(&self) -> bool {
        match &self.object {
            Object::Text(text) => text.is_empty(),
            Object::Members(members) => members.is_empty(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Keeps the text alone, without room that it does not need (as it grew it may have taken twice
    /// that), and returns how many bytes it takes outside of itself.
    pub(super) fn trim(&mut self) -> usize {
        if let Object::Members(members) = &mut self.object {
            self.object = Object::Text(std::mem::take(&mut **members).into_text().into_bytes());
        }
        let Object::Text(text) = &mut self.object else {
            return 0;
        };
        if text.capacity() > ROOMY && text.len() < text.capacity() / 8 * 7 {
            text.shrink_to_fit();
        }
        text.capacity()
    }

    pub(super) fn into_text(self) -> String {
        let text = match self.object {
            Object::Text(text) => String::from_utf8(text).unwrap_or_default(),
            Object::Members(members) => members.into_text(),
        };
        if text.is_empty() { "{}".to_owned() } else { text }
    }

    /// Drops what was written; what is deep without recursion.
    fn let_go(&mut self, value: Value, deep: bool) {
        if deep {
            self.state = State::DepthCut;
            drop_deep(value);
        }
    }
}

impl Object {
    /// Sets a member of many, without reading the others.
    #[cold]
    fn set_in_parts(&mut self, name: &str, value: &Value, deep: &mut bool) {
        let mut members = match std::mem::take(self) {
            Self::Text(text) => Box::new(Members::read(as_str(&text))),
            Self::Members(members) => members,
        };
        members.insert(name, |out| write_json(out, value, 2, deep));
        *self = Self::Members(members);
    }
}

/// Sets a member in the text of an object.
fn set_in_text(text: &mut Vec<u8>, names: &mut u32, mut name: Cow<'_, str>, value: &Value, deep: &mut bool) {
    if may_become_equal(&name) {
        let mut taken = BTreeSet::new();
        each_member(as_str(text), |name, _| _ = taken.insert(name.into_owned()));
        name = Cow::Owned(FreeNames::default().find(&name, |name| taken.contains(name)));
    }
    // Without the brace at the end.
    let earlier = text.len().saturating_sub(1);
    text.truncate(earlier);
    if earlier == 0 {
        text.reserve(FIRST);
    }
    text.push(if earlier == 0 { b'{' } else { b',' });
    let begin = text.len();
    write_text(text, &name);
    text.push(b':');
    let (before, key) = text.split_at(begin);
    let known = *names & bit(&name) != 0 && memmem::find(before, key).is_some();
    *names |= bit(&name);
    write_json(text, value, 2, deep);
    text.push(b'}');
    // In the text the name may also be further down, within another member.
    if known {
        *text = with_last(as_str(text), &name);
    }
}

/// The object with the value of the last of the members with this name alone, in the place of the first.
fn with_last(object: &str, name: &str) -> Vec<u8> {
    let mut last = None;
    each_member(object, |key, value| {
        last = if key == name { Some(value) } else { last }
    });
    let mut text = Vec::with_capacity(object.len());
    each_member(object, |key, value| {
        let value = if key == name { last.take() } else { Some(value) };
        if let Some(value) = value {
            write_member(&mut text, &key, value);
        }
    });
    text.push(b'}');
    text
}

fn as_str(text: &[u8]) -> &str {
    // What serde_json writes is UTF-8.
    std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or("{}")
}

impl From<Map<String, Value>> for Metadata {
    fn from(members: Map<String, Value>) -> Self {
        let mut metadata = Self::default();
        let (mut text, mut deep) = (Vec::new(), false);
        if !members.is_empty() {
            text.reserve(FIRST);
            for (name, value) in named(&members, unreserved) {
                text.push(if text.is_empty() { b'{' } else { b',' });
                metadata.names |= bit(&name);
                write_text(&mut text, &name);
                text.push(b':');
                write_json(&mut text, value, 2, &mut deep);
            }
            text.push(b'}');
        }
        metadata.object = Object::Text(text);
        metadata.inserted = u16::try_from(members.len())
            .unwrap_or(MAX_IN_TEXT)
            .min(MAX_IN_TEXT);
        metadata.let_go(Value::Object(members), deep);
        metadata
    }
}

impl From<Value> for Metadata {
    /// Null is an empty object; what is no object becomes the member `value`.
    fn from(value: Value) -> Self {
        match value {
            Value::Object(members) => Self::from(members),
            Value::Null => Self::default(),
            other => Self::from(Map::from_iter([("value".to_owned(), other)])),
        }
    }
}

impl PartialEq for Metadata {
    /// As JSON: the order of members does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state && (self.as_str() == other.as_str() || self.to_map() == other.to_map())
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a top-level member that is not the writer's: `_audit` becomes `app._audit`, and that
/// `app.app._audit`, so that no two names become one.
fn unreserved(name: &str) -> Cow<'_, str> {
    match name.strip_suffix(ANNOTATIONS_KEY) {
        Some(before) if before.replace("app.", "").is_empty() => Cow::Owned(format!("app.{name}")),
        _ => Cow::Borrowed(name),
    }
}

/// One of 32 bits, by what names differ in most: their length, their first and their last letter.
fn bit(name: &str) -> u32 {
    let [first, last] =
        [name.bytes().next(), name.bytes().next_back()].map(|byte| byte.map_or(0, usize::from));
    1 << ((name.len() + first * 7 + last * 13) % 32)
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
