//! The report of an examination, and its Markdown form for an assessor.

use std::collections::BTreeSet;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Finding, Options, Severity};
use crate::is_harmful;

/// The result of an examination: its circumstances and its findings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// When it began, by this machine's clock.
    pub began: DateTime<Utc>,
    /// The database's URL without credentials.
    pub database: String,
    /// The database server and its version.
    pub server: String,
    /// The user whose rights were examined.
    pub user: String,
    /// Whether the invasive statements were tried as well.
    pub invasive: bool,
    /// At least one finding for each check, the worst first.
    pub findings: Vec<Finding>,
}

/// The findings of one database, in the order of the checks.
pub(super) struct RawFindings {
    pub(super) server: String,
    pub(super) user: String,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(began: DateTime<Utc>, database: String, options: &Options, raw: RawFindings) -> Self {
        let RawFindings {
            server,
            user,
            mut findings,
        } = raw;
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.code));
        Self {
            began,
            database,
            server,
            user,
            invasive: options.invasive,
            findings,
        }
    }

    /// The worst of the findings.
    pub fn worst(&self) -> Severity {
        self.findings
            .iter()
            .map(|finding| finding.severity)
            .max()
            .unwrap_or(Severity::Ok)
    }

    /// The report as Markdown (CommonMark with tables). Holds no password.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Examination of an audit trail\n\n");
        self.head(&mut text);
        text.push_str(
            "\n## Checks\n\n| result | code | what is checked | found |\n| --- | --- | --- | --- |\n",
        );
        for finding in &self.findings {
            let (code, check) = (finding.code.as_str(), finding.code.check());
            line(
                &mut text,
                &[finding.severity.as_str(), code, check, &finding.found],
            );
        }
        let bad: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding.severity > Severity::Ok)
            .collect();
        if !bad.is_empty() {
            text.push_str("\n## Findings\n");
        }
        for finding in bad {
            detail(&mut text, finding);
        }
        self.controls(&mut text);
        text
    }

    fn head(&self, text: &mut String) {
        let began = self.began.to_rfc3339_opts(SecondsFormat::Secs, true);
        let tried = if self.invasive {
            "all statements, including those that take the strongest lock (--invasive)"
        } else {
            "all statements except those that take the strongest lock (--invasive)"
        };
        text.push_str("| | |\n| --- | --- |\n");
        for (name, value) in [
            ("when", began.as_str()),
            ("database", &self.database),
            ("server", &self.server),
            ("user", &self.user),
            ("tried", tried),
            ("by", concat!("auditlog doctor ", env!("CARGO_PKG_VERSION"))),
            ("verdict", self.verdict()),
        ] {
            line(text, &[name, value]);
        }
        text.push_str(
            "\nStatements were tried with the rights of this user, against rows inserted for the purpose, in a \
             transaction that was rolled back. docs/doctor.md explains each code.\n",
        );
    }

    fn verdict(&self) -> &'static str {
        match self.worst() {
            Severity::Critical => {
                "critical: rows can be changed, forged or lost, or one tenant's rows seen by another"
            }
            Severity::Warning => "warning: there are findings to fix",
            Severity::Info | Severity::Ok => "nothing to fix",
        }
    }

    /// Writes a row for each control, with the checks that relate to it and their worst result.
    fn controls(&self, text: &mut String) {
        text.push_str("\n## Controls\n\n| control | result | checks |\n| --- | --- | --- |\n");
        let all: BTreeSet<&str> = self
            .findings
            .iter()
            .flat_map(|finding| finding.code.controls())
            .copied()
            .collect();
        for control in all {
            let related: Vec<_> = self
                .findings
                .iter()
                .filter(|finding| finding.code.controls().contains(&control))
                .collect();
            let worst = related
                .iter()
                .map(|finding| finding.severity)
                .max()
                .unwrap_or(Severity::Ok);
            let codes: BTreeSet<&str> = related.iter().map(|finding| finding.code.as_str()).collect();
            line(
                text,
                &[control, worst.as_str(), &Vec::from_iter(codes).join(", ")],
            );
        }
    }
}

fn detail(text: &mut String, finding: &Finding) {
    let (code, severity) = (finding.code.as_str(), finding.severity.as_str());
    // Writing to a String cannot fail.
    let _ = write!(text, "\n### {code} ({severity})\n\n{}.\n", escape(&finding.found));
    if let Some(remedy) = &finding.remedy {
        text.push_str("\nRemedy:\n\n");
        for row in remedy.lines() {
            let _ = writeln!(text, "    {}", row.replace(is_harmful, "\u{FFFD}"));
        }
    }
    let _ = write!(text, "\nControls: {}.\n", finding.code.controls().join(", "));
}

fn line(text: &mut String, cells: &[&str]) {
    for cell in cells {
        text.push_str("| ");
        text.push_str(&escape(cell));
        text.push(' ');
    }
    text.push_str("|\n");
}

/// Escapes text for Markdown, because the name of a table may contain any character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // No markup within a word.
            '_' if out.ends_with(char::is_alphanumeric)
                && chars.peek().is_some_and(|c| c.is_alphanumeric()) =>
            {
                out.push(c);
            }
            '\n' => out.push(' '),
            c if is_harmful(c) => out.push('\u{FFFD}'),
            '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '&' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    #[test]
    fn findings_are_sorted_by_severity_and_escaped() {
        let findings = vec![
            Finding::ok(Code::Clock, "fine"),
            Finding::new(
                Code::Grants,
                Severity::Warning,
                "a|b\n<script>",
                "REVOKE x;\n\x1b[2J",
            ),
            Finding::new(Code::Triggers, Severity::Critical, "none", "CREATE"),
        ];
        let raw = RawFindings {
            server: "PostgreSQL 17".into(),
            user: "app".into(),
            findings,
        };
        let report = Report::new(Utc::now(), "postgres://***@h/db".into(), &Options::default(), raw);
        assert_eq!(report.worst(), Severity::Critical);
        let order: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(order, [Code::Triggers, Code::Grants, Code::Clock]);
        let text = report.markdown();
        assert!(text.contains(r"a\|b\\u{a}\<script\>"), "{text}");
        assert!(text.contains("    REVOKE x;\n    \u{FFFD}[2J\n"), "{text}");
        assert!(text.contains("| ok | CLOCK |"), "{text}");
        assert!(text.contains("### TRIGGERS (critical)"), "{text}");
        assert!(text.contains("| NIST AU-8 | ok | CLOCK |"), "{text}");
    }
}
