//! The services of an application's database: the index lists what an application needs.
//!
//! [`audit`] is the audit trail, [`client`] the database it goes to. Their modules hold the rest: limits, the
//! spool, the test kit. The crate `audit-ops` and the command `auditlog` are for operators.

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The guide's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/exit-and-signals.md")]
pub struct ExitAndSignals;

/// The target of every log record, whatever file it comes from: a filter stays valid when a file is renamed.
const LOG_TARGET: &str = "audit";

pub mod audit;
pub mod client;
#[doc(hidden)]
pub mod files;

pub use audit::{
    AuditConnection, AuditEntry, AuditLog, AuditWriter, AuditWriterBuilder, CompactString, Delivery,
    DeliveryCounts, DropReason, Durability, InstallError, JsonText, Metadata, Outcome, Receipt, RetryPolicy,
    StartError, TenantError, WriterGuard, WriterReport, WriterStats, count, flush, for_tenant, insert,
    insert_many, install, latest, shutdown, shutdown_blocking, with_writer, write_audit_log,
    write_audit_logs,
};
pub use client::{Connection, Database, DatabaseError};
