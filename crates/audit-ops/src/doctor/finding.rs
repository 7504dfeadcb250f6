//! What was found, how bad is it, and what is the way out?

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::Code;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it is meant to be.
    Ok,
    /// Worth knowing; also a check that could not be made.
    Info,
    /// To be mended: a lock of two is open, or entries will be held up.
    Warning,
    /// Rows can be changed, forged or lost, or a tenant's seen by another.
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

/// What a check found. As JSON: `code`, `severity`, `check`, `found`, `remedy`, `controls`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which check.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in a sentence.
    pub found: String,
    /// The way out: SQL to run as the table's owner, a command, or advice. Lines that begin with `--`
    /// are words among SQL. None where nothing need be done.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(code: Code, found: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    /// What could not be looked at, and why.
    pub(super) fn unchecked(code: Code, why: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Info,
            found: format!("not checked: {}", why.into()),
            remedy: None,
        }
    }

    pub(super) fn new(
        code: Code,
        severity: Severity,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into()).filter(|text| !text.is_empty());
        Self {
            code,
            severity,
            found: found.into(),
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
