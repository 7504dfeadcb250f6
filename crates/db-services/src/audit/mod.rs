//! The audit trail's writers: one call that never breaks the request.
//!
//! A tour:
//!
//! 1. [`AuditEntry`] is what a caller says about an event; [`limits`] says how large it may be.
//! 2. [`write_audit_log`] and [`write_audit_logs`] record it. They return at once; what they return
//!    can be dropped, or awaited for a [`Delivery`].
//! 3. An [`AuditWriter`] does the work on a thread of its own. One starts on first use from the
//!    environment; [`AuditWriter::builder`] and [`install`] set one up by hand, [`with_writer`] uses
//!    another for the length of a future.
//! 4. [`shutdown`], or dropping the [`WriterGuard`], writes what is queued before `main` returns.
//! 5. [`insert`] and [`insert_many`] write on the caller's own connection, in its transaction.
//! 6. [`latest`] and [`count`] read the trail back; inside of [`for_tenant`] they see one tenant's rows.
//!
//! | | a killed process loses | a database outage loses |
//! | --- | --- | --- |
//! | forgotten or awaited [`write_audit_log`] | what is queued | the batches that fail meanwhile, and what does not fit the queue; counted and logged |
//! | one that awaited [`Delivery::Committed`] | nothing | nothing |
//! | [`insert`] | nothing: it is the caller's transaction | the caller sees the error |

mod entry;
mod error;
mod global;
mod insert;
pub mod limits;
mod partitions;
mod pg_values;
mod query;
mod sink;
pub mod spool;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;
mod writers;

pub use db_schema::{AuditLog, JsonText, NewAuditLog};
pub use entry::{AuditEntry, Outcome, UnknownOutcome};
pub use error::{InstallError, StartError};
pub use global::{
    Status, flush, install, shutdown, shutdown_blocking, status, with_writer, write_audit_log,
    write_audit_logs,
};
pub use insert::{AuditConnection, insert, insert_many};
pub use partitions::ensure_partitions;
pub use query::{count, latest};
pub use spool::SpoolError;
pub use tenant::{TenantError, for_tenant};
pub use writer::{
    AuditWriter, AuditWriterBuilder, Delivery, DeliveryCounts, DropReason, Durability, Loss, Receipt,
    RetryPolicy, WriterGuard, WriterReport, WriterStats,
};
pub use writers::{Verdict, WriterAccount, verify_writers};
