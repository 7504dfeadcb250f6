//! Parameters with the name of a secret within a text: query strings, connection strings, headers, JSON as a text.

use super::names::NameList;
use super::rules::Shape;
use super::shapes::{Found, is_no_word};

/// How a text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Plain,
    /// JSON, in whose strings quotes are escaped. Quotes without a backslash are its own: of names and values that are
    /// read as such.
    Json,
}

/// The value of the parameter whose name, or what looks like one, ends here.
///
/// | text | value |
/// | --- | --- |
/// | `name=value` | up to a separator |
/// | `"name": "value"`, `name="value"` | up to the quote |
/// | `name: value`, `name = value` | if it is no word, as in "invalid token: expected a number"; not in `arn:secret:name` |
pub(super) fn parameter(names: &NameList, text: &str, end: usize, syntax: Syntax) -> Option<Found> {
    let bytes = text.as_bytes();
    let name_end = end + usize::from(bytes.get(end) == Some(&b's'));
    let quote = quote_at(bytes, name_end);
    if quote.is_some_and(|quote| quote.is_syntax(syntax)) {
        return None;
    }
    let after_quote = name_end + quote.map_or(0, Quote::length);
    let sign = skip_spaces(bytes, after_quote);
    let is_pair = matches!(bytes.get(sign), Some(b'=' | b':')) && text[sign..].get(..3) != Some("://");
    if !is_pair || !names.is_secret(text.get(start_of_name(bytes, end)..name_end)?) {
        return None;
    }
    let value = skip_spaces(bytes, sign + 1);
    let range = match quote_at(bytes, value) {
        Some(opening) if opening.is_syntax(syntax) => return None,
        Some(opening) => {
            let start = value + opening.length();
            start..end_of_quoted(bytes, start, opening)
        }
        None => {
            let end = end_of_value(bytes, value);
            let is_tight = quote.is_some() || (bytes[sign] == b'=' && sign == name_end && value == sign + 1);
            let is_secret = match &text[value..end] {
                "true" | "false" | "null" => false,
                word => is_tight || (value > sign + 1 && is_no_word(word.as_bytes())),
            };
            value..if is_secret { end } else { value }
        }
    };
    (!range.is_empty()).then_some(Found {
        range,
        shape: Shape::Parameter,
    })
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

    /// True for a quote of the JSON itself.
    fn is_syntax(self, syntax: Syntax) -> bool {
        syntax == Syntax::Json && self.backslashes == 0 && self.mark == b'"'
    }
}

fn quote_at(text: &[u8], at: usize) -> Option<Quote> {
    /// Text in JSON in JSON in JSON has seven.
    const MAX: usize = 7;
    let backslashes = text
        .get(at..)?
        .iter()
        .take(MAX + 1)
        .take_while(|byte| **byte == b'\\')
        .count();
    let mark = *text.get(at + backslashes)?;
    matches!(mark, b'"' | b'\'').then_some(Quote { backslashes, mark })
}

/// The end of a value that began with this quote: the same quote, or the end of the JSON string around it.
fn end_of_quoted(text: &[u8], start: usize, opening: Quote) -> usize {
    let mut at = start;
    while let Some(found) = memchr::memchr2(opening.mark, b'"', &text[at..]) {
        let mark = at + found;
        let backslashes = text[start..mark]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        if (text[mark] == opening.mark && backslashes <= opening.backslashes) || backslashes == 0 {
            return mark - backslashes;
        }
        at = mark + 1;
    }
    text.len()
}

fn start_of_name(text: &[u8], end: usize) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    text[..end]
        .iter()
        .rposition(|byte| !is_part(byte))
        .map_or(0, |at| at + 1)
}

fn end_of_value(text: &[u8], start: usize) -> usize {
    let is_end = |byte: &u8| *byte <= b' ' || b"&;,\"'\\<>()[]{}#".contains(byte);
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().position(is_end).unwrap_or(rest.len())
}

fn skip_spaces(text: &[u8], start: usize) -> usize {
    /// As many as people write.
    const MAX: usize = 8;
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take(MAX).take_while(|byte| **byte == b' ').count()
}
