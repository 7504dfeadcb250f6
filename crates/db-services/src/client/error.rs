//! The errors of a database that cannot be used, with a hint where there is one.

use diesel::ConnectionError;

/// Why a database could not be named, reached or migrated. Never contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL cannot be parsed.
    #[error("{0}")]
    Url(String),
    /// The URL's options about TLS contradict each other, or one is not supported.
    #[error("{database}: {reason}")]
    Tls {
        /// The URL without credentials.
        database: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection could be opened. With several hosts or addresses, the text has the error of each.
    #[error("cannot connect to {database}: {}", describe(.source))]
    Connect {
        /// The URL without credentials.
        database: String,
        /// The driver's error.
        source: ConnectionError,
    },
    /// All connections of the pool were in use, or an SQLite file was locked, for 5 seconds.
    #[error(
        "no connection to {database} within 5 seconds: all of the pool are in use or being opened, or the file is locked"
    )]
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
    /// The migrations could not be read, run or reverted.
    #[error("migrating {database}: {}", describe(&**.source))]
    Migration {
        /// The URL without credentials.
        database: String,
        /// The error of the migration, or of the thread that runs it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The driver's message with its causes, which tokio-postgres leaves out: "error connecting to server"
/// alone does not help. A cause that repeats its parent is skipped.
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
