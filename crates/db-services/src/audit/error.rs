//! The errors of starting and installing a writer.

/// Why a writer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A bound of the queue is zero: it would refuse every entry.
    #[error("{0} must not be zero")]
    ZeroBound(&'static str),
    /// The spool directory cannot be used.
    #[error(transparent)]
    Spool(#[from] super::SpoolError),
    /// The operating system gave no thread, or no runtime could be built on it.
    #[error("the writer's thread did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a writer was not installed: one is in use already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit writer is in use already: install yours before the first entry is written, and only once")]
pub struct InstallError;
