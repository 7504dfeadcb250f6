//! Why a request ends without what it asked for, how that is recorded, and what the page says.

use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use db_services::audit::{AuditEntry, Outcome, TenantError};
use db_services::client::DatabaseError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::pages;

/// Why a request ends without what it asked for, or the application does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Nobody is signed in.
    #[error("nobody is signed in")]
    SignInFirst,
    /// The visitor may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The tenant has no such thing.
    #[error("there is no such thing in this tenant")]
    NotFound,
    /// What was sent cannot be accepted.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is no form that can be read.
    #[error(transparent)]
    Form(#[from] FormRejection),
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A statement failed.
    #[error(transparent)]
    Query(DieselError),
    /// The trail cannot be read.
    #[error(transparent)]
    Trail(#[from] TenantError),
    /// The tables cannot be created.
    #[error("the tables cannot be created: {0}")]
    Migrations(Box<dyn std::error::Error + Send + Sync>),
    /// A password cannot be hashed.
    #[error("a password cannot be hashed: {0}")]
    Password(argon2::password_hash::Error),
    /// The stored hash of a password cannot be read.
    #[error("a stored password cannot be read: {0}")]
    PasswordHash(argon2::password_hash::phc::Error),
    /// The task of a request panicked.
    #[error("a task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<DieselError> for AppError {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::NotFound => Self::NotFound,
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
                Self::Invalid("there is one with this name already")
            }
            other => Self::Query(other),
        }
    }
}

impl AppError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::SignInFirst | Self::Forbidden(_) => Outcome::Denied,
            _ => Outcome::Failure,
        }
    }

    /// Records that something was refused or failed.
    pub(crate) fn record(&self, entry: AuditEntry) {
        entry
            .outcome(self.outcome())
            .detail("error", self.to_string())
            .write();
    }
}

/// Records how a change ended, and returns its result.
pub(crate) fn record<T>(entry: AuditEntry, result: Result<T, AppError>) -> Result<T, AppError> {
    match &result {
        Ok(_) => drop(entry.write()),
        Err(error) => error.record(entry),
    }
    result
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::SignInFirst => return Redirect::to("/sign-in").into_response(),
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Form(rejection) => rejection.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            log::error!("{self}");
            return (status, pages::message("Something went wrong. It is logged.")).into_response();
        }
        (status, pages::message(&self.to_string())).into_response()
    }
}
