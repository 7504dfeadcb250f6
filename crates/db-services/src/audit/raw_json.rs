//! JSON text from elsewhere, made safe without reading its numbers.
//!
//! `serde_json::Value` holds a number as an integer of 64 bits or an `f64`: 0.1000000000000000055 becomes 0.1, and
//! 1E400 is an error. It also refuses nesting below level 128 and escaped surrogates without their partner
//! (RFC 8259, section 8.2). Here numbers stay as they are written, unless a database would expand or reject them, and
//! the rest is made safe.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use compact_str::CompactString;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{FreeNames, REPLACEMENT, TOO_DEEP, write_string, write_text};
use super::json_reader::Reader;
use super::limits::METADATA_DEPTH;
use super::members::{Members, may_become_equal};

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
        text(raw.get()).map(Self).map_err(D::Error::custom)
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

/// The text of a string, which is valid JSON.
pub(super) fn text(string: &str) -> serde_json::Result<Cow<'_, str>> {
    // As bytes serde_json reads surrogates too.
    serde_json::Deserializer::from_str(string)
        .deserialize_bytes(TextVisitor)
        .map(|LossyText(text)| text)
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
    let mut reader = Reader::new(value);
    if reader.peek() != Some(b'{') {
        return None;
    }
    reader.skip();
    let mut members = Members::default();
    while reader.has_more() {
        let name = reader.name();
        members.insert(&rename(&name), |out| write(out, &mut reader, 2, deep));
    }
    Some(members)
}

/// Writes a value as compact JSON without NUL, and without anything below level 127.
pub(super) fn write_raw(out: &mut Vec<u8>, value: &RawValue, level: usize, deep: &mut bool) {
    write(out, &mut Reader::new(value), level, deep);
}

fn write(out: &mut Vec<u8>, reader: &mut Reader<'_>, level: usize, deep: &mut bool) {
    let mut replaced = Vec::new();
    Writer {
        out,
        replaced: &mut replaced,
        deep,
    }
    .value(reader, level);
    if !replaced.is_empty() {
        *out = without(out, replaced);
    }
}

/// Writes values at the end of a text, each byte once: to copy the text of each level into that of the level above
/// would cost the depth times the size.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Members that a later one with the same name replaced. They are removed at the end.
    replaced: &'a mut Vec<Range<usize>>,
    deep: &'a mut bool,
}

impl Writer<'_> {
    fn value(&mut self, reader: &mut Reader<'_>, level: usize) {
        match reader.peek() {
            Some(b'{' | b'[') if level > METADATA_DEPTH => {
                *self.deep = true;
                reader.skip_value();
                write_text(self.out, TOO_DEEP);
            }
            Some(b'{') => self.object(reader, level),
            Some(b'[') => self.array(reader, level),
            Some(b'"') => write_string(self.out, &reader.text()),
            Some(b'-' | b'0'..=b'9') => match reader.scalar() {
                number if is_expandable(number) => write_text(self.out, number),
                number => self.out.extend_from_slice(number.as_bytes()),
            },
            _ => self.out.extend_from_slice(reader.scalar().as_bytes()),
        }
    }

    fn object(&mut self, reader: &mut Reader<'_>, level: usize) {
        let (mut places, mut free) = (BTreeMap::new(), FreeNames::default());
        reader.skip();
        self.out.push(b'{');
        while reader.has_more() {
            let mut name = reader.name();
            if may_become_equal(&name) {
                name = Cow::Owned(free.find(&name, |name| places.contains_key(name)));
            }
            let begin = self.out.len();
            write_text(self.out, &name);
            self.out.push(b':');
            self.value(reader, level + 1);
            self.out.push(b',');
            let earlier = places.insert(name.into_owned(), begin..self.out.len());
            self.replaced.extend(earlier);
        }
        self.close(b'}');
    }

    fn array(&mut self, reader: &mut Reader<'_>, level: usize) {
        reader.skip();
        self.out.push(b'[');
        while reader.has_more() {
            self.value(reader, level + 1);
            self.out.push(b',');
        }
        self.close(b']');
    }

    /// Ends an array or an object. No later item replaces the last one, so that the last comma is superfluous.
    fn close(&mut self, bracket: u8) {
        if self.out.ends_with(b",") {
            self.out.pop();
        }
        self.out.push(bracket);
    }
}

/// The text without these parts, of which some may contain others.
fn without(text: &[u8], mut parts: Vec<Range<usize>>) -> Vec<u8> {
    parts.sort_unstable_by_key(|part| part.start);
    let (mut rest, mut from) = (Vec::with_capacity(text.len()), 0);
    for part in parts {
        rest.extend_from_slice(text.get(from..part.start).unwrap_or_default());
        from = from.max(part.end);
    }
    rest.extend_from_slice(&text[from..]);
    rest
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

/// The value of JSON that is no deeper than what is written here. A number that a `Value` cannot hold becomes its text.
pub(super) fn to_value(value: &RawValue) -> Value {
    serde_json::from_str(value.get()).unwrap_or_else(|_| read_value(&mut Reader::new(value)))
}

fn read_value(reader: &mut Reader<'_>) -> Value {
    match reader.peek() {
        Some(b'{') => {
            reader.skip();
            let mut members = Map::new();
            while reader.has_more() {
                let name = reader.name().into_owned();
                members.insert(name, read_value(reader));
            }
            Value::Object(members)
        }
        Some(b'[') => {
            reader.skip();
            let mut items = Vec::new();
            while reader.has_more() {
                items.push(read_value(reader));
            }
            Value::Array(items)
        }
        Some(b'"') => Value::from(reader.text()),
        _ => {
            let scalar = reader.scalar();
            serde_json::from_str(scalar).unwrap_or_else(|_| Value::from(scalar))
        }
    }
}

#[cfg(test)]
#[path = "raw_json_tests.rs"]
mod tests;
