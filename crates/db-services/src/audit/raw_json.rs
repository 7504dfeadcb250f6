//! JSON text from elsewhere, made safe without reading its numbers.
//!
//! `serde_json::Value` holds a number as an integer of 64 bits or an `f64`: 0.1000000000000000055 becomes 0.1, and
//! 1E400 is an error. It also refuses nesting below level 128 and escaped surrogates without their partner
//! (RFC 8259, section 8.2). Here numbers stay as they are written, unless a database would expand or reject them, and
//! the rest is made safe.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{REPLACEMENT, TOO_DEEP, write_string, write_text};
use super::limits::METADATA_DEPTH;
use super::members::Members;

/// The largest exponent of a number; beyond it the number becomes text.
const MAX_EXPONENT: u64 = 400;

/// The most characters of a number; a longer one becomes text.
const MAX_DIGITS: usize = 1_000;

/// A text in which each run of surrogates without their partner is U+FFFD.
pub(super) struct LossyText<'a>(Cow<'a, str>);

impl From<LossyText<'_>> for CompactString {
    fn from(text: LossyText<'_>) -> Self {
        text.0.into()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LossyText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // This checks everything but the surrogates.
        let raw: &'de RawValue = Deserialize::deserialize(deserializer)?;
        if !raw.get().starts_with('"') {
            return Err(D::Error::custom(format_args!(
                "invalid type: {}, expected a string",
                kind(raw)
            )));
        }
        text(raw).map_err(D::Error::custom)
    }
}

/// The type of a value, for a message.
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The text of a string.
fn text(value: &RawValue) -> serde_json::Result<LossyText<'_>> {
    // As bytes serde_json reads surrogates too.
    serde_json::Deserializer::from_str(value.get()).deserialize_bytes(TextVisitor)
}

/// The name of a member, which is valid JSON.
struct Name<'a>(LossyText<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = LossyText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(LossyText(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(lossy(bytes)),
        }))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(LossyText(Cow::Owned(lossy(bytes))))
    }
}

fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let follows_another = chunk.valid().is_empty() && text.ends_with(REPLACEMENT);
        if !chunk.invalid().is_empty() && !follows_another {
            text.push_str(REPLACEMENT);
        }
    }
    text
}

/// The members of an object, or nothing if the value is none. Of two members with the same name the later one counts.
pub(super) fn members(
    value: &RawValue,
    rename: fn(&str) -> Cow<'_, str>,
    deep: &mut bool,
) -> Option<Members> {
    if !value.get().starts_with('{') {
        return None;
    }
    Some(object(value, rename, 1, deep))
}

/// Writes a value as compact JSON without NUL, and without anything below level 127.
pub(super) fn write_raw(out: &mut Vec<u8>, value: &RawValue, level: usize, deep: &mut bool) {
    match value.get().as_bytes().first() {
        Some(b'{' | b'[') if level > METADATA_DEPTH => {
            *deep = true;
            write_text(out, TOO_DEEP);
        }
        Some(b'{') => {
            let members = object(value, |name| Cow::Borrowed(name), level, deep);
            out.extend_from_slice(members.as_str().as_bytes());
        }
        Some(b'[') => write_array(out, value, level, deep),
        Some(b'"') => {
            if let Ok(LossyText(text)) = text(value) {
                write_string(out, &text);
            }
        }
        Some(b'-' | b'0'..=b'9') if is_expandable(value.get()) => write_text(out, value.get()),
        _ => out.extend_from_slice(value.get().as_bytes()),
    }
}

/// True for a number that jsonb would store with many more digits than it is written with, or reject: PostgreSQL writes
/// 1e131071 as 131,072 digits, so that an entry of 64 KiB would be a gigabyte to read.
fn is_expandable(number: &str) -> bool {
    let exponent = number
        .split_once(['e', 'E'])
        .map_or("0", |(_, exponent)| exponent);
    exponent
        .parse::<i64>()
        .map_or(true, |exponent| exponent.unsigned_abs() > MAX_EXPONENT)
        || number.len() > MAX_DIGITS
}

/// The value of JSON. A number that a `Value` cannot hold becomes its text.
pub(super) fn to_value(value: &RawValue) -> Value {
    let json = value.get();
    if let Ok(value) = serde_json::from_str(json) {
        return value;
    }
    match json.as_bytes().first() {
        Some(b'{') => {
            let mut members = Map::new();
            let each = EachMember(|name: &str, value| _ = members.insert(name.to_owned(), to_value(value)));
            let _ = serde_json::Deserializer::from_str(json).deserialize_map(each);
            Value::Object(members)
        }
        Some(b'[') => {
            let mut items = Vec::new();
            let _ = serde_json::Deserializer::from_str(json)
                .deserialize_seq(EachItem(|item| items.push(to_value(item))));
            Value::Array(items)
        }
        _ => Value::from(json),
    }
}

/// The members of an object at a level, each within the limits.
fn object(value: &RawValue, rename: fn(&str) -> Cow<'_, str>, level: usize, deep: &mut bool) -> Members {
    let mut members = Members::default();
    // A `RawValue` is valid JSON, so that this cannot fail.
    let _ =
        serde_json::Deserializer::from_str(value.get()).deserialize_map(EachMember(|name: &str, value| {
            members.insert(&rename(name), |out| write_raw(out, value, level + 1, deep));
        }));
    members
}

fn write_array(out: &mut Vec<u8>, value: &RawValue, level: usize, deep: &mut bool) {
    out.push(b'[');
    let mut is_first = true;
    // As above.
    let _ = serde_json::Deserializer::from_str(value.get()).deserialize_seq(EachItem(|item| {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write_raw(out, item, level + 1, deep);
    }));
    out.push(b']');
}

struct EachMember<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for EachMember<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut members: M) -> Result<(), M::Error> {
        while let Some((Name(LossyText(name)), value)) = members.next_entry()? {
            (self.0)(&name, value);
        }
        Ok(())
    }
}

struct EachItem<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for EachItem<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut items: S) -> Result<(), S::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::Value;

    use super::super::Metadata;

    fn stored(text: &str) -> String {
        Metadata::from_json(text).unwrap().as_str().to_owned()
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        for text in [
            r#"{"n":1E400}"#,
            r#"{"n":[0.1000000000000000055,123456789012345678901234567890,-0,1.50]}"#,
        ] {
            assert_eq!(stored(text), text);
        }
        let metadata = Metadata::from_json(r#"{"who":{"arn":"root","n":1E400},"n":[1E400]}"#).unwrap();
        assert_eq!(
            Value::Object(metadata.to_map()),
            json!({"who": {"arn": "root", "n": "1E400"}, "n": ["1E400"]})
        );
    }

    #[test]
    fn a_number_that_is_much_longer_when_it_is_read_becomes_text() {
        let digits = "9".repeat(1_001);
        for number in [
            "1e401",
            "-1E+131071",
            "1e-17000",
            "1E99999999999999999999",
            &digits,
        ] {
            assert_eq!(
                stored(&format!(r#"{{"n":{number}}}"#)),
                format!(r#"{{"n":"{number}"}}"#)
            );
        }
    }

    #[test]
    fn text_is_made_safe_and_kept() {
        assert_eq!(
            stored(r#" { "a" : "\ud800", "b":["\udc00\ud800x\u0000"] } "#),
            "{\"a\":\"\u{FFFD}\",\"b\":[\"\u{FFFD}x\u{FFFD}\"]}"
        );
        assert_eq!(
            stored(r#"{"k\ud800":1,"k":{"x\u0000":1,"x\u0000":2}}"#),
            "{\"k\u{FFFD}\":1,\"k\":{\"x\u{FFFD}\":1,\"x\u{FFFD}\u{FFFD}\":2}}"
        );
    }

    #[test]
    fn the_last_of_equal_members_counts_and_the_reserved_name_is_free() {
        assert_eq!(stored(r#"{"k":1,"k":{"x":1,"x":2}}"#), r#"{"k":{"x":2}}"#);
        assert_eq!(stored(r#"{"_audit":1}"#), r#"{"app._audit":1}"#);
        assert_eq!(stored("null"), "{}");
        assert_eq!(stored("[1E400]"), r#"{"value":[1E400]}"#);
    }

    #[test]
    fn deep_json_is_cut_without_recursion_to_its_end() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let whole = format!(r#"{{"d":{}}}"#, nested(126));
        assert_eq!(stored(&whole), whole);
        for depth in [127, 128, 100_000] {
            let text = stored(&format!(r#"{{"d":{}}}"#, nested(depth)));
            assert!(
                text.contains("nested deeper than 127 levels") && text.len() < 1_000,
                "{text}"
            );
        }
        assert!(Metadata::from_json(&"{\"d\":".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn json_of_small_numbers_is_read_as_serde_json_reads_it(n in any::<i32>(), text in ".*", name in "[a-z\0\u{FFFD}]{0,3}") {
            let value = json!({"a": [n, text, {name.clone(): null}], name: {"b": true}});
            let read = Metadata::from_json(&value.to_string()).unwrap();
            prop_assert_eq!(read.to_map(), Metadata::from(value).to_map());
            let _: Value = serde_json::from_str(read.as_str()).unwrap();
        }
    }
}
