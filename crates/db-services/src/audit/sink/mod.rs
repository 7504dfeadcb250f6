//! How does a batch reach one kind of database, and what does an error of it mean?

mod horizon;
mod postgres;
mod sqlite;

use std::sync::{Arc, OnceLock};

use chrono::Utc;
use db_schema::{JsonText, NewAuditLog};
use uuid::Uuid;

pub(super) use super::insert::OnRepeat;
use horizon::Horizon;
pub(super) use postgres::PostgresSink;
pub(super) use sqlite::SqliteSink;

/// The rows of a batch, shared with whoever else keeps them.
pub(super) type Rows = Arc<Vec<NewAuditLog>>;

/// Where a writer's batches go. One batch at a time; a writer holds several for more.
pub(super) trait Sink: Send + 'static {
    /// Writes a batch as a whole: when this returns `Ok`, every row is committed. With an error it
    /// is open whether they are. Bounded in time. The future is run to its end.
    fn write(
        &mut self,
        rows: Rows,
        on_repeat: OnRepeat,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SinkError {
    pub(super) fault: Fault,
    /// What the database said, and what helps.
    pub(super) reason: String,
    /// Its five-character code (PostgreSQL, appendix A), where there is one.
    pub(super) sqlstate: Option<String>,
}

/// Whose fault a failed write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The moment's: no connection, no answer, no resources, read-only. It will pass.
    Moment,
    /// The set-up's: no table, no column, no right, a wrong password or certificate. Somebody must
    /// mend it.
    SetUp,
    /// That of a row of this batch: the database takes others.
    Row,
}

/// Which row surely goes in, if any does? Written in a transaction that is rolled back, it tells a
/// refused row from a database that takes none. The lanes of a writer share what they know: a refused
/// row may be tried again by one that has written nothing yet.
#[derive(Clone, Default)]
struct Known {
    good: Arc<OnceLock<NewAuditLog>>,
}

/// The largest metadata of a row that is remembered, in bytes.
const REMEMBERED_BYTES: usize = 4 << 10;

/// Rows of a batch that are tried one by one.
const TRIED: usize = 16;

impl Known {
    /// Remembers a row that was committed: what the operator's own constraints ask for, it has.
    fn committed(&self, rows: &[NewAuditLog]) {
        let small = |row: &&NewAuditLog| row.metadata.as_str().len() <= REMEMBERED_BYTES;
        if self.good.get().is_none()
            && let Some(row) = rows.iter().find(small)
        {
            // Another lane may have been first.
            let _ = self.good.set(row.clone());
        }
    }

    /// Rows to try: the one that went in before, one with every column filled, and some of the refused
    /// batch itself, now these and now others. A rule of the operator's own may refuse all but those.
    fn candidates(&self, batch: &[NewAuditLog]) -> Vec<NewAuditLog> {
        let fresh =
            |row: &NewAuditLog| NewAuditLog { id: Uuid::now_v7(), created_at: Utc::now(), ..row.clone() };
        // One that is alone was tried just now.
        let others = if batch.len() > 1 { batch } else { &[] };
        let begin = Uuid::new_v4().as_u128() as usize % others.len().max(1);
        let some =
            others[begin..].iter().chain(&others[..begin]).step_by(others.len().div_ceil(TRIED).max(1));
        self.good.get().into_iter().chain([&filled()]).chain(some).map(fresh).collect()
    }
}

/// A harmless row with every column filled.
fn filled() -> NewAuditLog {
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

#[cfg(test)]
mod fault_tests;
