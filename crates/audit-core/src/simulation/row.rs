//! The rows of the simulation.

use std::rc::Rc;

use uuid::Uuid;

use crate::Row;
use crate::writer::Record;

/// A row of the simulation: an entry, or a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SimRow {
    /// Its place in the model; none is used twice.
    pub(super) key: u32,
    /// The primary key in the table. An entry that is written twice has it twice.
    pub(super) id: u32,
    /// The writer that numbered it or that makes the record.
    pub(super) writer: u32,
    /// The number; zero for a record.
    pub(super) seq: u64,
    pub(super) bytes: u32,
    pub(super) record: Option<Rc<Record<Self>>>,
}

/// The id of a writer by its index in the model.
pub(super) fn writer_id(index: u32) -> Uuid {
    Uuid::from_u128(u128::from(index) + 1)
}

/// The index of a writer by its id.
pub(super) fn writer_index(id: Uuid) -> u32 {
    u32::try_from(id.as_u128()).unwrap_or(u32::MAX).wrapping_sub(1)
}

impl Row for SimRow {
    fn number(&self) -> Option<(Uuid, u64)> {
        (self.seq > 0).then(|| (writer_id(self.writer), self.seq))
    }

    fn stopped_writer(&self) -> Option<Uuid> {
        matches!(self.record.as_deref(), Some(Record::Stopped { .. })).then(|| writer_id(self.writer))
    }
}
