//! Why an examination could not be completed.

use std::io;
use std::path::PathBuf;

use db_services::client::DatabaseError;

/// Why an examination was not completed. Faults of the trail are findings, not errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The database cannot be reached.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The connection failed, or a query failed that every supported server answers.
    #[error("the examination was interrupted")]
    Postgres(#[from] tokio_postgres::Error),
    /// The server did not answer.
    #[error(
        "the examination was interrupted: the server did not answer within {0:?}; it has stopped, or a proxy in between has"
    )]
    Silent(std::time::Duration),
    /// The catalog could not be described.
    #[error("the catalog could not be described: {0}")]
    Description(String),
    /// The database is in memory.
    #[error("{0}: a database in memory ends with its process and keeps no evidence")]
    InMemory(String),
    /// The SQLite file could not be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system, or that it is not an SQLite database.
        source: io::Error,
    },
    /// SQLite could not open or examine the file.
    #[error("cannot examine {}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: diesel::ConnectionError,
    },
    /// The thread that examines the SQLite file ended early.
    #[error("the examination was interrupted")]
    Thread(#[from] tokio::task::JoinError),
}
