//! The log lines of a writer: one for each change of state, never one for an entry.
//!
//! docs/troubleshooting.md explains each line.

use audit_core::writer::{Notice, SinkErrorKind};

use crate::LOG_TARGET;
use crate::audit::panics::contained;

/// Logs what the core reports.
pub(super) fn log_notice(database: &str, notice: &Notice) {
    contained(|| match notice {
        Notice::DatabaseDown { error, has_spool } => {
            let waits = if *has_spool {
                "entries wait in memory, then in the spool"
            } else {
                "entries wait in memory"
            };
            let reason = error.reason.as_str();
            if error.kind == SinkErrorKind::Misconfigured {
                log::error!(target: LOG_TARGET, database, reason; "{database} is misconfigured; {waits} until this is fixed: {reason}");
            } else {
                log::error!(target: LOG_TARGET, database, reason; "{database} does not accept entries; {waits}: {reason}");
            }
        }
        Notice::DatabaseUp { after, replaying } => {
            let replaying = if *replaying {
                ", the spool is being replayed"
            } else {
                ""
            };
            let seconds = after.as_secs_f64();
            log::warn!(
                target: LOG_TARGET, database, seconds;
                "{database} accepts entries again, after {after:.1?}{replaying}"
            );
        }
        Notice::RowRejected { rows, error } => log::error!(
            target: LOG_TARGET, database, rows, reason = error.reason.as_str();
            "{database} rejects an entry, it goes to the quarantine, {rows} since the last such line: {}",
            error.reason
        ),
        Notice::QueueFull { entries } => log::error!(
            target: LOG_TARGET, database, entries;
            "the queue to {database} was full: {entries} entries were lost (raise queue_capacity and \
             queue_bytes, set a spool, or see why the database is slow)"
        ),
        Notice::QuarantineFailed { reason } => log::error!(
            target: LOG_TARGET, database, reason = reason.as_str();
            "a rejected entry waits in memory, since the quarantine does not take it: {reason}"
        ),
        Notice::RejectedRowLost { reason } => log::error!(
            target: LOG_TARGET, database, reason = reason.as_str();
            "a rejected entry is lost, since the quarantine did not take it; {database} rejected it: {reason}"
        ),
        Notice::SpoolInUse => {
            log::warn!(target: LOG_TARGET, database; "entries for {database} go to the spool")
        }
        Notice::SpoolDrained => {
            log::warn!(target: LOG_TARGET, database; "the spool for {database} is replayed")
        }
        Notice::SpoolFailed { reason } => {
            log::error!(
                target: LOG_TARGET, database, reason = reason.as_str();
                "the spool for {database} does not take entries, they wait in memory: {reason}"
            );
        }
        Notice::SpoolRecovered => {
            log::warn!(target: LOG_TARGET, database; "the spool for {database} takes entries again")
        }
        Notice::SpoolGone => log::error!(
            target: LOG_TARGET, database;
            "the thread of the spool for {database} ended; entries wait in memory alone until a restart"
        ),
    });
}
