//! The command's error: a message or a cause, and an exit code.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

use crate::output;

/// Part of the input was rejected, or something is missing; the rest was done.
pub(crate) const PARTIAL: u8 = 1;
/// The arguments are invalid. The same code as clap's.
pub(crate) const USAGE: u8 = 2;
/// The database or a file failed.
pub(crate) const FAILED: u8 = 3;

/// The exit codes of a verb that is either done or not, for its help.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 2 invalid arguments, 3 the database failed.";

pub(crate) type CommandResult = Result<ExitCode, CliError>;

/// The exit code of a command that was done, or partly done.
pub(crate) fn partial_if(is_partial: bool) -> ExitCode {
    if is_partial {
        ExitCode::from(PARTIAL)
    } else {
        ExitCode::SUCCESS
    }
}

/// An error with its exit code. Displays the whole chain of causes.
///
/// It does not implement [`Error`], so that every error converts to it with `?`.
#[derive(Debug)]
pub(crate) struct CliError {
    exit_code: u8,
    message: Option<String>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit_code: FAILED,
            message: Some(message.into()),
            cause: None,
        }
    }

    /// An error in the arguments.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).with_exit_code(USAGE)
    }

    pub(crate) fn with_exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }

    /// Adds what was attempted.
    pub(crate) fn in_context(self, message: &str) -> Self {
        Self {
            message: Some(match self.message {
                Some(inner) => format!("{message}: {inner}"),
                None => message.to_owned(),
            }),
            ..self
        }
    }

    /// Prints the error and returns its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        output::note(&format!("auditlog: {self}"));
        ExitCode::from(self.exit_code)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        Self {
            exit_code: FAILED,
            message: None,
            cause: Some(error.into()),
        }
    }
}

impl Display for CliError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let chain = self.cause.as_deref().map(|cause| chain(cause));
        match (&self.message, chain) {
            (Some(message), Some(chain)) => write!(f, "{message}: {chain}"),
            (Some(message), None) => f.write_str(message),
            (None, chain) => f.write_str(&chain.unwrap_or_default()),
        }
    }
}

/// Adds what was attempted to an error.
pub(crate) trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T, CliError>;
}

impl<T, E: Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T, CliError> {
        self.map_err(|error| CliError {
            message: Some(message()),
            ..CliError::from(error)
        })
    }
}

/// The messages of an error and its sources. A source that the message before it already contains is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !last.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        last = message;
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl Display for Layer {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn an_error_displays_each_cause_once() {
        let disk = || Some(Box::new(Layer("no space left", None)));
        assert_eq!(
            CliError::from(Layer("cannot write", disk())).to_string(),
            "cannot write: no space left"
        );
        let repeating = Layer("cannot write: no space left", disk());
        assert_eq!(
            CliError::from(repeating).to_string(),
            "cannot write: no space left"
        );
        let with_context = Err::<(), _>(Layer("cannot write", disk())).context(|| "x.db".to_owned());
        assert_eq!(
            with_context.unwrap_err().to_string(),
            "x.db: cannot write: no space left"
        );
        assert_eq!(CliError::usage("add --yes").to_string(), "add --yes");
    }
}
