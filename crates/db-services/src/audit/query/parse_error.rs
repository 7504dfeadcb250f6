//! Where a query cannot be understood, and why.

use std::fmt;
use std::ops::Range;

/// Why a query cannot be understood, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    query: String,
    span: Range<usize>,
    message: String,
}

impl ParseError {
    pub(super) fn new(query: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            query: query.to_owned(),
            span,
            message: message.into(),
        }
    }

    /// Returns the place as a range of bytes of the query. At the end of the query it is empty.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the place as a number of characters before it, and how many characters it has.
    pub fn columns(&self) -> (usize, usize) {
        let chars = |range: Range<usize>| self.query.get(range).map_or(0, |text| text.chars().count());
        (chars(0..self.span.start), chars(self.span()))
    }

    /// Returns what is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the query with carets below the place, and what is wrong. Control characters, line breaks among them,
    /// are shown as spaces. Each character counts as one column, also those that terminals show two columns wide;
    /// [`span`](Self::span) is the place for programs that know the widths.
    ///
    /// ```
    /// use db_services::audit::query::AuditFilter;
    ///
    /// let error = AuditFilter::parse("actor:alice ip:10.0.0.256", &chrono::Utc::now()).unwrap_err();
    /// assert_eq!(error.pointed(), "\
    /// actor:alice ip:10.0.0.256
    ///                ^^^^^^^^^^
    /// is not an address or a network: 10.1.2.3, 10.0.0.0/8, 2001:db8::/32");
    /// ```
    pub fn pointed(&self) -> String {
        let (before, marked) = self.columns();
        let line: String = self
            .query
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let carets = "^".repeat(marked.max(1));
        format!("{line}\n{}{carets}\n{}", " ".repeat(before), self.message)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, _) = self.columns();
        let part = self.query.get(self.span()).filter(|part| !part.is_empty());
        match part {
            Some(part) => write!(f, "at character {}: {part:?} {}", before + 1, self.message),
            None => write!(f, "at character {}: {}", before + 1, self.message),
        }
    }
}

impl std::error::Error for ParseError {}
