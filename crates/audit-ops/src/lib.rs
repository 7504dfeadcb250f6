//! Maintenance of an audit trail: partitions, retention, legal holds, archives, and the doctor.
//!
//! For operators and their scheduled jobs, on PostgreSQL:
//!
//! 1. [`partitions`] creates upcoming partitions and moves rows out of the default partition.
//! 2. [`retention`] lists the months that are due, and drops them one by one, with an entry in a ledger.
//! 3. [`holds`] protects the rows of a tenant or of a time range from being dropped.
//! 4. [`archive`] writes a month to a file before it is dropped, checks such files, and restores them.
//! 5. [`doctor`] examines whether the trail is protected as intended. It supports SQLite as well.
//! 6. [`verify_writers`] finds the entries that are missing in the trail. It supports SQLite as well.
//! 7. [`spool`] lists and replays the entries that wait on this machine's disk, for either database.
//! 8. [`SingleInserter`] tells an entry that a database rejects from a database that accepts none.
//! 9. [`session`] limits how long a command waits for locks, and leaves nothing in a session.
//!
//! The rules are enforced by functions in the database, which belong to the table's owner
//! (`migrations/postgres`); this crate calls them. The login must be the owner or a member of
//! `audit_maintainer`. Writing an archive also requires the right to read every row (`audit_auditor`), and
//! restoring one requires the owner.
//!
//! An SQLite trail is one table in one file. The functions of 1 to 4 return [`OpsError::Sqlite`] for it, whose
//! message says what to do instead.

pub mod archive;
pub mod doctor;
mod error;
pub mod hashing;
pub mod holds;
pub mod indexes;
pub mod partitions;
mod postgres;
pub mod retention;
pub mod session;
pub mod unfinished;

pub use db_services::audit::{InsertFailure, SingleInserter, Verdict, WriterAccount, spool, verify_writers};
#[doc(hidden)]
pub use error::is_harmful;
pub use error::{ArchiveProblem, OpsError};
pub use postgres::ensure_migrated;
