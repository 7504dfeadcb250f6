//! How is the trail kept? Months made ahead and put in order, old ones archived and dropped, what a
//! lawyer needs held: for operators and their scheduled tasks, on PostgreSQL.
//!
//! 1. [`partitions`] makes months ahead and moves stray rows out of the default partition.
//! 2. [`retention`] says which months are past their time, and drops them one by one, on record.
//! 3. [`holds`] forbids to drop the rows of a tenant or of a time range.
//! 4. [`archive`] writes a month to a file before it goes, checks such files, and restores them.
//! 5. [`doctor`] examines whether the trail is as safe as it is meant to be, on SQLite as well.
//!
//! What may be done is decided by functions in the database, which its owner owns
//! (`migrations/postgres/2026-11-28-000004_retention`): this crate calls them. Whoever logs in must be
//! the owner or a member of `audit_maintainer`; who writes an archive must be able to read every row as
//! well (`audit_auditor`), and who restores one must be the owner.
//!
//! An SQLite trail is one table in one file, so nothing but the doctor has a meaning for it: every function gives
//! [`OpsError::Sqlite`], which says what to do instead.

pub mod archive;
pub mod doctor;
mod error;
pub mod holds;
pub mod partitions;
mod pg;
pub mod retention;

pub use error::OpsError;
pub use pg::ready;
