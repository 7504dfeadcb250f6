//! How many bytes the rows of a batch have.

use crate::audit::AuditLog;

/// The texts of a batch have this many bytes, and those of one row more.
const BATCH_BYTES: usize = 16 << 20;

/// The bytes for which a batch still has room.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(BATCH_BYTES)
    }

    /// Takes a row into account. False if there was no room left for it.
    pub(super) fn take(&mut self, row: &AuditLog) -> bool {
        let had_room = !self.is_spent();
        self.0 = self.0.saturating_sub(size(row));
        had_room
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// The bytes of a row, without those that each row has.
fn size(row: &AuditLog) -> usize {
    let texts = [
        &row.tenant_id,
        &row.actor_id,
        &row.actor_type,
        &row.on_behalf_of,
        &row.resource_type,
        &row.resource_id,
        &row.user_agent,
        &row.request_id,
        &row.trace_id,
    ];
    let optional: usize = texts.into_iter().flatten().map(String::len).sum();
    let metadata = row
        .metadata
        .as_ref()
        .map_or(0, |metadata| metadata.as_str().len());
    row.action.len() + row.outcome.len() + optional + metadata
}
