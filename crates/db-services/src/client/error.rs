//! The errors of a database that cannot be used, with a hint where there is one.

use diesel::ConnectionError;

/// Why a database could not be named, reached or migrated. Never carries a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL cannot be understood.
    #[error("{0}")]
    Url(String),
    /// What the URL asks of TLS contradicts itself, or is not to be had.
    #[error("{database}: {reason}")]
    Tls {
        /// The URL without credentials.
        database: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection could be made.
    #[error("cannot connect to {database}: {}", describe(.source))]
    Connect {
        /// The URL without credentials.
        database: String,
        /// The driver's error.
        source: ConnectionError,
    },
    /// All connections were in use, or the server did not answer, for 5 seconds.
    #[error("no connection to {database} within 5 seconds: all are in use, or the server does not answer")]
    Busy {
        /// The URL without credentials.
        database: String,
    },
    /// The pool failed otherwise.
    #[error("no connection to {database}: {}", describe(&**.source))]
    Pool {
        /// The URL without credentials.
        database: String,
        /// The pool's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration failed; those before it stay applied.
    #[error("migrating {database}: {}", describe(&**.source))]
    Migration {
        /// The URL without credentials.
        database: String,
        /// The error of the migration, or of the thread that runs it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The driver's message with its innermost cause, which tokio-postgres leaves out ("error
/// connecting to server" alone helps nobody). Every cause that repeats its parent is skipped.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
