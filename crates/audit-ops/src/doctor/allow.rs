//! Additions that the operator allows.

use super::text::escaped;
use super::{Code, Finding, Severity};

/// A list of objects that are no findings although they are not part of the trail.
///
/// A line is a kind and a name, as a finding shows them: `view public.audit_report`, `role reporting`. Empty lines and
/// those that begin with `#` are comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    kind: String,
    name: String,
}

/// A line that is not a kind and a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: expected a kind and a name, as in `view public.report`, found {text:?}")]
pub struct AllowListError {
    /// The number of the line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

impl AllowList {
    /// Reads a list.
    ///
    /// # Errors
    /// When a line has no name.
    pub fn parse(text: &str) -> Result<Self, AllowListError> {
        // Some editors begin a file with it.
        let text = text.trim_start_matches('\u{FEFF}');
        let lines = text.lines().map(str::trim).enumerate();
        let entries = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        let entries = entries.map(|(at, text)| match text.split_once(char::is_whitespace) {
            Some((kind, name)) => Ok(Entry {
                line: at + 1,
                kind: kind.to_lowercase(),
                name: name.trim().to_owned(),
            }),
            None => Err(AllowListError {
                line: at + 1,
                text: text.to_owned(),
            }),
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }
}

/// The use of a list in one examination.
pub(super) struct Allowed {
    entries: Vec<(Entry, bool)>,
    allowed: Vec<String>,
}

impl Allowed {
    pub(super) fn new(list: &AllowList) -> Self {
        Self {
            entries: list.0.iter().map(|entry| (entry.clone(), false)).collect(),
            allowed: Vec::new(),
        }
    }

    /// Whether each of these extras, kind and name, is in the list. `found` is for the report.
    pub(super) fn allows(&mut self, extras: &[(String, String)], found: &str) -> bool {
        let is = |entry: &Entry, (kind, name): &(String, String)| {
            entry.kind == *kind && entry.name == escaped(name)
        };
        let is_listed = |extra| self.entries.iter().any(|(entry, _)| is(entry, extra));
        if extras.is_empty() || !extras.iter().all(is_listed) {
            return false;
        }
        for (entry, used) in &mut self.entries {
            *used |= extras.iter().any(|extra| is(entry, extra));
        }
        self.allowed.push(found.to_owned());
        true
    }

    /// What was allowed, and the lines that allowed nothing.
    pub(super) fn findings(self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self
            .allowed
            .iter()
            .map(|found| Finding::ok(Code::Allowed, format!("allowed by the operator: {found}")))
            .collect();
        let unused = self.entries.iter().filter(|(_, used)| !used);
        findings.extend(unused.map(|(entry, _)| {
            Finding::new(
                Code::Allowed,
                Severity::Info,
                format!(
                    "line {} of the list allows nothing: {} {}",
                    entry.line, entry.kind, entry.name
                ),
                "-- remove the line",
            )
        }));
        if findings.is_empty() {
            findings.push(Finding::ok(Code::Allowed, "nothing in addition"));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_names_with_spaces() {
        let list =
            AllowList::parse("# reporting\n\n  View  public.report \nfunction public.f(integer, text)\n")
                .unwrap();
        let of = |kind: &str, name: &str| vec![(kind.to_owned(), name.to_owned())];
        let mut allowed = Allowed::new(&list);
        assert!(allowed.allows(&of("view", "public.report"), "a view"));
        assert!(allowed.allows(&of("function", "public.f(integer, text)"), "a function"));
        assert!(!allowed.allows(&of("view", "public.reports"), "another"));
        let found: Vec<_> = allowed
            .findings()
            .into_iter()
            .map(|finding| finding.found)
            .collect();
        assert_eq!(
            found,
            [
                "allowed by the operator: a view",
                "allowed by the operator: a function"
            ]
        );
    }

    #[test]
    fn what_concerns_several_objects_needs_a_line_for_each() {
        let list = AllowList::parse("\u{FEFF}trigger t on a\ntrigger t on b").unwrap();
        let of = |tables: &[&str]| {
            let extras = tables
                .iter()
                .map(|table| ("trigger".to_owned(), format!("t on {table}")));
            extras.collect::<Vec<_>>()
        };
        let mut allowed = Allowed::new(&list);
        assert!(!allowed.allows(&of(&["a", "c"]), "two, of which one is listed"));
        assert!(!allowed.allows(&[], "something that cannot be allowed"));
        assert!(allowed.allows(&of(&["a", "b"]), "both"));
    }

    #[test]
    fn a_line_without_a_name_is_an_error_and_an_unused_one_a_finding() {
        let error = AllowList::parse("# x\nview\n").unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "view"));
        let unused = Allowed::new(&AllowList::parse("role nobody").unwrap()).findings();
        assert_eq!(unused[0].severity, Severity::Info);
        assert_eq!(unused[0].found, "line 1 of the list allows nothing: role nobody");
    }
}
