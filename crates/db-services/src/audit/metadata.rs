//! The metadata of an event.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use memchr::memmem;
use serde_json::{Map, Value};

use super::json::{FreeNames, drop_deep, each_member, named, write_json, write_member, write_text};
use super::members::{Members, may_become_equal};

/// The member that only the writer sets.
pub(super) const MARKS: &str = "_audit";

/// Room for a few members from the start, in bytes.
const FIRST: usize = 128;

/// Above this much room it is worth to give back what is not needed.
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
        Self { object: Object::Text(text.into_bytes()), state: State::Limited, ..Self::default() }
    }

    /// Sets a member; of two with the same name the later one counts. Only names with U+FFFD, which
    /// replaces NUL too, are kept apart with another one: no member takes another's place.
    #[inline]
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl Into<Value>) {
        self.set(name.as_ref(), value.into());
    }

    fn set(&mut self, name: &str, value: Value) {
        let name = unreserved(name);
        let mut deep = false;
        self.object = match std::mem::take(&mut self.object) {
            Object::Text(mut text) if self.inserted < MAX_IN_TEXT => {
                self.inserted += 1;
                set_in_text(&mut text, &mut self.names, name, &value, &mut deep);
                Object::Text(text)
            }
            object => {
                let mut members = match object {
                    Object::Text(text) => Box::new(Members::read(as_str(&text))),
                    Object::Members(members) => members,
                };
                members.insert(&name, |out| write_json(out, &value, 2, &mut deep));
                Object::Members(members)
            }
        };
        self.let_go(value, deep);
    }

    /// Gives the object as JSON, compact.
    pub fn as_str(&self) -> &str {
        match &self.object {
            Object::Text(text) => as_str(text),
            Object::Members(members) => members.as_str(),
        }
    }

    /// Reads the members back.
    pub fn to_map(&self) -> Map<String, Value> {
        // What was written here can be read: within the depth that serde_json reads.
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// True if there is no member.
    pub fn is_empty(&self) -> bool {
        // Members are read from a text only once many were set.
        matches!(&self.object, Object::Text(text) if text.is_empty())
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Keeps the text alone, without room that it does not need (as it grew it may have taken twice
    /// that), and returns how many bytes it takes outside of itself.
    pub(super) fn trim(&mut self) -> usize {
        let mut text = match std::mem::take(&mut self.object) {
            Object::Text(text) => text,
            Object::Members(members) => members.into_text().into_bytes(),
        };
        if text.capacity() > ROOMY && text.len() < text.capacity() / 8 * 7 {
            text.shrink_to_fit();
        }
        let held = text.capacity();
        self.object = Object::Text(text);
        held
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
    each_member(object, |key, value| last = if key == name { Some(value) } else { last });
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
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).unwrap_or("{}")
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
        metadata.inserted = u16::try_from(members.len()).unwrap_or(MAX_IN_TEXT).min(MAX_IN_TEXT);
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
    match name.strip_suffix(MARKS) {
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::json::TOO_DEEP;
    use super::super::limits::METADATA_DEPTH;
    use super::*;

    fn of(value: Value) -> Metadata {
        Metadata::from(value)
    }

    #[test]
    fn it_is_always_an_object() {
        assert_eq!(of(json!({"b": [1.5, null], "a": "é\n"})).as_str(), r#"{"a":"é\n","b":[1.5,null]}"#);
        assert_eq!((of(Value::Null).as_str(), of(json!({})).is_empty()), ("{}", true));
        assert_eq!(of(json!([1])).as_str(), r#"{"value":[1]}"#);
    }

    #[test]
    fn of_two_members_with_one_name_the_later_counts() {
        let mut metadata = Metadata::default();
        metadata.insert("b", 1);
        metadata.insert("a", json!({"b": "\"b\":"}));
        metadata.insert("b", 2);
        assert_eq!(
            metadata.to_map(),
            Map::from_iter([("a".to_owned(), json!({"b": "\"b\":"})), ("b".to_owned(), json!(2))])
        );
        // In the text of a value only, or deeper: not there yet.
        let mut metadata = of(json!({"x": {"k": 1}, "y": "\"k\":"}));
        metadata.insert("k", true);
        assert_eq!(Value::Object(metadata.to_map()), json!({"x": {"k": 1}, "y": "\"k\":", "k": true}));
    }

    #[test]
    fn no_member_takes_another_s_place_or_the_writer_s() {
        let set = |names: &[&str]| {
            let mut metadata = Metadata::default();
            names.iter().zip(1..).for_each(|(name, nth)| metadata.insert(name, nth));
            Value::Object(metadata.to_map())
        };
        assert_eq!(set(&["_audit", "app._audit", "_audit"]), json!({"app._audit": 3, "app.app._audit": 2}));
        assert_eq!(set(&["app._audit", "_audit"]), json!({"app._audit": 2, "app.app._audit": 1}));
        assert_eq!(set(&["my_audit", "_auditor"]), json!({"my_audit": 1, "_auditor": 2}));
        for names in [["a\0", "a\u{FFFD}"], ["a\u{FFFD}", "a\0"], ["a\0", "a\0"]] {
            assert_eq!(set(&names), json!({"a\u{FFFD}": 1, "a\u{FFFD}\u{FFFD}": 2}), "{names:?}");
        }
        let at_once = |value: Value| of(value).to_map().len();
        assert_eq!(at_once(json!({"\0\u{FFFD}": 1, "\u{FFFD}\0": 2, "\u{FFFD}\u{FFFD}": 3})), 3);
        assert_eq!(at_once(json!({"a\0": 1, "a\0\0": 2, "a\u{FFFD}": 3})), 3);
        let inner = of(json!({"x": {"a\0": 1, "a\0\0": 2, "a\u{FFFD}": 3}})).to_map();
        assert_eq!(inner["x"].as_object().unwrap().len(), 3);
    }

    #[test]
    fn equal_is_what_is_equal_as_json() {
        let mut metadata = of(json!({"a": [1], "b": 2}));
        metadata.insert("a", json!([1]));
        let mut other = of(json!({"b": 2}));
        other.insert("a", json!([1]));
        assert!(metadata == other && metadata.as_str() != other.as_str());
        other.insert("a", json!([2]));
        assert_ne!(metadata, other);
    }

    #[test]
    fn any_depth_is_survived_on_a_small_stack() {
        let nested = |levels: usize| (0..levels).fold(json!("bottom"), |inner, _| Value::Array(vec![inner]));
        let tried = move || {
            let mut metadata = of(json!({"fits": nested(METADATA_DEPTH - 1)}));
            assert!(metadata.state() == State::Whole);
            assert_eq!(metadata.to_map()["fits"], nested(METADATA_DEPTH - 1));
            metadata.insert("deep", nested(100_000));
            metadata.insert("deep", nested(100_000));
            assert!(metadata.state() == State::DepthCut && metadata.as_str().contains(TOO_DEEP));
            metadata.insert("deep", 1);
            assert!(metadata.state() == State::DepthCut, "and stays marked");
            assert_eq!(of(nested(100_000)).state(), State::DepthCut);
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(tried).unwrap().join().unwrap();
    }

    #[test]
    fn many_members_are_set_one_by_one_without_reading_the_others_each_time() {
        // Each of 120,000 names is set twice, and 10,000 more become equal: if each read the text of up to
        // 2 MB, this would be 200 GB.
        let mut metadata = Metadata::default();
        for round in 0..2 {
            (0..60_000).for_each(|n| metadata.insert(format!("name {n}"), round));
            (0..60_000).for_each(|n| metadata.insert(format!("name {n} of the second"), "a value"));
        }
        (0..10_000).for_each(|n| metadata.insert("k\0", n));
        let read = metadata.to_map();
        assert_eq!(read.len(), 130_000);
        assert_eq!((&read["name 59999"], &read["k\u{FFFD}\u{FFFD}9999"]), (&json!(1), &json!(9_999)));
    }

    /// The obvious way to set a member: pairs of name and value, searched from the beginning.
    fn set_in_list(list: &mut Vec<(String, Value)>, name: &str, value: Value) {
        let mut name = name.replace('\0', "\u{FFFD}");
        if name.contains('\u{FFFD}') {
            let later = (2..).map(|nth| format!("{name}\u{FFFD}{nth}"));
            let mut names = [name.clone(), format!("{name}\u{FFFD}")].into_iter().chain(later);
            name = names.find(|name| list.iter().all(|(taken, _)| taken != name)).unwrap();
        }
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => list.push((name, value)),
        }
    }

    proptest! {
        /// Few and many, by turns in the text and in parts.
        #[test]
        fn setting_members_is_what_it_is_in_a_list(members in proptest::collection::vec(("[ab\":,{}\\\\\0\u{FFFD}2]{0,3}", "[ab\":,{}\\\\]{0,4}"), 0..200)) {
            let (mut metadata, mut model) = (Metadata::default(), Vec::new());
            for (name, value) in members {
                metadata.insert(&name, value.clone());
                set_in_list(&mut model, &name, Value::from(value));
            }
            let mut read = Vec::new();
            each_member(metadata.as_str(), |name, value| read.push((name.into_owned(), serde_json::from_str(value.get()).unwrap())));
            prop_assert_eq!(&read, &model);
            let text = metadata.as_str().to_owned();
            prop_assert!(metadata.trim() >= text.len() || model.is_empty());
            prop_assert_eq!(metadata.as_str(), &text);
            prop_assert_eq!(metadata.into_text(), text);
        }
    }
}
