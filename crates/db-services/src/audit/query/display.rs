//! Writes filters in the query language, so that parsing them results in the same filter.

use std::fmt::{self, Display, Formatter, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use db_schema::models::network_text;

use super::filter::{AuditFilter, Condition, Test};
use super::parse::OPERATORS;
use super::terms::key;

impl Display for AuditFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, condition) in self.conditions.iter().enumerate() {
            if place > 0 {
                f.write_char(' ')?;
            }
            condition.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            f.write_char('-')?;
        }
        match &self.test {
            Test::Equals(column, text) => write!(f, "{}:{}", key(*column), Value(text)),
            Test::BeginsWith(column, prefix) if prefix.is_empty() => write!(f, "{}:*", key(*column)),
            Test::BeginsWith(column, prefix) => write!(f, "{}:{}*", key(*column), Value(prefix)),
            Test::Within(net) => write!(f, "ip:{}", network_text(*net)),
            Test::Operation(id) => write!(f, "operation:{id}"),
            Test::Since(time) => write!(f, "since:{}", Time(*time)),
            Test::Until(time) => write!(f, "until:{}", Time(*time)),
            Test::Member(path, value) => {
                f.write_str("meta")?;
                for name in path {
                    write!(f, ".{}", Name(name))?;
                }
                write!(f, ":{}", Value(value))
            }
            Test::Contains(object) => write!(f, "meta:{object}"),
            Test::Text(text) if is_text(text) => f.write_str(text),
            Test::Text(text) => quote(f, text),
        }
    }
}

struct Time(DateTime<Utc>);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// The value of a column or a member.
struct Value<'a>(&'a str);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_word(self.0) {
            f.write_str(self.0)
        } else {
            quote(f, self.0)
        }
    }
}

/// A name in a path.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_bare = is_word(self.0) && !self.0.contains(['.', ':']);
        if is_bare {
            f.write_str(self.0)
        } else {
            quote(f, self.0)
        }
    }
}

/// Whether a text needs no quotes as a term.
fn is_text(text: &str) -> bool {
    is_word(text) && !text.contains(':') && !text.starts_with('-') && !OPERATORS.contains(&text)
}

/// Whether a text needs no quotes as a value.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '*'))
}

fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
