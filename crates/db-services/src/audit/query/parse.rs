//! Reads the query language, from its beginning to its end.

use std::ops::Range;

use chrono::{DateTime, TimeZone, Utc};
use serde_json::value::RawValue;

use super::MAX_CONDITIONS;
use super::filter::{AuditFilter, Condition, Test};
use super::json_match::is_comparable;
use super::parse_error::ParseError;
use super::parse_time::{self, Clock};
use super::parser::Parser;
use super::terms::{self, KEYS};
use crate::audit::limits::METADATA_DEPTH;

/// The most bytes of a query.
const MAX_BYTES: usize = 16 << 10;

/// Words that other languages know.
pub(super) const OPERATORS: [&str; 3] = ["AND", "OR", "NOT"];

impl AuditFilter {
    /// Reads a filter in the [query language](super#the-query-language). `now` is what relative times count from; times
    /// without an offset are those of its zone. The result does not depend on anything else.
    ///
    /// ```
    /// use chrono::DateTime;
    /// use db_services::audit::query::{AuditFilter, Condition};
    ///
    /// let now = DateTime::parse_from_rfc3339("2026-11-29T12:00:00+01:00").unwrap();
    /// let filter = AuditFilter::parse("actor:alice -outcome:success since:1d", &now).unwrap();
    /// let same = AuditFilter::new()
    ///     .and(Condition::actor("alice"))
    ///     .and(!Condition::outcome("success"))
    ///     .and(Condition::since("2026-11-28T11:00:00Z".parse().unwrap()));
    /// assert_eq!(filter, same);
    /// assert_eq!(filter.to_string(), "actor:alice -outcome:success since:2026-11-28T11:00:00Z");
    /// ```
    ///
    /// # Errors
    /// The error names the place in the query and what is expected there: for an unknown key, a missing or
    /// malformed value, a quote that is not closed, the words `AND`, `OR` and `NOT` without quotes, more than 200 terms
    /// or 16 KiB, and JSON or a path to a member that no row can contain.
    pub fn parse<Tz: TimeZone>(query: &str, now: &DateTime<Tz>) -> Result<Self, ParseError> {
        let zone = now.timezone();
        parse(
            query,
            &Clock {
                now: now.with_timezone(&Utc),
                today: now.date_naive(),
                to_utc: &|local| parse_time::to_utc(&zone, local),
            },
        )
    }
}

fn parse(query: &str, clock: &Clock<'_>) -> Result<AuditFilter, ParseError> {
    let mut parser = Parser { query, at: 0, clock };
    if query.len() > MAX_BYTES {
        return Err(parser.error(0..0, format!("a query has at most {MAX_BYTES} bytes")));
    }
    let mut conditions = Vec::new();
    while parser.skip_spaces() {
        if conditions.len() == MAX_CONDITIONS {
            return parser.fail(
                parser.word(),
                format!("is one term too many: a query has at most {MAX_CONDITIONS}"),
            );
        }
        conditions.push(parser.term()?);
    }
    Ok(AuditFilter { conditions })
}

impl Parser<'_> {
    fn term(&mut self) -> Result<Condition, ParseError> {
        let begin = self.at;
        let is_negated = self.eat('-');
        let word = self.word();
        let text = self.part(&word);
        if text.is_empty() {
            return self.fail(
                begin..self.at,
                "is followed by nothing: put it in quotes to search for it",
            );
        }
        let condition = if text.starts_with('"') {
            self.quoted_text()?
        } else if text.starts_with("meta:") {
            self.at += "meta:".len();
            self.object()?
        } else if text.starts_with("meta.") && text.contains([':', '"']) {
            self.at += "meta".len();
            self.member()?
        } else if text.contains([':', '"']) {
            self.keyed()?
        } else {
            self.at = word.end;
            self.bare_text(word)?
        };
        Ok(if is_negated { !condition } else { condition })
    }

    fn bare_text(&self, word: Range<usize>) -> Result<Condition, ParseError> {
        let text = self.part(&word);
        if OPERATORS.contains(&text) {
            return self.fail(
                word,
                "is not an operator: all terms must hold, and - negates one; put it in quotes to search for it",
            );
        }
        if text.contains('*') {
            let remedy = "has a *, which text does not need: it is found within words; put it in quotes to search for it";
            return self.fail(word, remedy);
        }
        Ok(Condition::text(text))
    }

    fn quoted_text(&mut self) -> Result<Condition, ParseError> {
        let begin = self.at;
        let value = self.value("")?;
        match value.is_prefix {
            true => self.fail(begin..self.at, "does not need a *: text is found within words"),
            false => Ok(Condition::text(value.text)),
        }
    }

    fn keyed(&mut self) -> Result<Condition, ParseError> {
        let key = self.until(|c| matches!(c, ':' | '"'));
        self.at = key.end;
        if !self.eat(':') {
            return self.fail(
                key.end..key.end + 1,
                "stands within a word: put all of the word in quotes",
            );
        }
        let begin = self.at;
        let name = self.part(&key);
        let value = self.value(name)?;
        match terms::condition(name, value, self.clock) {
            Ok(Some(condition)) => Ok(condition),
            Ok(None) => self.fail(
                key,
                format!("is not a key: {KEYS}; put the term in quotes to search for it"),
            ),
            Err(problem) => self.fail(begin..self.at, problem),
        }
    }

    /// A path and a value: `.name."other name":value`.
    fn member(&mut self) -> Result<Condition, ParseError> {
        let begin = self.at;
        let mut path = Vec::new();
        while self.eat('.') {
            path.push(self.name()?);
        }
        if path.len() > METADATA_DEPTH {
            return self.fail(
                begin..self.at,
                format!("is in no row: a path has at most {METADATA_DEPTH} names"),
            );
        }
        if !self.eat(':') {
            return self.fail(
                self.word(),
                "stands where : and a value are expected, as in meta.NAME:VALUE",
            );
        }
        let begin = self.at;
        let value = self.value("meta.NAME")?;
        match value.is_prefix {
            true => self.fail(begin..self.at, terms::NO_PREFIX),
            false => Ok(Test::Member(path, value.text).into()),
        }
    }

    fn name(&mut self) -> Result<String, ParseError> {
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let name = self.until(|c| c.is_whitespace() || matches!(c, '.' | ':' | '"'));
        if name.is_empty() {
            return self.fail(name, "a member's name is missing here");
        }
        self.at = name.end;
        Ok(self.part(&name).to_owned())
    }

    fn object(&mut self) -> Result<Condition, ParseError> {
        let word = self.word();
        if !self.rest().starts_with('{') {
            return self.fail(
                word,
                "is not a JSON object, as in meta:{\"NAME\": 1}; or name a member: meta.NAME:VALUE",
            );
        }
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<&RawValue>();
        let (read, length) = (values.next(), values.byte_offset());
        let object = match read {
            Some(Ok(object)) => object.get(),
            Some(Err(error)) => return self.fail(word, format!("does not begin a JSON object: {error}")),
            None => return self.fail(word, "does not begin a JSON object"),
        };
        let begin = self.at;
        self.at += length;
        if !is_comparable(object) {
            let problem =
                "is in no row: a character or a number in it cannot be stored, or it is nested too deeply";
            return self.fail(begin..self.at, problem);
        }
        self.expect_space()?;
        Ok(Test::Contains(object.to_owned()).into())
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
