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

    /// True for the record that says that its writer stopped. It vouches for every number before it, so
    /// the spool hands it out after everything else of its file.
    fn is_stop_record(&self) -> bool;
}
