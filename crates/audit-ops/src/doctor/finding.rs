//! Findings, their severity, and their remedy.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::Code;
use super::text::{escaped, printable_sql};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As intended.
    Ok,
    /// Worth knowing, or a check that this user may not run.
    Info,
    /// To be fixed: one of two protections is missing, or entries will be delayed.
    Warning,
    /// Rows can be changed, forged or lost, or one tenant's rows seen by another.
    Critical,
}

impl Severity {
    /// The word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The result of a check. As JSON: `code`, `severity`, `check`, `found`, `remedy`, `controls`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which check.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, as a sentence. Harmful characters of names are escaped.
    pub found: String,
    /// The remedy: SQL to run as the table's owner, a command, or advice. Lines that begin with `--` are
    /// comments. None if there is nothing to do.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(code: Code, found: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Ok,
            found: escaped(&found.into()),
            remedy: None,
        }
    }

    /// A check that this user may not run, or that does not apply, and why.
    pub(super) fn unchecked(code: Code, why: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Info,
            found: escaped(&format!("not checked: {}", why.into())),
            remedy: None,
        }
    }

    /// A check that could not be run although this user may run it: another session holds a lock, for example. What
    /// it would have found is unknown, so this is no success.
    pub(super) fn not_run(code: Code, why: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            remedy: Some(
                "-- see what the checks LOCKS and PREPARED_TRANSACTIONS found; then run the doctor again"
                    .to_owned(),
            ),
            ..Self::unchecked(code, why)
        }
    }

    pub(super) fn new(
        code: Code,
        severity: Severity,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(printable_sql(&remedy.into())).filter(|text| !text.is_empty());
        Self {
            code,
            severity,
            found: escaped(&found.into()),
            remedy,
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Finding", 6)?;
        line.serialize_field("code", self.code.as_str())?;
        line.serialize_field("severity", &self.severity)?;
        line.serialize_field("check", self.code.check())?;
        line.serialize_field("found", &self.found)?;
        line.serialize_field("remedy", &self.remedy)?;
        line.serialize_field("controls", self.code.controls())?;
        line.end()
    }
}
