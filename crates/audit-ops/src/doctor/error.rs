//! Why could it not be examined?

use db_services::client::DatabaseError;

/// Why an examination did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The database cannot be reached.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The connection broke, or a question that every PostgreSQL answers was not answered.
    #[error("the examination was cut short: {0}")]
    Postgres(String),
    /// The SQLite file could not be read.
    #[error("{path}: {reason}")]
    Sqlite {
        /// The file, or what it is instead.
        path: String,
        /// What the operating system or SQLite said.
        reason: String,
    },
}
