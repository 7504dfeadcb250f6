//! Rules in use: the automaton, the filter before it, and the lists.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, BuildError, MatchKind};

use super::filter::{Filter, MIN_NEEDLE};
use super::names::{self, NameList};
use super::rules::Shape;
use super::shapes::Pattern;

/// Rules, ready for use.
pub(super) struct Scrubber {
    /// Finds the beginnings of [`patterns`](Self::patterns), and the names of secrets.
    search: AhoCorasick,
    filter: Filter,
    patterns: Vec<Pattern>,
    names: NameList,
    without: Vec<Shape>,
}

/// An occurrence in a text.
pub(super) enum Match<'a> {
    /// The beginning of a secret, and where.
    Pattern(&'a Pattern, usize),
    /// The name of a secret ends here, within a longer text.
    Name(usize),
}

impl Scrubber {
    /// `words` are those by which texts with the application's own names are found.
    ///
    /// # Errors
    /// When the lists are too large for an automaton.
    pub(super) fn new(
        mut patterns: Vec<Pattern>,
        names: NameList,
        words: Vec<String>,
        without: Vec<Shape>,
    ) -> Result<Self, BuildError> {
        patterns.retain(|pattern| pattern.prefix.len() >= MIN_NEEDLE);
        // The patterns first: the number of a needle is that of its pattern.
        let prefixes = patterns.iter().map(|pattern| pattern.prefix.to_string());
        let needles: Vec<String> = prefixes
            .chain(names::triggers().map(str::to_owned))
            .chain(words)
            .collect();
        let search = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&needles)?;
        Ok(Self {
            search,
            filter: Filter::new(needles.iter().map(String::as_str)),
            patterns,
            names,
            without,
        })
    }

    pub(super) fn names(&self) -> &NameList {
        &self.names
    }

    pub(super) fn looks_for(&self, shape: Shape) -> bool {
        !self.without.contains(&shape)
    }

    /// False for a text that certainly has no occurrence.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.filter.may_match(text)
    }

    /// The occurrences in a text, in the order of their ends.
    pub(super) fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Match<'a>> {
        let found = self.search.find_overlapping_iter(text);
        found.map(|found| match self.patterns.get(found.pattern().as_usize()) {
            Some(pattern) => Match::Pattern(pattern, found.start()),
            None => Match::Name(found.end()),
        })
    }
}
