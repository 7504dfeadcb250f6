//! Why was it not done, and what helps?

use std::path::{Path, PathBuf};

use diesel::result::{DatabaseErrorInformation, Error};

/// Why a step of the trail's upkeep was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The trail is in SQLite.
    #[error(
        "SQLite has no partitions, and its rows are never deleted one by one, so there is nothing to make, hold \
         or drop there; to begin a new trail, stop the programs that write, move the file away as its own \
         archive, and run `auditlog migrate`"
    )]
    Sqlite,
    /// The database lacks the functions.
    #[error(
        "this database has no retention yet, or not in this user's search_path; run `auditlog migrate` on it first"
    )]
    NotMigrated,
    /// The database refused, or did not answer.
    #[error("{}", said(.0))]
    Database(#[from] Error),
    /// A file of an archive could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An archive is not what its manifest says, or cannot be understood.
    #[error("{}: {reason}", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user does not see every row of the trail.
    #[error(
        "an archive must have every row, and this user is not shown them all: connect as the owner of audit_logs, \
         or as a member of both the maintainer's and the auditor's role"
    )]
    PartlySeen,
    /// The trail holds another row where an archive has one.
    #[error(
        "{rows} rows of the archive have the id and time of a row in the trail that differs from them; nothing \
         was restored"
    )]
    Differs {
        /// How many.
        rows: i64,
    },
}

impl OpsError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(crate) fn archive(path: &Path, reason: impl Into<String>) -> Self {
        Self::Archive {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The server's message and its hint. Not its detail, which can quote a row.
fn said(error: &Error) -> String {
    match error {
        Error::DatabaseError(_, said) => match DatabaseErrorInformation::hint(&**said) {
            Some(hint) => format!("{} ({hint})", said.message()),
            None => said.message().to_owned(),
        },
        other => other.to_string(),
    }
}
