//! Finds secrets in a text, and replaces them.

use std::borrow::Cow;
use std::ops::Range;

use super::card;
use super::parameter::Parameters;
use super::rules::{Match, Scrubber, Shape};
use super::shapes::{Form, Search};

/// A shorter text holds no secret that has a shape.
const MIN_BYTES: usize = 6;

/// A part of a text, and what replaces it.
pub(super) struct Replacement {
    pub(super) range: Range<usize>,
    pub(super) marker: Cow<'static, str>,
}

/// The text without its secrets, if it has any.
pub(super) fn scrub_text(scrubber: &Scrubber, text: &str) -> Option<String> {
    if text.len() < MIN_BYTES || !may_match(scrubber, text) {
        return None;
    }
    let mut found = Vec::new();
    if scrubber.may_match(text) {
        find_patterns(scrubber, text, &mut found);
    }
    if scrubber.looks_for(Shape::Card) {
        card::find(text.as_bytes(), |range| {
            found.push(Replacement::of(range, Shape::Card))
        });
    }
    // A marker may be found again where it is quoted.
    replace(text, found).filter(|scrubbed| scrubbed != text)
}

/// False for a text that certainly holds no secret and no name of one, as hardly any text does.
pub(super) fn may_match(scrubber: &Scrubber, text: &str) -> bool {
    scrubber.may_match(text) || (scrubber.looks_for(Shape::Card) && card::may_occur(text.as_bytes()))
}

/// Adds what begins like a secret and is one, and the values of parameters.
fn find_patterns(scrubber: &Scrubber, text: &str, found: &mut Vec<Replacement>) {
    let mut search = Search::new(text.as_bytes());
    let mut parameters = Parameters::new(scrubber.names(), text);
    // To look again at what is found already would take time by the square of the length. A private key may begin within
    // another secret and end beyond it.
    let (mut after_key, mut after_pem) = (0, 0);
    for occurrence in scrubber.matches(text) {
        let secret = match occurrence {
            Match::Pattern(pattern, _) if !scrubber.looks_for(pattern.shape()) => continue,
            Match::Pattern(pattern, start) => {
                let after = if matches!(pattern.form, Form::Pem) {
                    &mut after_pem
                } else {
                    &mut after_key
                };
                let secret = if start < *after {
                    None
                } else {
                    search.verify(pattern, start)
                };
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
