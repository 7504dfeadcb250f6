//! The part of a row that the state machines know.

use std::sync::Arc;

use uuid::Uuid;

/// The rows of a batch, shared by those that hold it at the same time: a lane and the spool.
pub type Rows<R> = Arc<Vec<R>>;

/// A row on its way to the database: an entry, or a record that a writer makes about itself.
///
/// The state machines move rows and never look into them. Implemented by the row of `audit_logs` and by
/// that of the simulation.
pub trait Row: Clone {
    /// The writer that numbered the entry, and its number there, from 1; none for a record.
    fn number(&self) -> Option<(Uuid, u64)>;

    /// The writer whose clean end this row records; none for every other row.
    fn stopped_writer(&self) -> Option<Uuid>;

    /// True for the record of a clean end. It attests every number before it, so the spool returns it after
    /// everything else of its file.
    fn is_stop_record(&self) -> bool {
        self.stopped_writer().is_some()
    }
}
