//! The doctor: examines whether the trail is protected as intended.
//!
//! [`examine`] connects as the application does, so that it finds what the application's login may do. On
//! PostgreSQL each check of the catalog is a query in `postgres/checks`. Then the doctor tries to change,
//! delete, forge and read rows that this login should not, in a transaction that is rolled back. It targets
//! only rows that it inserted itself in that transaction, and no statement waits for a lock for longer than
//! 200 ms.
//!
//! A [`Finding`] has a [`Code`], which `docs/doctor.md` explains, a [`Severity`] and a remedy. A check that
//! passes is a finding too ([`Severity::Ok`]), and so is one that this user may not run ([`Severity::Info`]) or
//! that failed ([`Severity::Warning`]).

mod allow;
mod checks;
mod error;
mod finding;
mod postgres;
mod report;
mod sqlite;
mod text;

use chrono::Utc;
use db_services::client::Database;

pub use allow::{AllowList, AllowListError};
pub use checks::Code;
pub use error::DoctorError;
pub use finding::{Finding, Severity};
pub use report::Report;

/// How far an examination goes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Also tries statements that take an ACCESS EXCLUSIVE lock on the table, for which writers wait briefly:
    /// TRUNCATE, ALTER TABLE, DETACH, DROP TABLE. PostgreSQL only.
    pub invasive: bool,
    /// A tenant that has rows. A login that may read but not write cannot insert rows to look for. With a
    /// tenant, the doctor checks that the login sees that tenant's rows and no other's.
    pub tenant: Option<String>,
    /// Objects that are no findings although they are not part of the trail. PostgreSQL and SQLite.
    pub allow: AllowList,
}

/// Examines the trail in a database with the rights of the user in its URL, and returns at least one finding
/// for each check, the worst first. Must be called within a tokio runtime.
///
/// Changes nothing: its inserts are rolled back. The server's log shows the refused statements.
///
/// # Errors
/// When the database cannot be reached, or the connection fails. A fault of the trail is a finding, never an
/// error.
///
/// # Cancel safety
/// Dropping the future closes its connections, which rolls everything back. On SQLite the examination
/// continues on a thread of its own until it has rolled back.
pub async fn examine(database: &Database, options: &Options) -> Result<Report, DoctorError> {
    let began = Utc::now();
    let raw = match database.postgres_client().await? {
        Some(client) => postgres::examine(database, client, options).await?,
        None => sqlite::examine(database, options).await?,
    };
    Ok(Report::new(began, database.to_string(), options, raw))
}

/// Describes the catalog of a trail as the doctor expects it, for the test that compares this with the checked-in
/// description. None if there is no trail.
#[doc(hidden)]
pub async fn describe(database: &Database) -> Result<Option<String>, DoctorError> {
    match database.postgres_client().await? {
        Some(client) => postgres::describe(client).await,
        None => Ok(None),
    }
}
