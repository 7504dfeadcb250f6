//! Parameters with the name of a secret within a text: query strings, connection strings, headers, JSON as a text.

use std::ops::Range;

use super::names::NameList;
use super::rules::Shape;
use super::shapes::{Found, is_no_word};
use super::text::{count_work, end_while};
use super::values::begins_with_marker;

/// Looks for the values of parameters in a text, from its beginning to its end.
///
/// | text | value |
/// | --- | --- |
/// | `name=value`, `a[name]=value` | up to a separator |
/// | `"name": "value"`, `name="value"`, `"name" => "value"` | up to the quote |
/// | `<name>value</name>` | up to the next tag |
/// | `Cookie: value` | up to the end of the line |
/// | `name: value`, `name = value` | if it is no word, as in "invalid token: expected a number"; not in `arn:secret:name` |
pub(super) struct Parameters<'a> {
    names: &'a NameList,
    text: &'a str,
    /// What lies before was examined: to do so again for each name in one long word would take time by the square of its
    /// length.
    done: usize,
}

/// What is between a name and its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// `=` without spaces.
    Tight,
    /// After a quoted name.
    Quoted,
    /// With spaces.
    Loose,
    Tag,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(names: &'a NameList, text: &'a str) -> Self {
        Self { names, text, done: 0 }
    }

    /// The value of the parameter in whose name this place is, or in what looks like one.
    pub(super) fn value_at(&mut self, place: usize) -> Option<Found> {
        if place <= self.done {
            return None;
        }
        let bytes = self.text.as_bytes();
        let name = word_around(bytes, place);
        self.done = name.end;
        let (sign, value) = sign_after(bytes, &name)?;
        let (name, is_cookie) = (self.text.get(name)?, |name: &str| {
            name.to_ascii_lowercase().ends_with("cookie")
        });
        if !self.names.is_secret(name) {
            return None;
        }
        let value = value
            + if bytes[value..].starts_with(b"Some(") {
                b"Some(".len()
            } else {
                0
            };
        let opening = quote_at(bytes, value);
        if begins_with_marker(self.text.get(value + opening.map_or(0, Quote::length)..)?) {
            return None;
        }
        let range = match (sign, opening) {
            (Sign::Tag, _) => value..end_while(bytes, value, |byte| byte != b'<'),
            (_, Some(opening)) => {
                let start = value + opening.length();
                start..end_of_quoted(bytes, start, opening)
            }
            (Sign::Loose, None) if is_cookie(name) => {
                let line = value..end_while(bytes, value, |byte| !matches!(byte, b'\r' | b'\n'));
                if !bytes[line.clone()].contains(&b'=') {
                    return None;
                }
                line
            }
            (_, None) => {
                // Of an object.
                let is_bracket = |byte| sign == Sign::Quoted && matches!(byte, b'}' | b']' | b')');
                let end = end_while(bytes, value, |byte| !is_separator(byte) && !is_bracket(byte));
                let word = self.text.get(value..end)?;
                let is_count = name.ends_with(['s', 'S']) && word.bytes().all(|byte| byte.is_ascii_digit());
                let is_secret = sign != Sign::Loose || is_no_word(word.as_bytes());
                if is_count || !is_secret || matches!(word, "true" | "false" | "null" | "None") {
                    return None;
                }
                value..end
            }
        };
        self.done = self.done.max(range.end);
        (!range.is_empty()).then_some(Found {
            range,
            shape: Shape::Parameter,
        })
    }
}

/// What closes the name of a member of a form, `user[password]`.
const CLOSINGS: [&[u8]; 3] = [b"]", b"%5D", b"%5d"];

/// The sign after a name, and where its value begins.
fn sign_after(text: &[u8], name: &Range<usize>) -> Option<(Sign, usize)> {
    let rest = |at: usize| text.get(at..).unwrap_or_default();
    if rest(name.end).starts_with(b">") && text[..name.start].ends_with(b"<") {
        return Some((Sign::Tag, name.end + 1));
    }
    let closed = CLOSINGS
        .iter()
        .find(|closing| rest(name.end).starts_with(closing));
    let quote = quote_at(text, name.end);
    let after = name.end + closed.map_or(0, |closing| closing.len()) + quote.map_or(0, Quote::length);
    let sign = skip_spaces(text, after);
    let length = match rest(sign) {
        [b'=', b'>', ..] | [b':', b'=', ..] => 2,
        [b'=' | b':', ..] => 1,
        _ => return None,
    };
    let value = skip_spaces(text, sign + length);
    let is_tight = text[sign] == b'=' && sign == after && value == sign + length;
    // `arn:aws:…:secret:name`: no pair.
    let is_colon = text[sign] == b':' && quote.is_none() && length == 1;
    if is_colon && value == sign + 1 && quote_at(text, value).is_none() {
        return None;
    }
    let sign = match quote {
        Some(_) => Sign::Quoted,
        None if is_tight => Sign::Tight,
        None => Sign::Loose,
    };
    Some((sign, value))
}

/// A quote, and the backslashes before it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Quote {
    backslashes: usize,
    mark: u8,
}

impl Quote {
    fn length(self) -> usize {
        self.backslashes + 1
    }
}

fn quote_at(text: &[u8], at: usize) -> Option<Quote> {
    /// Text in JSON in JSON in JSON has seven.
    const MAX: usize = 7;
    let rest = text.get(at..)?;
    let backslashes = rest
        .iter()
        .take(MAX + 1)
        .take_while(|byte| **byte == b'\\')
        .count();
    let mark = *rest.get(backslashes)?;
    (backslashes <= MAX && matches!(mark, b'"' | b'\'')).then_some(Quote { backslashes, mark })
}

/// The end of a value that began with this quote: the same quote, or one that is less escaped.
fn end_of_quoted(text: &[u8], start: usize, opening: Quote) -> usize {
    let mut at = start;
    while let Some(found) = memchr::memchr(opening.mark, &text[at..]) {
        let mark = at + found;
        count_work(found + 1);
        let backslashes = text[at..mark]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        if backslashes <= opening.backslashes {
            return mark - backslashes;
        }
        at = mark + 1;
    }
    text.len()
}

/// The word around a place.
fn word_around(text: &[u8], place: usize) -> Range<usize> {
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || byte >= 0x80;
    let start = text[..place]
        .iter()
        .rposition(|byte| !is_part(*byte))
        .map_or(0, |at| at + 1);
    // Of an encoded `[` only the sign is no part of a word.
    let is_encoded = text[..start].ends_with(b"%")
        && text[start..place]
            .get(..2)
            .is_some_and(|digits| digits.eq_ignore_ascii_case(b"5B"));
    let start = start + if is_encoded { 2 } else { 0 };
    count_work(place - start);
    start..end_while(text, place, is_part)
}

fn is_separator(byte: u8) -> bool {
    byte <= b' ' || b"&;,\"'\\".contains(&byte)
}

fn skip_spaces(text: &[u8], start: usize) -> usize {
    /// As many as people write.
    const MAX: usize = 8;
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take(MAX).take_while(|byte| **byte == b' ').count()
}
