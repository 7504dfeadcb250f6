//! The parts of which terms consist: words, quoted texts, values.

use std::ops::Range;

use super::parse_error::ParseError;
use super::parse_time::Clock;
use super::terms::Given;

/// A query and a place in it.
pub(super) struct Parser<'a> {
    pub(super) query: &'a str,
    /// The byte that is read next.
    pub(super) at: usize,
    pub(super) clock: &'a Clock<'a>,
}

impl<'a> Parser<'a> {
    pub(super) fn rest(&self) -> &'a str {
        self.query.get(self.at..).unwrap_or_default()
    }

    /// Up to the next space.
    pub(super) fn word(&self) -> Range<usize> {
        self.until(char::is_whitespace)
    }

    pub(super) fn until(&self, ends: impl Fn(char) -> bool) -> Range<usize> {
        self.at..self.at + self.rest().find(ends).unwrap_or(self.rest().len())
    }

    pub(super) fn part(&self, range: &Range<usize>) -> &'a str {
        self.query.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let has = self.rest().starts_with(c);
        if has {
            self.at += c.len_utf8();
        }
        has
    }

    pub(super) fn error(&self, place: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, place, message)
    }

    pub(super) fn fail<T>(&self, place: Range<usize>, message: impl Into<String>) -> Result<T, ParseError> {
        Err(self.error(place, message))
    }

    /// Goes to the next term; false at the end.
    pub(super) fn skip_spaces(&mut self) -> bool {
        self.at = self.query.len() - self.rest().trim_start().len();
        !self.rest().is_empty()
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Given, ParseError> {
        if self.rest().starts_with('"') {
            let text = self.quoted()?;
            let is_prefix = self.eat('*');
            self.expect_space()?;
            return Ok(Given { text, is_prefix });
        }
        let word = self.word();
        let text = self.part(&word);
        if text.is_empty() {
            return self.fail(
                word,
                format!("a value is missing after {key}: (\"\" is an empty one)"),
            );
        }
        self.at = word.end;
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if let Some(place) = text.find(['"', '*']) {
            let place = word.start + place;
            return self.fail(
                place..place + 1,
                "has a meaning at the end or the beginning alone: put all of the value in quotes",
            );
        }
        let text = text.to_owned();
        Ok(Given { text, is_prefix })
    }

    /// A text in quotes, in which a backslash precedes a quote or a backslash.
    pub(super) fn quoted(&mut self) -> Result<String, ParseError> {
        let begin = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((place, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += place + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => {
                        let place = begin + place;
                        return self.fail(
                            place..place + 1,
                            "in quotes must precede \" or \\: write \\\\ for a backslash",
                        );
                    }
                },
                c => text.push(c),
            }
        }
        self.fail(begin..begin + 1, "is not closed: the second quote is missing")
    }

    pub(super) fn expect_space(&self) -> Result<(), ParseError> {
        match self.rest().chars().next() {
            Some(c) if !c.is_whitespace() => self.fail(self.word(), "follows without a space"),
            _ => Ok(()),
        }
    }
}
