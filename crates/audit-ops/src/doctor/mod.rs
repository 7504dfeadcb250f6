//! Is the trail as safe as it is meant to be? Reads the catalog, and then tries.
//!
//! [`examine`] connects as the application does, so that what it finds is what the application's login
//! may do. On PostgreSQL each check of the catalog is a query in `postgres/checks`; then the doctor tries
//! to change, delete, forge and read what it should not, against rows that it has just inserted itself,
//! in a transaction that is rolled back. Every statement of it waits at most 200 ms for a lock, and names
//! no rows but its own.
//!
//! A [`Finding`] has a [`Code`], which `docs/doctor.md` explains, a [`Severity`] and the way out. A check
//! that found nothing to complain of is a finding too, [`Severity::Ok`]; one that could not be made says
//! so, [`Severity::Info`].

mod code;
mod error;
mod finding;
mod postgres;
mod report;
mod sqlite;

use chrono::Utc;
use db_services::client::Database;

pub use code::Code;
pub use error::DoctorError;
pub use finding::{Finding, Severity};
pub use report::Report;

/// How far an examination goes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Also tries what takes the strongest lock on the table, for which writers queue up for a moment:
    /// TRUNCATE, ALTER TABLE, DETACH. PostgreSQL only.
    pub invasive: bool,
    /// A tenant that has rows. A login that may read but not write cannot insert rows of its own to be
    /// looked for; given a tenant, it is tried whether that one's rows are seen and no other's.
    pub tenant: Option<String>,
}

/// Examines the trail in a database, with the rights of the user in its URL, and gives a finding or more
/// for each check, the worst first. Needs a tokio runtime around it.
///
/// Leaves nothing behind: what it inserts is rolled back. The server's log shows what was refused.
///
/// # Errors
/// When the database cannot be reached, or the connection breaks. What is wrong with the trail is a
/// finding, never an error.
///
/// # Cancel safety
/// Dropping the future closes its connections, which rolls everything back; on SQLite the attempts go on
/// to their end, which takes them back, on a thread of their own.
pub async fn examine(database: &Database, options: &Options) -> Result<Report, DoctorError> {
    let began = Utc::now();
    let examined = match database.postgres_client().await? {
        Some(client) => postgres::examine(database, client, options).await?,
        None => sqlite::examine(database).await?,
    };
    Ok(Report::new(began, database.to_string(), options, examined))
}
