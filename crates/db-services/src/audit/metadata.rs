//! What else is worth keeping about an event?

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use memchr::memmem;
use serde_json::{Map, Value};

use super::json::{
    REPLACEMENT, drop_deep, each_member, has_nul, named, without_nul, write_json, write_member, write_scalar,
};

/// The member that only the writer sets.
pub(super) const MARKS: &str = "_audit";

/// Room for a few members from the start, in bytes.
const FIRST: usize = 128;

/// Above this much room it is worth to give back what is not needed.
const ROOMY: usize = 4 << 10;

/// A JSON object, held as the text that is stored.
///
/// It is written when it is set, in the caller's thread: a tree of values would be a dozen allocations
/// that another thread frees later (docs/decisions/0014-few-allocations.md). JSON of any depth is safe
/// to give; what [`limits`](super::limits) says about nesting, NUL and the member `_audit` is done at once.
#[derive(Clone, Default)]
pub struct Metadata {
    /// `{…}`, compact, in UTF-8; nothing for an object without members.
    text: Vec<u8>,
    /// A bit for each name, several names to a bit: one that is not set says that the name is new.
    names: u32,
    cut_deep: bool,
}

impl Metadata {
    /// Sets a member; of two with the same name the later one counts. Only names with U+FFFD, which
    /// stands for NUL too, are kept apart with another one: no member takes another's place.
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl Into<Value>) {
        self.set(name.as_ref(), value.into());
    }

    fn set(&mut self, name: &str, value: Value) {
        let mut name = unreserved(name);
        if has_nul(&name) || name.contains(REPLACEMENT) {
            let mut taken = BTreeSet::new();
            each_member(self.as_str(), |name, _| _ = taken.insert(name.into_owned()));
            name = Cow::Owned(without_nul(&name, |name| taken.contains(name)));
        }
        // Without the brace at the end.
        let earlier = self.text.len().saturating_sub(1);
        self.text.truncate(earlier);
        if earlier == 0 {
            self.text.reserve(FIRST);
        }
        self.text.push(if earlier == 0 { b'{' } else { b',' });
        let begin = self.text.len();
        write_scalar(&mut self.text, &*name);
        self.text.push(b':');
        let (before, key) = self.text.split_at(begin);
        let known = self.names & bit(&name) != 0 && memmem::find(before, key).is_some();
        self.names |= bit(&name);
        write_json(&mut self.text, &value, 2, &mut self.cut_deep);
        self.text.push(b'}');
        self.let_go(value);
        // In the text the name may also stand further down, within another member.
        if known {
            self.keep_last(&name);
        }
    }

    /// Of the members with this name keeps the value of the last, in the place of the first.
    fn keep_last(&mut self, name: &str) {
        let mut last = None;
        each_member(self.as_str(), |key, value| last = if key == name { Some(value) } else { last });
        let mut text = Vec::with_capacity(self.text.len());
        each_member(self.as_str(), |key, value| {
            let value = if key == name { last.take() } else { Some(value) };
            if let Some(value) = value {
                write_member(&mut text, &key, value);
            }
        });
        text.push(b'}');
        self.text = text;
    }

    /// Gives the object as JSON, compact.
    pub fn as_str(&self) -> &str {
        // What serde_json writes is UTF-8.
        std::str::from_utf8(&self.text).ok().filter(|text| !text.is_empty()).unwrap_or("{}")
    }

    /// Reads the members back.
    pub fn to_map(&self) -> Map<String, Value> {
        // What was written here can be read: within the depth that serde_json reads.
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// True if there is no member.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// True once something nested too deep was cut.
    pub(super) fn is_cut_deep(&self) -> bool {
        self.cut_deep
    }

    /// Gives back the room that a large text does not need: as it grew it may have taken twice that.
    pub(super) fn trim(&mut self) {
        if self.text.capacity() > ROOMY && self.text.len() < self.text.capacity() / 8 * 7 {
            self.text.shrink_to_fit();
        }
    }

    /// How many bytes it holds outside of itself.
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    pub(super) fn into_text(self) -> String {
        let text = String::from_utf8(self.text).unwrap_or_default();
        if text.is_empty() { "{}".to_owned() } else { text }
    }

    /// Drops what was written; what is deep without recursion.
    fn let_go(&self, value: Value) {
        if self.cut_deep {
            drop_deep(value);
        }
    }
}

impl From<Map<String, Value>> for Metadata {
    fn from(members: Map<String, Value>) -> Self {
        let mut metadata = Self::default();
        if !members.is_empty() {
            metadata.text.reserve(FIRST);
            for (name, value) in named(&members, unreserved) {
                metadata.text.push(if metadata.text.is_empty() { b'{' } else { b',' });
                metadata.names |= bit(&name);
                write_scalar(&mut metadata.text, &*name);
                metadata.text.push(b':');
                write_json(&mut metadata.text, value, 2, &mut metadata.cut_deep);
            }
            metadata.text.push(b'}');
        }
        metadata.let_go(Value::Object(members));
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
        self.cut_deep == other.cut_deep && (self.text == other.text || self.to_map() == other.to_map())
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
            assert!(!metadata.is_cut_deep());
            assert_eq!(metadata.to_map()["fits"], nested(METADATA_DEPTH - 1));
            metadata.insert("deep", nested(100_000));
            metadata.insert("deep", nested(100_000));
            assert!(metadata.is_cut_deep() && metadata.as_str().contains(TOO_DEEP));
            metadata.insert("deep", 1);
            assert!(metadata.is_cut_deep(), "and stays marked");
            assert!(of(nested(100_000)).is_cut_deep());
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(tried).unwrap().join().unwrap();
    }

    proptest! {
        /// Against the obvious model, a map.
        #[test]
        fn inserting_is_what_it_is_in_a_map(members in proptest::collection::vec(("[ab\":,{}\\\\]{0,3}", "[ab\":,{}\\\\]{0,4}"), 0..12)) {
            let (mut metadata, mut model) = (Metadata::default(), Map::new());
            for (name, value) in members {
                metadata.insert(&name, value.clone());
                model.insert(name, Value::from(value));
            }
            let mut members = 0;
            each_member(metadata.as_str(), |_, _| members += 1);
            prop_assert_eq!(members, model.len(), "each once");
            prop_assert_eq!(metadata.to_map(), model);
        }
    }
}
