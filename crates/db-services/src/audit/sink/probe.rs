//! Rows that ought to be accepted. Written in a transaction that is rolled back, they tell a rejected row
//! from a database that accepts none.

use std::sync::{Arc, OnceLock};

use chrono::Utc;
use db_schema::{JsonText, NewAuditLog};
use uuid::Uuid;

use crate::audit::row::LogRow;

/// A row that the database has accepted. The lanes of a writer share it: a rejected row may be tried again
/// by one that has written nothing yet.
#[derive(Clone, Default)]
pub(super) struct KnownGoodRow {
    row: Arc<OnceLock<NewAuditLog>>,
}

/// The largest metadata of a row that is remembered, in bytes.
const MAX_REMEMBERED_BYTES: usize = 4 << 10;

/// Rows of a batch that are tried one by one.
const MAX_PROBE_ROWS: usize = 16;

impl KnownGoodRow {
    /// Remembers a row that was committed: it satisfies the operator's own constraints.
    pub(super) fn remember(&self, rows: &[LogRow]) {
        let small = |row: &&LogRow| row.metadata.as_str().len() <= MAX_REMEMBERED_BYTES;
        if self.row.get().is_none()
            && let Some(row) = rows.iter().find(small)
        {
            // Another lane may have been first.
            let _ = self.row.set((**row).clone());
        }
    }

    /// Rows to try: the known good one, one with every column filled, and some of the failed batch, beginning
    /// anywhere, since a constraint of the operator's may reject all but those.
    pub(super) fn probe_rows(&self, batch: &[LogRow]) -> Vec<NewAuditLog> {
        let fresh = |row: &NewAuditLog| NewAuditLog {
            id: Uuid::now_v7(),
            created_at: Utc::now(),
            ..row.clone()
        };
        // A single row was tried just now.
        let others = if batch.len() > 1 { batch } else { &[] };
        let begin = Uuid::new_v4().as_u128() as usize % others.len().max(1);
        let step = others.len().div_ceil(MAX_PROBE_ROWS).max(1);
        let some = others[begin..]
            .iter()
            .chain(&others[..begin])
            .step_by(step)
            .map(|row| &**row);
        self.row
            .get()
            .into_iter()
            .chain([&dummy_row()])
            .chain(some)
            .map(fresh)
            .collect()
    }
}

/// A harmless row with every column filled.
fn dummy_row() -> NewAuditLog {
    let text = || Some("audit.probe".into());
    NewAuditLog {
        id: Uuid::now_v7(),
        created_at: Utc::now(),
        tenant_id: text(),
        actor_id: text(),
        actor_type: Some("system".into()),
        on_behalf_of: text(),
        action: "audit.probe".into(),
        outcome: "success".into(),
        resource_type: text(),
        resource_id: text(),
        ip_address: Some(std::net::IpAddr::from([127, 0, 0, 1]).into()),
        user_agent: text(),
        request_id: text(),
        trace_id: text(),
        operation_id: Some(Uuid::nil()),
        metadata: JsonText::from_text("{}"),
        writer_id: Some(Uuid::nil()),
        writer_seq: Some(0),
    }
}
