//! Finds secrets in a text, and replaces them.

use std::borrow::Cow;
use std::ops::Range;

use super::parameter::{Syntax, parameter};
use super::rules::{Match, Scrubber, Shape};
use super::shapes::{Search, is_access_key_id};
use super::values::{MARKER_START, is_stored_form};
use super::{card, names};
use crate::audit::changes::MASK;
use crate::audit::json_reader::Reader;

/// A shorter text holds no secret that has a shape.
const MIN_BYTES: usize = 10;

/// What replaces the value of a member with the name of a secret.
const BY_NAME: &str = Shape::Parameter.marker();

/// A part of a text, and what replaces it.
struct Replacement {
    range: Range<usize>,
    marker: Cow<'static, str>,
}

/// The text without its secrets, if it has any.
pub(super) fn scrub_text(scrubber: &Scrubber, text: &str) -> Option<String> {
    if text.len() < MIN_BYTES {
        return None;
    }
    let (found, _) = find_shapes(scrubber, text, Syntax::Plain);
    replace(text, found)
}

/// The JSON object without its secrets, if it has any. Its text is compact, and no deeper than the limit. Members for
/// which `is_plain` is true stay.
pub(super) fn scrub_json(scrubber: &Scrubber, json: &str, is_plain: &dyn Fn(&str) -> bool) -> Option<String> {
    let (mut found, has_names) = find_shapes(scrubber, json, Syntax::Json);
    if found.is_empty() && !has_names {
        return None;
    }
    let mut walk = Walk {
        scrubber,
        reader: Reader::over(json),
        length: json.len(),
        found: Vec::new(),
        plain: Vec::new(),
    };
    walk.object(Kind::Ordinary, Some(is_plain));
    found.sort_by_key(|one| one.range.start);
    found.retain(|one| !is_access_key_id(json, &one.range) && !is_within(&walk.plain, &one.range));
    adapt_to_json(json, &mut found);
    found.append(&mut walk.found);
    replace(json, found)
}

/// True if one of the parts, which are in their order, contains this one.
fn is_within(parts: &[Range<usize>], inner: &Range<usize>) -> bool {
    let after = parts.partition_point(|part| part.start <= inner.start);
    let before = after.checked_sub(1).and_then(|at| parts.get(at));
    before.is_some_and(|part| inner.end <= part.end)
}

/// What has the shape of a secret, and whether there may be a member with the name of one.
fn find_shapes(scrubber: &Scrubber, text: &str, syntax: Syntax) -> (Vec<Replacement>, bool) {
    let mut found = Vec::new();
    // Each look at a text asks first whether a longer one is needed: hardly a text has a secret.
    let has_names = scrubber.may_match(text) && find_patterns(scrubber, text, syntax, &mut found);
    if scrubber.looks_for(Shape::Card) && card::may_occur(text.as_bytes()) {
        card::find(text.as_bytes(), |range| {
            found.push(Replacement::of(range, Shape::Card))
        });
    }
    (found, has_names)
}

/// Adds what begins like a secret and is one. True if there may be a member with the name of one.
#[inline(never)]
fn find_patterns(scrubber: &Scrubber, text: &str, syntax: Syntax, found: &mut Vec<Replacement>) -> bool {
    let mut has_names = false;
    let mut search = Search::new(text.as_bytes());
    // To look again at what is found already would take time by the square of the length: `token=token=token=…`.
    let mut covered = 0;
    for occurrence in scrubber.matches(text) {
        let secret = match occurrence {
            Match::Pattern(_, start) if start < covered => continue,
            Match::Pattern(pattern, start) => search.verify(pattern, start),
            Match::Name(end) => {
                has_names = true;
                (end >= covered)
                    .then(|| parameter(scrubber.names(), text, end, syntax))
                    .flatten()
            }
        };
        if let Some(secret) = secret.filter(|secret| scrubber.looks_for(secret.shape)) {
            covered = covered.max(secret.range.end);
            found.push(Replacement::of(secret.range, secret.shape));
        }
    }
    has_names
}

impl Replacement {
    fn of(range: Range<usize>, shape: Shape) -> Self {
        Self {
            range,
            marker: shape.marker().into(),
        }
    }
}

/// Makes the markers fit into JSON: a number becomes a text, and markers within names are numbered, because of two
/// members with the same name the database keeps one.
fn adapt_to_json(json: &str, found: &mut [Replacement]) {
    let (mut strings, mut named) = (Strings::default(), first_free_number(json));
    for one in found {
        match strings.at(json.as_bytes(), one.range.start) {
            Place::Outside => one.marker = format!("\"{}\"", one.marker).into(),
            Place::Value => {}
            Place::Name => {
                if let (2.., Some(marker)) = (named, one.marker.strip_suffix(']')) {
                    one.marker = format!("{marker} {named}]").into();
                }
                named += 1;
            }
        }
    }
}

/// The first number that no marker in this text has; one without a number is the first.
fn first_free_number(json: &str) -> u64 {
    let markers = memchr::memmem::find_iter(json.as_bytes(), MARKER_START);
    let numbers = markers.map(|at| {
        let marker = json[at..].split(']').next().unwrap_or_default();
        let number = marker.rsplit(' ').next().unwrap_or_default();
        number.parse::<u64>().unwrap_or(1)
    });
    numbers.max().map_or(1, |last| last.saturating_add(1))
}

/// Where in JSON something is.
#[derive(Clone, Copy)]
enum Place {
    Outside,
    /// In the name of a member.
    Name,
    /// In another string.
    Value,
}

/// The strings of JSON, read from its beginning to its end.
#[derive(Default)]
struct Strings {
    /// How far it was read: the end of a string, or 0.
    end: usize,
    /// The beginning of the string that ends there.
    start: usize,
}

impl Strings {
    /// Says in what this place is. Places are asked for in their order.
    fn at(&mut self, json: &[u8], place: usize) -> Place {
        while self.end <= place {
            let next = memchr::memchr(b'"', &json[self.end..]);
            self.start = next.map_or(json.len(), |next| self.end + next);
            self.end = end_of_string(json, self.start);
        }
        match json.get(self.end) {
            _ if place < self.start => Place::Outside,
            Some(b':') => Place::Name,
            _ => Place::Value,
        }
    }
}

/// The end of the string that begins here, behind its quote.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// What a value belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    /// A member with the name of a secret.
    Secret,
}

/// Reads JSON and finds the members with the names of secrets.
struct Walk<'a> {
    scrubber: &'a Scrubber,
    reader: Reader<'a>,
    length: usize,
    found: Vec<Replacement>,
    /// The members that stay as they are.
    plain: Vec<Range<usize>>,
}

impl<'a> Walk<'a> {
    /// Where the next value begins.
    fn start(&mut self) -> usize {
        self.reader.peek();
        self.end()
    }

    /// Where the last value ended.
    fn end(&self) -> usize {
        self.length - self.reader.remaining().len()
    }

    fn object(&mut self, kind: Kind, is_plain: Option<&dyn Fn(&str) -> bool>) {
        let (mut values, mut names_secret) = (Vec::new(), false);
        self.reader.skip();
        while self.reader.has_more() {
            let name = self.reader.name();
            let start = self.start();
            if is_plain.is_some_and(|is_plain| is_plain(&name)) {
                self.reader.skip_value();
                self.plain.push(start..self.end());
                continue;
            }
            names_secret |= names::is_naming(&name) && self.is_name_of_secret();
            let can_be_secret = names::is_value(&name) && self.is_scrubbable();
            self.member(&name, kind);
            if can_be_secret {
                values.push(start..self.end());
            }
        }
        if names_secret {
            self.found.extend(values.into_iter().map(by_name));
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

    /// True if the value that comes next is a text that is the name of a secret.
    fn is_name_of_secret(&mut self) -> bool {
        const MAX_NAME: usize = 256;
        let rest = self.reader.remaining();
        let Some(rest) = rest.strip_prefix('"') else {
            return false;
        };
        let name = rest.split('"').next().unwrap_or_default();
        name.len() <= MAX_NAME && !name.contains(' ') && self.scrubber.names().is_secret(name)
    }

    fn member(&mut self, name: &str, outer: Kind) {
        let kind = match outer {
            Kind::Secret if !names::is_attribute(name) => Kind::Secret,
            _ if self.scrubber.names().is_secret(name) => Kind::Secret,
            _ => Kind::Ordinary,
        };
        match (kind, self.reader.peek()) {
            // `credentials` is a group: its members have names of their own.
            (Kind::Secret, Some(b'{')) if names::is_group(name) => self.object(Kind::Ordinary, None),
            // `tokens: 3` is a count.
            (Kind::Secret, Some(b'0'..=b'9' | b'-')) if names::is_plural(name) => _ = self.reader.scalar(),
            (Kind::Secret, Some(b'"')) if self.is_recorded_session(name) => _ = self.reader.scalar(),
            _ => self.value(kind),
        }
    }

    /// True for the session token that AWS CloudTrail records, without the secret key that belongs to it.
    fn is_recorded_session(&self, name: &str) -> bool {
        name == "sessionToken" && self.reader.remaining().starts_with("\"IQoJb3JpZ2lu")
    }

    fn value(&mut self, kind: Kind) {
        match self.reader.peek() {
            Some(b'{') => self.object(kind, None),
            Some(b'[') => {
                self.reader.skip();
                while self.reader.has_more() {
                    self.value(kind);
                }
            }
            _ => {
                let start = self.start();
                let is_secret = kind == Kind::Secret && self.is_scrubbable();
                self.reader.scalar();
                if is_secret {
                    self.found.push(by_name(start..self.end()));
                }
            }
        }
    }
}

fn by_name(range: Range<usize>) -> Replacement {
    Replacement {
        range,
        marker: format!("\"{BY_NAME}\"").into(),
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

/// The text with these parts replaced; nothing if there are none. Of overlapping parts the first, longer one counts.
fn replace(text: &str, mut found: Vec<Replacement>) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    found.sort_by_key(|one| (one.range.start, std::cmp::Reverse(one.range.end)));
    let (mut result, mut end) = (String::with_capacity(text.len()), 0);
    for one in found {
        if one.range.start >= end {
            result.push_str(text.get(end..one.range.start)?);
            result.push_str(&one.marker);
        }
        end = end.max(one.range.end);
    }
    result.push_str(text.get(end..)?);
    Some(result)
}
