//! Errors of the test support, with a hint where one helps.

use std::path::PathBuf;

/// Why no test database is available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No PostgreSQL was found.
    #[error(
        "no PostgreSQL binaries found; install them with `scripts/setup`, `apt-get install postgresql` or \
         `brew install postgresql@17`, or name a server in TEST_DATABASE_URL"
    )]
    NoBinaries,
    /// `PG_BIN_DIR` names a directory without the binaries.
    #[error(
        "PG_BIN_DIR names {0}, which does not hold initdb and postgres; name the directory of one version's \
         binaries, as `pg_config --bindir` prints it, or unset it"
    )]
    BinDir(PathBuf),
    /// PostgreSQL does not run as root, and no other user exists to run it as.
    #[error(
        "PostgreSQL does not run as root, and neither a user postgres nor nobody exists; run the tests as another user"
    )]
    NoUser,
    /// A step of starting the server failed.
    #[error("PostgreSQL did not start: {step}: {detail}")]
    Start {
        /// The step that failed.
        step: &'static str,
        /// The cause.
        detail: String,
    },
    /// The server ended instead of starting. Contains its log.
    #[error("PostgreSQL ended instead of starting; its log says: {0}")]
    Ended(String),
    /// PgBouncer is not installed, or did not start.
    #[error("PgBouncer did not start: {0}")]
    Bouncer(String),
    /// The migrations could not be read.
    #[error("cannot read the migrations at {0}: {1}")]
    Migrations(PathBuf, std::io::Error),
    /// A step of the proxy failed.
    #[error("the proxy failed: {step}: {detail}")]
    Proxy {
        /// The step that failed.
        step: &'static str,
        /// The error of the operating system.
        detail: String,
    },
    /// A statement to the server failed.
    #[error("the test server refused to {doing}: {detail}")]
    Server {
        /// The step that failed.
        doing: String,
        /// The error of the server, without the connection string.
        detail: String,
    },
}

impl SetupError {
    pub(crate) fn start(step: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Start {
            step,
            detail: error.to_string(),
        }
    }

    pub(crate) fn proxy(step: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Proxy {
            step,
            detail: error.to_string(),
        }
    }

    pub(crate) fn server(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |error| {
            let detail = error
                .as_db_error()
                .map_or_else(|| error.to_string(), ToString::to_string);
            Self::Server { doing, detail }
        }
    }
}
