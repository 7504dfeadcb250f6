//! What went wrong, for the person at the terminal?

use std::fmt::Display;
use std::process::ExitCode;

/// Some of the input was bad; the rest was done.
pub(crate) const IN_PART: u8 = 1;
/// The arguments do not fit, as clap says it too.
pub(crate) const USAGE: u8 = 2;
/// The database or a file failed.
pub(crate) const FAILED: u8 = 3;

/// A message and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

pub(crate) type Done = Result<ExitCode, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: FAILED,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// The same message, for a command whose exit code for bad arguments would be a verdict.
    pub(crate) fn into_failed(self) -> Self {
        Self { code: FAILED, ..self }
    }

    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("auditlog: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}
