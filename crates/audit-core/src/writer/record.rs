//! The records that a writer makes about itself.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{DropReason, Loss, SeqRange};

/// A record that a writer makes about itself or about an entry of a writer that went before it. The driver
/// makes a row of it, with a reserved action and no `writer_seq`.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<R> {
    /// `audit.writer_started`, with its first entry.
    Started,
    /// `audit.writer_alive`: every number up to this one is stored or declared.
    Alive {
        /// That number.
        resolved_through: u64,
    },
    /// `audit.entries_lost`: losses of one reason.
    Lost {
        /// The ranges.
        losses: Vec<Loss>,
        /// Why.
        reason: DropReason,
    },
    /// `audit.entries_duplicate`: numbers without a row, since the id and time of their entries were stored
    /// before under another number.
    Duplicate {
        /// The writer that gave the numbers.
        writer: Uuid,
        /// The numbers.
        ranges: Vec<SeqRange>,
    },
    /// `audit.entry_quarantined`: the database rejected this entry.
    Quarantined {
        /// The entry.
        row: R,
        /// The database's five-character code, if it has one.
        sqlstate: Option<String>,
    },
    /// `audit.writer_stopped`: a clean end; every number up to this one is stored or declared.
    Stopped {
        /// That number.
        last_seq: u64,
    },
}

impl<R> Record<R> {
    /// The declarations of numbers whose entries are stored under other numbers, one for each writer.
    pub fn duplicates(numbers: Vec<(Uuid, u64)>) -> Vec<Self> {
        let mut by_writer: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
        for (writer, seq) in numbers {
            by_writer.entry(writer).or_default().push(seq);
        }
        let record = |(writer, numbers)| Self::Duplicate {
            writer,
            ranges: SeqRange::of(numbers),
        };
        by_writer.into_iter().map(record).collect()
    }
}
