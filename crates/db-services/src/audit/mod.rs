//! The audit trail's writers: one call that never breaks the request.
//!
//! A tour:
//!
//! 1. [`AuditEntry`] describes an event; [`limits`] says how large it may be.
//! 2. [`write_audit_log`] and [`write_audit_logs`] record it. They return at once; what they return
//!    can be dropped, or awaited for a [`Delivery`].
//! 3. An [`AuditWriter`] does the work on a thread of its own. One starts on first use from the
//!    environment; [`AuditWriter::builder`] and [`install`] set one up explicitly, [`with_writer`] uses
//!    another one for the duration of a future.
//! 4. [`shutdown`], or dropping the [`WriterGuard`], writes what is queued before `main` returns.
//! 5. [`context`] holds what a request knows (actor, address, request id) and fills it into entries.
//! 6. [`insert`] and [`insert_many`] write on the caller's own connection, in its transaction.
//! 7. [`observe`] and [`begin`] record how an operation ended, or that it began.
//! 8. [`scrub`] keeps secrets out of all entries.
//! 9. [`latest`] and [`count`] read the trail back; inside of [`for_tenant`] they see one tenant's rows.
//!    [`action_usage`] counts the entries of each action. [`query`] has filters, pages, counts and a query language.
//! 10. [`record_reading`] records that somebody has read the trail.
//!
//! | | a killed process loses | a database outage loses |
//! | --- | --- | --- |
//! | [`Durability::Memory`] | what is queued | what does not fit the queue, declared |
//! | [`Durability::Spill`] | what is queued | nothing accepted, while the disk has room and keeps up |
//! | [`Durability::WriteAhead`] | nothing acknowledged | the same |
//! | [`insert`] | nothing: it is the caller's transaction | the caller sees the error |
//!
//! # Metrics
//!
//! With the feature `metrics` each writer reports its counts to the recorder of the
//! [`metrics`](https://docs.rs/metrics) facade, from its own thread, once a second and when it ends.
//! Install the recorder before the first entry: earlier counts are not reported. The label `database` is
//! its URL without credentials. The counters of several writers of one process to the same database add
//! up; a gauge shows the value of the last one.
//!
//! | name | kind | meaning |
//! | --- | --- | --- |
//! | `audit_entries_submitted_total` | counter | entries submitted to writers |
//! | `audit_entries_accepted_total` | counter | those of them that the queue accepted |
//! | `audit_entries_committed_total` | counter | entries in the database |
//! | `audit_entries_replayed_total` | counter | entries committed from the spool, those of earlier writers included |
//! | `audit_entries_quarantined_total` | counter | entries that the database rejects |
//! | `audit_entries_dropped_total` | counter | entries lost; label `reason`: `queue_full`, `shut_down`, `database` |
//! | `audit_entries_unknown_total` | counter | entries the database still worked on at the end of a shutdown |
//! | `audit_retries_total` | counter | attempts to write a batch that failed and were repeated |
//! | `audit_spool_entries` | gauge | entries that wait in the local spool |
//! | `audit_queue_entries` | gauge | entries in memory, queued or in flight |
//! | `audit_queue_bytes` | gauge | the memory those hold, estimated from above |
//! | `audit_oldest_entry_age_seconds` | gauge | how long the oldest of those has been waiting |
//!
//! Alert when `audit_entries_dropped_total` or `audit_entries_quarantined_total` grows, and when
//! `audit_oldest_entry_age_seconds` or `audit_spool_entries` does not return to 0.

mod action_usage;
pub mod actions;
mod changes;
pub mod context;
mod entry;
mod error;
pub mod feed;
mod global;
mod ids;
mod insert;
mod json;
mod json_reader;
pub mod limits;
mod members;
mod metadata;
mod operation;
mod panics;
mod partitions;
mod pg_values;
pub mod query;
mod raw_json;
mod reading;
mod records;
mod row;
pub mod scrub;
mod single;
mod sink;
pub mod spool;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
mod writer;

pub use action_usage::{ActionUsage, action_usage};
pub use actions::Action;
pub use changes::{Changes, MAX_CHANGED_VALUE_BYTES, MAX_CHANGES, MAX_CHANGES_BYTES};
pub use compact_str::CompactString;
pub use db_schema::models::network_text;
pub use db_schema::{AuditLog, JsonText, NewAuditLog};
pub use entry::{AuditEntry, Outcome, UnknownOutcome};
pub use error::{InstallError, StartError};
pub use global::{
    Status, flush, install, shutdown, shutdown_blocking, status, with_writer, write_audit_log,
    write_audit_logs,
};
pub use insert::{AuditConnection, insert, insert_many};
pub use metadata::Metadata;
pub use operation::{Operation, begin, observe};
pub use partitions::ensure_partitions;
pub use query::{count, latest, latest_with_records};
pub use reading::{Reading, record_reading};
pub use single::{InsertFailure, SingleInserter};
pub use spool::SpoolError;
pub use tenant::{TenantError, for_tenant};
pub use verify::{Verdict, WriterAccount, verify_writers};
pub use writer::{
    AuditWriter, AuditWriterBuilder, Delivery, DeliveryCounts, DropReason, Durability, Loss, Receipt,
    RetryPolicy, WriterGuard, WriterReport, WriterStats,
};
