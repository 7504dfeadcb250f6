//! What does an assessor file? The whole of an examination, as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Finding, Options, Severity};

/// An examination: what was looked at, as whom, and what was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// When it began, by this machine's clock.
    pub began: DateTime<Utc>,
    /// The database's URL without credentials.
    pub database: String,
    /// What answered, and its version.
    pub server: String,
    /// The user whose rights were tried.
    pub user: String,
    /// Whether the strongest statements were tried as well.
    pub invasive: bool,
    /// A finding or more for each check, the worst first.
    pub findings: Vec<Finding>,
}

/// What an examination of either database brings home.
pub(super) struct Examined {
    pub(super) server: String,
    pub(super) user: String,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(began: DateTime<Utc>, database: String, options: &Options, examined: Examined) -> Self {
        let Examined {
            server,
            user,
            mut findings,
        } = examined;
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
        let tried = match self.invasive {
            true => "all, also what takes the strongest lock (--invasive)",
            false => "all but what takes the strongest lock (--invasive)",
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
            "\nWhat was tried was tried with the rights of this user, against rows inserted for it, in a \
             transaction that was rolled back. Each code is explained in docs/doctor.md.\n",
        );
    }

    fn verdict(&self) -> &'static str {
        match self.worst() {
            Severity::Critical => {
                "critical: rows can be changed, forged or lost, or a tenant's seen by another"
            }
            Severity::Warning => "warning: something is to be mended",
            Severity::Info | Severity::Ok => "nothing to mend was found",
        }
    }

    /// Each requirement, with the checks that touch it and the worst of their results.
    fn controls(&self, text: &mut String) {
        text.push_str("\n## Controls\n\n| control | result | checks |\n| --- | --- | --- |\n");
        let all: BTreeSet<&str> = self
            .findings
            .iter()
            .flat_map(|finding| finding.code.controls())
            .copied()
            .collect();
        for control in all {
            let touching: Vec<_> = self
                .findings
                .iter()
                .filter(|finding| finding.code.controls().contains(&control))
                .collect();
            let worst = touching
                .iter()
                .map(|finding| finding.severity)
                .max()
                .unwrap_or(Severity::Ok);
            let codes: BTreeSet<&str> = touching.iter().map(|finding| finding.code.as_str()).collect();
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
    let _ = write!(text, "\n### {code} ({severity})\n\n{}.\n", plain(&finding.found));
    if let Some(remedy) = &finding.remedy {
        text.push_str("\nRemedy:\n\n");
        for row in remedy.lines() {
            let _ = writeln!(text, "    {}", row.replace(char::is_control, "\u{FFFD}"));
        }
    }
    let _ = write!(text, "\nControls: {}.\n", finding.code.controls().join(", "));
}

fn line(text: &mut String, cells: &[&str]) {
    for cell in cells {
        text.push_str("| ");
        text.push_str(&plain(cell));
        text.push(' ');
    }
    text.push_str("|\n");
}

/// Text that Markdown takes as it is: a table's name may hold anything.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Within a word it means nothing.
            '_' if out.ends_with(char::is_alphanumeric)
                && chars.peek().is_some_and(|c| c.is_alphanumeric()) =>
            {
                out.push(c);
            }
            '\n' => out.push(' '),
            c if c.is_control() => out.push('\u{FFFD}'),
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
    fn the_worst_comes_first_and_nothing_breaks_out_of_a_table() {
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
        let examined = Examined {
            server: "PostgreSQL 17".into(),
            user: "app".into(),
            findings,
        };
        let report = Report::new(
            Utc::now(),
            "postgres://***@h/db".into(),
            &Options::default(),
            examined,
        );
        assert_eq!(report.worst(), Severity::Critical);
        let order: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(order, [Code::Triggers, Code::Grants, Code::Clock]);
        let text = report.markdown();
        assert!(text.contains("a\\|b \\<script\\>"), "{text}");
        assert!(text.contains("    REVOKE x;\n    \u{FFFD}[2J\n"), "{text}");
        assert!(text.contains("| ok | CLOCK |"), "{text}");
        assert!(text.contains("### TRIGGERS (critical)"), "{text}");
        assert!(text.contains("| NIST AU-8 | ok | CLOCK |"), "{text}");
    }
}
