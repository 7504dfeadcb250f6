//! Finds secrets in a text, and replaces them.

use std::borrow::Cow;
use std::ops::Range;

use super::card;
use super::parameter::Parameters;
use super::rules::Shape;
use super::scrubber::{Match, Scrubber};
use super::shapes::{Form, verify};

/// A shorter text holds no secret that has a shape.
const MIN_BYTES: usize = 6;

/// Counts bytes that are looked at. The tests demand that their number grows with the length of a text, not with its square.
#[inline]
pub(super) fn count_work(bytes: usize) {
    #[cfg(test)]
    super::tests::WORK.set(super::tests::WORK.get() + bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

/// True if the text ends with an escape of JSON in a text, such as `\n` or `\u0001`, which is part of no word.
pub(super) fn is_escape(before: &[u8]) -> bool {
    match before {
        [.., b'\\', b'n' | b't' | b'r' | b'b' | b'f'] => true,
        [.., b'\\', b'u', a, b, c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    }
}

/// The end of the bytes of a kind that begin here.
pub(super) fn end_while(text: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| is_part(**byte)).count();
    count_work(length + 1);
    start + length
}

/// A part of a text, and what replaces it.
pub(super) struct Replacement {
    pub(super) range: Range<usize>,
    pub(super) marker: Cow<'static, str>,
}

/// The text without its secrets, if it has any.
pub(super) fn scrub_text(scrubber: &Scrubber, text: &str) -> Option<String> {
    count_work(text.len());
    if text.len() < MIN_BYTES {
        return None;
    }
    let mut found = Vec::new();
    if scrubber.may_match(text) {
        find_patterns(scrubber, text, &mut found);
    }
    if may_have_card(scrubber, text) {
        card::find(text.as_bytes(), |range| {
            found.push(Replacement::of(range, Shape::Card))
        });
    }
    // A marker may be found again where it is quoted.
    replace(text, found).filter(|scrubbed| scrubbed != text)
}

/// False for a text that certainly holds no secret and no name of one, as hardly any text does.
pub(super) fn may_match(scrubber: &Scrubber, text: &str) -> bool {
    scrubber.may_match(text) || may_have_card(scrubber, text)
}

fn may_have_card(scrubber: &Scrubber, text: &str) -> bool {
    scrubber.looks_for(Shape::Card) && card::may_occur(text.as_bytes())
}

/// Adds what begins like a secret and is one, and the values of parameters.
fn find_patterns(scrubber: &Scrubber, text: &str, found: &mut Vec<Replacement>) {
    let mut parameters = Parameters::new(scrubber.names(), text);
    // To look again at what is found already would take time by the square of the length. A private key may begin within
    // another secret and end beyond it.
    let (mut after_key, mut after_pem) = (0, 0);
    for occurrence in scrubber.matches(text) {
        let secret = match occurrence {
            Match::Pattern(pattern, _) if !scrubber.looks_for(pattern.shape()) => continue,
            Match::Pattern(pattern, start) => {
                let after = match pattern.form {
                    Form::Pem => &mut after_pem,
                    _ => &mut after_key,
                };
                let is_new = start >= *after;
                let secret = is_new.then(|| verify(pattern, text.as_bytes(), start)).flatten();
                *after = secret.as_ref().map_or(*after, |secret| secret.range.end);
                secret
            }
            Match::Name(_) if !scrubber.looks_for(Shape::Parameter) => continue,
            Match::Name(end) => parameters.value_at(end),
        };
        found.extend(secret.map(|secret| Replacement::of(secret.range, secret.shape)));
    }
}

impl Replacement {
    fn of(range: Range<usize>, shape: Shape) -> Self {
        Self {
            range,
            marker: shape.marker().into(),
        }
    }
}

/// The text with these parts replaced; nothing if there are none. Of overlapping parts the first, longer one counts, of
/// equal ones the last.
pub(super) fn replace(text: &str, mut found: Vec<Replacement>) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    found.reverse();
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
