//! The log lines of a writer: one for each change of state, never one for an entry.
//!
//! docs/troubleshooting.md explains each line.

use audit_core::writer::{Notice, SinkErrorKind};

use super::shared::contained;

/// Logs what the core reports.
pub(super) fn log_notice(database: &str, notice: &Notice) {
    contained(|| match notice {
        Notice::DatabaseDown { error, has_spool } => {
            let waits = if *has_spool {
                "entries wait in memory, then in the spool"
            } else {
                "entries wait in memory"
            };
            let reason = &error.reason;
            if error.kind == SinkErrorKind::Misconfigured {
                log::error!("audit: {database} is misconfigured; {waits} until this is fixed: {reason}");
            } else {
                log::error!("audit: {database} does not accept entries; {waits}: {reason}");
            }
        }
        Notice::DatabaseUp { after, replaying } => {
            let replaying = if *replaying {
                ", the spool is being replayed"
            } else {
                ""
            };
            log::warn!("audit: {database} accepts entries again, after {after:.1?}{replaying}");
        }
        Notice::RowRejected { rows, error } => log::error!(
            "audit: {database} rejects an entry, it goes to the quarantine, {rows} since the last such line: {}",
            error.reason
        ),
        Notice::QueueFull { entries } => log::error!(
            "audit: the queue to {database} was full: {entries} entries were lost (raise queue_capacity and \
             queue_bytes, set a spool, or see why the database is slow)"
        ),
        Notice::QuarantineFailed { reason } => log::error!(
            "audit: a rejected entry waits in memory, since the quarantine does not take it: {reason}"
        ),
        Notice::RejectedRowLost { reason } => log::error!(
            "audit: a rejected entry is lost, since the quarantine did not take it; {database} rejected it: {reason}"
        ),
        Notice::SpoolInUse => log::warn!("audit: entries for {database} go to the spool"),
        Notice::SpoolDrained => log::warn!("audit: the spool for {database} is replayed"),
        Notice::SpoolFailed { reason } => {
            log::error!(
                "audit: the spool for {database} does not take entries, they wait in memory: {reason}"
            );
        }
        Notice::SpoolRecovered => log::warn!("audit: the spool for {database} takes entries again"),
        Notice::SpoolGone => log::error!(
            "audit: the thread of the spool for {database} ended; entries wait in memory alone until a restart"
        ),
    });
}
