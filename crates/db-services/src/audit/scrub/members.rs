//! Scrubs JSON: the texts in it, and the values of members with the names of secrets.

use std::borrow::Cow;
use std::ops::Range;

use super::card;
use super::names::{self, Extent};
use super::rules::Shape;
use super::scrubber::Scrubber;
use super::text::{Replacement, count_work, may_match, replace, scrub_text};
use super::values::{MARKER_START, is_stored_form};
use crate::audit::changes::MASK;
use crate::audit::json::write_text;
use crate::audit::json_reader::Reader;

/// What replaces the value of a member with the name of a secret.
const BY_NAME: &str = Shape::Parameter.marker();

/// The list of [`changes`](crate::audit::AuditEntry::changed).
const CHANGES: &str = "changes";

/// The JSON object without its secrets, if it has any. Its text is compact, and no deeper than the limit. Members for
/// which `is_plain` is true stay.
///
/// Texts are read before they are searched, so that no escape hides a secret, and are replaced as a whole: what is
/// returned is JSON.
pub(super) fn scrub_json(scrubber: &Scrubber, json: &str, is_plain: &dyn Fn(&str) -> bool) -> Option<String> {
    if !may_match(scrubber, json) {
        return None;
    }
    let mut walk = Walk {
        scrubber,
        reader: Reader::over(json),
        json,
        found: Vec::new(),
        next_number: None,
    };
    walk.object(Extent::None, "", Some(is_plain));
    replace(json, walk.found)
}

/// Reads JSON and finds what is to be replaced.
struct Walk<'a> {
    scrubber: &'a Scrubber,
    reader: Reader<'a>,
    json: &'a str,
    found: Vec<Replacement>,
    /// The number of the next marker within a name: of two members with the same name the database keeps one.
    next_number: Option<u32>,
}

impl<'a> Walk<'a> {
    /// Where the next value begins.
    fn start(&mut self) -> usize {
        self.reader.peek();
        self.end()
    }

    /// Where the last value ended.
    fn end(&self) -> usize {
        self.json.len() - self.reader.remaining().len()
    }

    /// `outer` says what is secret in the object, `list` is the name of the list that it is an item of.
    fn object(&mut self, outer: Extent, list: &str, is_plain: Option<&dyn Fn(&str) -> bool>) {
        let (mut values, mut named) = (Vec::new(), Extent::None);
        self.reader.skip();
        while self.reader.has_more() {
            let name = self.name();
            if is_plain.is_some_and(|is_plain| is_plain(&name)) {
                self.reader.skip_value();
                continue;
            }
            let is_path = list == CHANGES && name == "path";
            if is_path || names::is_naming(&name) {
                named = named.max(self.named_by_text(is_path));
            }
            let start = self.start();
            let is_number = matches!(self.reader.peek(), Some(b'-' | b'0'..=b'9'));
            let is_value = names::is_value(&name) && self.is_scrubbable();
            self.member(&name, outer);
            if is_value {
                values.push((start..self.end(), is_number));
            }
        }
        let values = values.into_iter().filter(|(_, is_number)| match named {
            Extent::None => false,
            // `max_tokens` from 1 to 2 is a count.
            Extent::Count => !is_number,
            Extent::Values | Extent::All => true,
        });
        self.found.extend(values.map(|(range, _)| by_name(range)));
    }

    /// Reads the name of a member, and scrubs it.
    fn name(&mut self) -> Cow<'a, str> {
        let start = self.start();
        let raw = self.reader.scalar();
        let range = start..start + raw.len();
        let name = Reader::over(raw).text();
        self.reader.peek();
        self.reader.skip();
        if let Some(scrubbed) = scrub_text(self.scrubber, &name) {
            let number = self.next_number.unwrap_or_else(|| first_free_number(self.json));
            self.next_number = Some(number.saturating_add(1));
            let scrubbed = match number {
                1 => scrubbed,
                _ => format!("{scrubbed} {number}"),
            };
            self.found.push(as_json(range, &scrubbed));
        }
        name
    }

    /// What is secret of the member that the next value, a text, names: `{"name": "password", "value": …}`.
    fn named_by_text(&mut self, is_path: bool) -> Extent {
        /// Longer ones name nothing.
        const MAX_WORDS: usize = 2;
        if self.reader.peek() != Some(b'"') {
            return Extent::None;
        }
        let text = Reader::over(self.reader.remaining()).text();
        count_work(text.len());
        let names = self.scrubber.names();
        match is_path {
            true => names.extent_of_path(&text),
            false if text.split_whitespace().count() > MAX_WORDS => Extent::None,
            false => names.extent(&text),
        }
    }

    /// False for what is no secret, whatever its name: null, true, false, an empty text, and what was one.
    fn is_scrubbable(&mut self) -> bool {
        match self.reader.peek() {
            Some(b'n' | b't' | b'f') => false,
            Some(b'"') => !is_marker(self.reader.remaining()),
            _ => true,
        }
    }

    fn member(&mut self, name: &str, outer: Extent) {
        let extent = self.scrubber.names().extent(name).max(names::within(outer, name));
        match (extent, self.reader.peek()) {
            // `tokens: 3` is a count.
            (extent, Some(b'0'..=b'9' | b'-')) if extent != Extent::None && names::is_plural(name) => {
                self.reader.scalar();
            }
            (_, Some(b'"')) if self.is_of_aws(name) => _ = self.reader.scalar(),
            _ => self.value(extent, name),
        }
    }

    /// True for an AWS access key id, and for the session token that CloudTrail records: without the secret key neither
    /// is of use, and the first is how events are traced.
    fn is_of_aws(&self, name: &str) -> bool {
        let value = self.reader.remaining();
        let is_id = |value: &str| {
            let id = value.get(1..21).unwrap_or_default();
            value.get(21..22) == Some("\"")
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        (names::fold(name).ends_with("accesskeyid") && is_id(value))
            || (name == "sessionToken" && value.starts_with("\"IQoJb3JpZ2lu"))
    }

    fn value(&mut self, extent: Extent, name: &str) {
        match self.reader.peek() {
            Some(b'{') => self.object(extent, name, None),
            Some(b'[') => {
                self.reader.skip();
                while self.reader.has_more() {
                    self.value(extent, name);
                }
            }
            next => {
                let start = self.start();
                let is_secret = extent != Extent::None && self.is_scrubbable();
                let scalar = self.reader.scalar();
                let range = start..start + scalar.len();
                match next {
                    _ if is_secret => self.found.push(by_name(range)),
                    Some(b'"') => {
                        let text = Reader::over(scalar).text();
                        let scrubbed = scrub_text(self.scrubber, &text);
                        self.found.extend(scrubbed.map(|text| as_json(range, &text)));
                    }
                    Some(b'0'..=b'9') if self.is_card(scalar) => {
                        self.found.push(as_json(range, Shape::Card.marker()))
                    }
                    _ => {}
                }
            }
        }
    }

    fn is_card(&self, number: &str) -> bool {
        let mut is_card = false;
        if self.scrubber.looks_for(Shape::Card) {
            card::find(number.as_bytes(), |range| is_card |= range.len() == number.len());
        }
        is_card
    }
}

fn by_name(range: Range<usize>) -> Replacement {
    as_json(range, BY_NAME)
}

fn as_json(range: Range<usize>, text: &str) -> Replacement {
    let mut json = Vec::with_capacity(text.len() + 2);
    write_text(&mut json, text);
    Replacement {
        range,
        marker: String::from_utf8(json).unwrap_or_default().into(),
    }
}

/// True if the JSON string that begins here is empty, or what replaced a secret before.
fn is_marker(json: &str) -> bool {
    let text = json
        .get(1..)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    text.is_empty() || text == MASK || Shape::is_marker(text) || is_stored_form(text)
}

/// The first number that follows no marker in this text; one without a number is the first.
fn first_free_number(json: &str) -> u32 {
    /// A marker with its number is shorter.
    const MAX_BYTES: usize = 64;
    /// A longer number is never reached.
    const MAX_DIGITS: usize = 8;
    count_work(json.len());
    let markers = memchr::memmem::find_iter(json.as_bytes(), MARKER_START).map(|at| {
        let near = json.as_bytes().get(at..).unwrap_or_default();
        let near = near.get(..MAX_BYTES).unwrap_or(near);
        count_work(near.len());
        let after = near
            .iter()
            .position(|byte| *byte == b']')
            .map_or(near.len(), |end| end + 2);
        let digits = near.get(after..).unwrap_or_default();
        let digits: Vec<u8> = digits
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .take(MAX_DIGITS + 1)
            .collect();
        let number = std::str::from_utf8(&digits)
            .ok()
            .filter(|digits| digits.len() <= MAX_DIGITS);
        number.and_then(|number| number.parse().ok()).unwrap_or(1_u32)
    });
    markers.max().map_or(1, |last| last.saturating_add(1))
}
