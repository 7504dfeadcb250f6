//! The spool: what a directory of spool files holds, and what is done with it.
//!
//! The writer's core asks by [`SpoolRequest`] and hears by [`SpoolReply`]; the [`SpoolWorker`] answers, on
//! a thread of its own. It decides; its [`Store`] reads and writes.

mod notice;
mod store;
mod worker;

use std::fmt;

use crate::Rows;

pub use notice::{NoticeLevel, SpoolNotice};
pub use store::{
    Adoption, Batch, BatchSize, Committed, SalvageFrom, SalvagedBatch, Store, StoreError, StoredBatch, Usage,
};
pub use worker::{Closed, SpoolConfig, SpoolWorker};

/// Names the copy of one batch from the request to append it on; given by the writer's core, never used
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyId(pub u64);

/// Where a batch is in the spool: its file and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId {
    /// The key of the file in this process; none is used twice.
    pub file: u32,
    /// The number in the file, ascending in the order of arrival.
    pub batch: i64,
}

/// What the writer's core asks of the spool.
#[derive(Clone, Debug)]
pub enum SpoolRequest<R> {
    /// Append a batch; answered by [`SpoolReply::Appended`] once it is synced. The batch counts as held
    /// by the writer until it is removed or returned.
    Append {
        /// Names the copy in the reply.
        copy: CopyId,
        /// The rows.
        rows: Rows<R>,
    },
    /// Remove batches that were committed or are safe in the quarantine, soon. Not answered.
    Remove(Vec<SpoolId>),
    /// Hand out the oldest batches that the writer does not hold; answered by [`SpoolReply::Read`].
    Read,
    /// The writer no longer holds these batches. Not answered.
    Return {
        /// The batches.
        batches: Vec<SpoolId>,
        /// When they are handed out again.
        again: Again,
    },
    /// Hand out from the beginning again: a batch was committed, so those that were returned
    /// [`Again::AfterOthers`] may be accepted as well. Not answered.
    Rewind,
    /// Keep a rejected row in the quarantine; answered by [`SpoolReply::Quarantined`] once it is synced.
    Quarantine {
        /// Names the row in the reply.
        ticket: Ticket,
        /// The row, alone.
        rows: Rows<R>,
        /// The database's message.
        reason: String,
        /// The database's five-character code, if it has one.
        sqlstate: Option<String>,
    },
}

/// Names a row on its way to the quarantine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// When a returned batch is handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// In its place, the oldest first.
    InOrder,
    /// After the others of its file: the database did not accept it for a permanent reason, and may accept
    /// another.
    AfterOthers,
}

/// What the spool's worker answers.
#[derive(Clone, Debug)]
pub enum SpoolReply<R> {
    /// A batch is synced, or why it is not.
    Appended {
        /// The copy.
        copy: CopyId,
        /// Where it is.
        result: Result<SpoolId, SpoolFailure>,
    },
    /// The oldest batches that the writer did not hold and that fit one statement together; it holds them
    /// now. None if there is no more up to the end.
    Read(Option<SpooledBatch<R>>),
    /// A rejected row is in the quarantine and synced, or why it is not.
    Quarantined {
        /// The row.
        ticket: Ticket,
        /// Whether it is safe.
        result: Result<(), SpoolFailure>,
    },
    /// Batches came to the spool that the writer did not append: those of an adopted file. There is
    /// something to read.
    Adopted,
    /// Something that an operator should know.
    Notice(SpoolNotice),
}

/// Batches that were read from the spool together.
#[derive(Clone, Debug)]
pub struct SpooledBatch<R> {
    /// Where they are.
    pub ids: Vec<SpoolId>,
    /// Their rows.
    pub rows: Vec<R>,
}

/// Why the spool did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolFailure {
    /// The file is at its limit.
    Full {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The disk refused, was full or failed; its message.
    Io(String),
    /// The writer's file was damaged and a new one could not be made; the message.
    Damaged(String),
}

impl fmt::Display for SpoolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit } => {
                write!(
                    f,
                    "the spool is full: it may hold {limit} bytes (raise spool_bytes)"
                )
            }
            Self::Io(message) | Self::Damaged(message) => f.write_str(message),
        }
    }
}
