//! The row of `audit_logs`, as the state machines of `audit-core` move it.

use std::ops::Deref;

use audit_core::Row;
use db_schema::NewAuditLog;
use uuid::Uuid;

use super::verify::action;

/// A row on its way to the database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogRow(pub(super) NewAuditLog);

impl Row for LogRow {
    fn number(&self) -> Option<(Uuid, u64)> {
        Some((self.writer_id?, u64::try_from(self.writer_seq?).ok()?))
    }

    fn stopped_writer(&self) -> Option<Uuid> {
        let is_stop_record = self.writer_seq.is_none() && self.action == action::STOPPED;
        self.writer_id.filter(|_| is_stop_record)
    }
}

impl Deref for LogRow {
    type Target = NewAuditLog;

    fn deref(&self) -> &NewAuditLog {
        &self.0
    }
}

impl From<NewAuditLog> for LogRow {
    fn from(row: NewAuditLog) -> Self {
        Self(row)
    }
}
