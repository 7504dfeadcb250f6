//! Which entries a command reads: a query as words, and options for the most frequent terms.

use std::ops::Range;

use chrono::Utc;
use db_services::audit::query::{AuditFilter, Condition, ParseError};
use unicode_width::UnicodeWidthStr;

use crate::error::CliError;
use crate::output;
use crate::zone::Zone;

/// How queries are written, for the help of the verbs that take one.
pub(crate) const LANGUAGE: &str = "\
Query: a list of terms, all of which must hold. - before a term negates it.
  actor:alice            also tenant, actor_type, on_behalf_of, outcome,
                         resource_type, resource_id, user_agent, request,
                         trace, operation
  action:auth.*          begins with auth.; actor:* has an actor
  ip:10.0.0.0/8          an address or a network
  since:7d until:today   30m, 12h, 7d, 2w, now, yesterday, 2026-11-01,
                         2026-11-01T08:30, or with Z or an offset
  meta.user.name:alice   a member of the metadata, also a number;
                         meta:{\"roles\": [\"admin\"]} contains all of that
  failed \"wrong code\"    text in any column or in the metadata, small letters
                         or capitals

A word of the command line that has spaces and neither : nor \" is one text: 'wrong code'. Any other is a part of the \
query as it is: 'actor:\"Alice B.\" since:7d'. Times without an offset are those of --time-zone.";

#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// What to look for (see below)
    #[arg(value_name = "QUERY")]
    words: Vec<String>,
    /// The entries of this tenant; a login that reads as one tenant names it here
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// What this actor did
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// This action, or with * at its end those that begin so: auth.*
    #[arg(long)]
    action: Option<String>,
    /// What ended like this: success, failure, denied, unknown
    #[arg(long)]
    outcome: Option<String>,
    /// From this time on: 7d, today, 2026-11-01
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Include the entries about the trail itself (actions that begin with audit.), as a query for such an action does
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(crate) zone: ZoneArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ZoneArgs {
    /// The time zone: UTC, Europe/Berlin, or local, which is TZ or the system's
    #[arg(long, value_name = "ZONE", default_value = "local", value_parser = Zone::parse)]
    pub(crate) time_zone: Zone,
}

impl QueryArgs {
    /// The filter that words and options describe.
    ///
    /// # Errors
    /// When the query cannot be understood; the place in it is shown.
    pub(crate) fn filter(&self) -> Result<AuditFilter, CliError> {
        let query = joined(&self.words);
        let now = Utc::now().with_timezone(&self.zone.time_zone);
        let mut filter = AuditFilter::parse(&query, &now).map_err(|error| pointed(&query, &error))?;
        for (key, time) in [("since", &self.since), ("until", &self.until)] {
            let Some(time) = time else { continue };
            let times = AuditFilter::parse(&format!("{key}:{}", quoted(time)), &now)
                .map_err(|error| CliError::usage(format!("--{key} {time}: {}", error.message())))?;
            filter = filter.and_all(times);
        }
        let columns = [
            self.tenant.as_ref().map(Condition::tenant),
            self.actor.as_ref().map(Condition::actor),
            self.action.as_ref().map(|action| Condition::action(action)),
            self.outcome.as_ref().map(Condition::outcome),
        ];
        for condition in columns.into_iter().flatten() {
            filter = filter.and(condition);
        }
        Ok(match self.all || filter.asks_for_records() {
            true => filter,
            false => filter.without_records(),
        })
    }
}

/// The query of the words of a command line.
fn joined(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| as_term(word)).collect();
    words.join(" ")
}

/// A word with spaces is what a shell made of quotes: one text, unless it is written in the query language.
fn as_term(word: &str) -> String {
    if !word.contains(char::is_whitespace) || word.contains([':', '"']) {
        return word.to_owned();
    }
    match word.strip_prefix('-') {
        Some(text) => format!("-{}", quoted(text)),
        None => quoted(word),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The error of a query, after the query with the place in it. A query with characters or a password that are replaced
/// would have the place elsewhere, and is not shown.
fn pointed(query: &str, error: &ParseError) -> CliError {
    if output::safe(query) == query {
        output::note_lines(&format!("{query}\n{}", carets(query, error.span())));
    }
    CliError::usage(error.to_string())
}

/// Carets that stand below a place, on a terminal that shows some characters two columns wide.
fn carets(query: &str, place: Range<usize>) -> String {
    let width = |range: Range<usize>| query.get(range).map_or(0, UnicodeWidthStr::width);
    let marked = width(place.clone()).max(1);
    format!("{}{}", " ".repeat(width(0..place.start)), "^".repeat(marked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_are_as_wide_as_what_they_stand_below() {
        for (query, expected) in [
            ("a ip:x", "     ^"),
            ("actor: b", "      ^"),
            ("actor:東京 ip:日本", "              ^^^^"),
            ("e\u{301} ip:x", "     ^"),
        ] {
            let error = AuditFilter::parse(query, &Utc::now()).unwrap_err();
            assert_eq!(carets(query, error.span()), expected, "{query}");
        }
    }

    #[test]
    fn words_of_a_shell_are_a_query() {
        for (words, expected) in [
            (&["actor:alice", "free text"][..], "actor:alice \"free text\""),
            (&["actor:alice", "free", "text"], "actor:alice free text"),
            (&["actor:alice since:7d"], "actor:alice since:7d"),
            (&["actor:\"Alice B.\""], "actor:\"Alice B.\""),
            (&["-free text", "-x"], "-\"free text\" -x"),
            (&["a\\ b"], "\"a\\\\ b\""),
            (&[], ""),
        ] {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(joined(&words), expected);
        }
    }
}
