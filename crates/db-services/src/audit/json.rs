//! JSON as text: written without NUL and no deeper than what can be read back, read member by member.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::limits::METADATA_DEPTH;

pub(super) const TOO_DEEP: &str = "[cut: nested deeper than 127 levels]";
pub(super) const REPLACEMENT: &str = "\u{FFFD}";

/// Writes compact JSON without NUL and without anything below level 127.
pub(super) fn write_json(out: &mut Vec<u8>, value: &Value, level: usize, deep: &mut bool) {
    match value {
        Value::Array(_) | Value::Object(_) if level > METADATA_DEPTH => {
            *deep = true;
            write_text(out, TOO_DEEP);
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json(out, item, level + 1, deep);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (at, (name, item)) in named(members, Cow::Borrowed).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, &name);
                out.push(b':');
                write_json(out, item, level + 1, deep);
            }
            out.push(b'}');
        }
        Value::String(text) => write_string(out, text),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Null => out.extend_from_slice(b"null"),
        scalar => write_scalar(out, scalar),
    }
}

/// Writes a text without NUL.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        write_plain(out, text)
    } else if has_nul(text) {
        write_scalar(out, &text.replace('\0', REPLACEMENT))
    } else {
        write_scalar(out, text)
    }
}

/// Writes a text.
#[inline]
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        write_plain(out, text)
    } else {
        write_scalar(out, text)
    }
}

#[inline]
fn write_plain(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// True if JSON escapes nothing in the text, as is the rule.
#[inline]
fn is_plain(text: &str) -> bool {
    // All bytes, without a branch for each: several at a time.
    !text.bytes().fold(false, |found, byte| {
        found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')
    })
}

/// Writes a text, a number, true, false or null.
fn write_scalar(out: &mut Vec<u8>, scalar: &(impl Serialize + ?Sized)) {
    // Into memory, and of what has no names that could be no text: nothing in it can fail.
    let _ = serde_json::to_writer(out, scalar);
}

/// Writes a member of an object that has no closing brace yet, the first with the opening one.
pub(super) fn write_member(out: &mut Vec<u8>, name: &str, value: &RawValue) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    write_text(out, name);
    out.push(b':');
    out.extend_from_slice(value.get().as_bytes());
}

/// The members of an object under the names they are written with: renamed, without NUL, and none with
/// another's name.
pub(super) fn named<'a>(
    members: &'a Map<String, Value>,
    rename: fn(&'a str) -> Cow<'a, str>,
) -> impl Iterator<Item = (Cow<'a, str>, &'a Value)> {
    let (mut found, mut names) = (BTreeSet::new(), FreeNames::default());
    members.iter().map(move |(key, value)| {
        let name = rename(key);
        if !has_nul(&name) {
            return (name, value);
        }
        let name = names.find(&name, |name| members.contains_key(name) || found.contains(name));
        found.insert(name.clone());
        (Cow::Owned(name), value)
    })
}

/// Finds names that are not taken.
///
/// For each name it remembers how far it has looked: n names that become equal cost n looks, not n², and a
/// few bytes more each.
#[derive(Clone, Debug, Default)]
pub(super) struct FreeNames(BTreeMap<String, u32>);

impl FreeNames {
    /// The name with U+FFFD for each NUL. If that is taken, one more U+FFFD follows, and then a number,
    /// from 2.
    pub(super) fn find(&mut self, name: &str, is_taken: impl Fn(&str) -> bool) -> String {
        let base = name.replace('\0', REPLACEMENT);
        if !self.0.contains_key(&base) && !is_taken(&base) {
            return base;
        }
        let tried = self.0.entry(base.clone()).or_default();
        loop {
            *tried += 1;
            let free = match *tried {
                1 => format!("{base}{REPLACEMENT}"),
                nth => format!("{base}{REPLACEMENT}{nth}"),
            };
            if !is_taken(&free) {
                return free;
            }
        }
    }
}

/// True of a text with a NUL in it.
pub(super) fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

/// Hands over the members of an object one after the other, their values as text. What was written here
/// can be read; anything else ends it early.
pub(super) fn each_member<'a>(object: &'a str, each: impl FnMut(Cow<'a, str>, &'a RawValue)) {
    struct InOrder<F>(F);
    impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for InOrder<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(mut self, mut members: M) -> Result<(), M::Error> {
            while let Some((name, value)) = members.next_entry()? {
                (self.0)(name, value);
            }
            Ok(())
        }
    }
    let _ = serde_json::Deserializer::from_str(object).deserialize_map(InOrder(each));
}

/// Drops JSON of any depth without recursion.
pub(super) fn drop_deep(value: Value) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(value: &Value) -> String {
        let (mut out, mut deep) = (Vec::new(), false);
        write_json(&mut out, value, 1, &mut deep);
        String::from_utf8(out).unwrap()
    }

    /// Names of one length that all become the same: each byte is NUL or U+FFFD.
    fn names_that_become_equal(bits: u32) -> impl Iterator<Item = String> {
        (0..1_u32 << bits).map(move |set| {
            (0..bits)
                .map(|bit| if set >> bit & 1 == 0 { '\0' } else { '\u{FFFD}' })
                .collect()
        })
    }

    #[test]
    fn names_that_become_equal_cost_two_looks_each() {
        // 65,536 names of 16 characters: compared pair by pair they would be four billion looks, and
        // a U+FFFD more for each would be 6 GB of text.
        let names: Vec<String> = names_that_become_equal(16).collect();
        let given: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let (mut free, mut found, looks) = (FreeNames::default(), BTreeSet::new(), Cell::new(0));
        for name in names.iter().filter(|name| has_nul(name)) {
            let name = free.find(name, |name| {
                looks.set(looks.get() + 1);
                given.contains(name) || found.contains(name)
            });
            assert!(name.len() <= 16 * 3 + 3 + 5);
            assert!(found.insert(name), "each once");
        }
        assert!(looks.get() <= 2 * names.len(), "{}", looks.get());
        let text = written(&names.into_iter().map(|name| (name, Value::Null)).collect());
        assert!(
            text.len() < 65_536 * (16 * 3 + 3 + 5 + "\"\":null,".len()),
            "{}",
            text.len()
        );
        assert_eq!(
            serde_json::from_str::<Map<String, Value>>(&text).unwrap().len(),
            65_536
        );
    }

    #[test]
    fn names_that_are_taken_on_purpose_cost_one_look_each() {
        let taken: BTreeSet<String> = (2..10_000).map(|nth| format!("k\u{FFFD}\u{FFFD}{nth}")).collect();
        let looks = Cell::new(0);
        let mut free = FreeNames::default();
        let is_taken = |name: &str| {
            looks.set(looks.get() + 1);
            name == "k\u{FFFD}" || name == "k\u{FFFD}\u{FFFD}" || taken.contains(name)
        };
        assert_eq!(free.find("k\0", is_taken), "k\u{FFFD}\u{FFFD}10000");
        assert_eq!(free.find("k\0", is_taken), "k\u{FFFD}\u{FFFD}10001");
        assert_eq!(looks.get(), 10_002);
    }

    /// The obvious way to give each member a name of its own.
    fn named_one_by_one(members: &Map<String, Value>) -> Map<String, Value> {
        let mut named: Map<String, Value> = members
            .iter()
            .filter(|(name, _)| !has_nul(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (name, value) in members.iter().filter(|(name, _)| has_nul(name)) {
            let base = name.replace('\0', REPLACEMENT);
            let later = (2..).map(|nth| format!("{base}{REPLACEMENT}{nth}"));
            let mut names = [base.clone(), format!("{base}{REPLACEMENT}")]
                .into_iter()
                .chain(later);
            let free = names.find(|name| !named.contains_key(name)).unwrap();
            named.insert(free, value.clone());
        }
        named
    }

    proptest! {
        #[test]
        fn members_are_named_as_one_by_one(names in proptest::collection::btree_set("[a2\0\u{FFFD}]{0,4}", 0..60)) {
            let members: Map<String, Value> = names.into_iter().zip(0..).map(|(k, n)| (k, json!(n))).collect();
            let read: Map<String, Value> = serde_json::from_str(&written(&Value::Object(members.clone()))).unwrap();
            prop_assert_eq!(read, named_one_by_one(&members));
        }

        #[test]
        fn a_text_is_written_as_serde_json_writes_it(text in prop_oneof!["\\PC*", any::<String>(), "[ -~\u{7F}]*"]) {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }
}
