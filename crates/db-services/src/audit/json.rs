//! How is JSON written and read as text: without NUL, and no deeper than what can be read back?

use std::borrow::Cow;
use std::collections::BTreeSet;
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
            write_scalar(out, TOO_DEEP);
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
                write_scalar(out, &*name);
                out.push(b':');
                write_json(out, item, level + 1, deep);
            }
            out.push(b'}');
        }
        Value::String(text) if has_nul(text) => write_scalar(out, &*text.replace('\0', REPLACEMENT)),
        scalar => write_scalar(out, scalar),
    }
}

/// Writes a text, a number, true, false or null.
pub(super) fn write_scalar(out: &mut Vec<u8>, scalar: &(impl Serialize + ?Sized)) {
    // Into memory, and of what has no names that could be no text: nothing in it can fail.
    let _ = serde_json::to_writer(out, scalar);
}

/// Writes a member of an object that has no closing brace yet, the first with the opening one.
pub(super) fn write_member(out: &mut Vec<u8>, name: &str, value: &RawValue) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    write_scalar(out, name);
    out.push(b':');
    out.extend_from_slice(value.get().as_bytes());
}

/// The members of an object under the names they are written with: renamed, without NUL, and none with
/// another's name.
pub(super) fn named<'a>(
    members: &'a Map<String, Value>,
    rename: fn(&'a str) -> Cow<'a, str>,
) -> impl Iterator<Item = (Cow<'a, str>, &'a Value)> {
    let mut found = BTreeSet::new();
    members.iter().map(move |(key, value)| {
        let name = rename(key);
        if !has_nul(&name) {
            return (name, value);
        }
        let name = without_nul(&name, |name| members.contains_key(name) || found.contains(name));
        found.insert(name.clone());
        (Cow::Owned(name), value)
    })
}

/// The name with U+FFFD for each NUL, and as many more as it takes not to be taken.
pub(super) fn without_nul(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.replace('\0', REPLACEMENT);
    while is_taken(&free) {
        free.push_str(REPLACEMENT);
    }
    free
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
