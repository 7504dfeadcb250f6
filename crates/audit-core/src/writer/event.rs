//! What the core hears, what it asks for, and how long it waits.

use std::time::Duration;

use crate::spool::{SpoolReply, SpoolRequest};
use crate::{Fate, Loss, Rows, SeqRange, Size, Time};

use super::Record;

/// A connection that writes one batch at a time, by its index.
pub type Lane = usize;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<R> {
    /// The writer was woken, or a time came that it waited for.
    Woken,
    /// The answer to [`Action::Take`].
    Taken(Taken<R>),
    /// A lane is done with its batch.
    Written {
        /// The lane.
        lane: Lane,
        /// Whether the batch is committed.
        result: Result<Written, SinkError>,
    },
    /// The spool answered.
    Spool(SpoolReply<R>),
    /// The spool's thread ended: no further answer comes, and none is to be asked for.
    SpoolGone,
    /// Losses were taken from the ledger, to be declared.
    Lost(Vec<Loss>),
    /// The last actions settled entries, and this many callers were notified. Follows every [`Action::Settle`]
    /// before anything else happens, except for [`Event::Taken`].
    Notified {
        /// How many; 0 if nobody awaited them.
        callers: usize,
    },
    /// The writer is to end by this time. A second call may make it earlier, not later.
    Close {
        /// That time.
        deadline: Time,
    },
}

/// A batch that was taken from the queue.
#[derive(Clone, Debug)]
pub struct Taken<R> {
    /// The rows: first those of the records asked for, then entries; none if nothing was there.
    pub rows: Vec<R>,
    /// What the entries among them count against the queue's bounds.
    pub size: Size,
}

/// The state of the shared parts at the time of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// What counts against the queue's bounds: queued, on its way into the queue, and held by the core.
    pub held: Size,
    /// How many numbers were given out.
    pub submitted: u64,
    /// True if nothing more gets into the queue.
    pub is_closed: bool,
    /// True if a batch is due because the driver holds a group that did not fit the last one.
    pub has_carried: bool,
    /// True if a caller waits for a receipt.
    pub has_waiters: bool,
    /// The ledger's mark: every number up to it is settled.
    pub settled_through: u64,
    /// The ledger's mark: every number up to it is committed or given up. Read before the losses were
    /// taken that the core has heard of.
    pub resolved_through: u64,
}

impl View {
    /// The view once these actions are carried out: what they release counts no more.
    pub(super) fn after<R>(&self, actions: &[Action<R>]) -> Self {
        let released = actions.iter().fold(Size::default(), |sum, action| match action {
            Action::Release(size) => sum + *size,
            _ => sum,
        });
        Self {
            held: self.held.saturating_sub(released),
            ..*self
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug)]
pub enum Action<R> {
    /// Take the next batch from the queue and answer by [`Event::Taken`], before waiting for anything else.
    /// Always the last of its list.
    Take {
        /// The records that go with it.
        records: Vec<Record<R>>,
        /// False if the records go alone.
        entries: bool,
    },
    /// Write a batch on a lane; answered by [`Event::Written`].
    Send {
        /// The lane; it is idle.
        lane: Lane,
        /// The rows.
        rows: Rows<R>,
        /// Whether the rows may be stored already.
        attempt: Attempt,
    },
    /// Ask the spool.
    Spool(SpoolRequest<R>),
    /// Note the fate of entries and notify those who wait for them.
    Settle {
        /// The entries' numbers in this writer.
        ranges: Vec<SeqRange>,
        /// Their fate.
        fate: Fate,
    },
    /// Make room in the queue. Once for everything that was taken.
    Release(Size),
    /// Add to a counter.
    Count(Counter, u64),
    /// Tell an operator.
    Notice(Notice),
}

/// Whether rows may be stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// They were never sent.
    First,
    /// They were sent before, or come from the spool: what is stored already is left as it is.
    Retry,
}

/// A counter that is not derived from fates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Entries that were committed from the spool.
    Replayed,
    /// Attempts that failed and are repeated.
    Retries,
}

/// What a lane reports of a committed batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The rows, by their index in the batch, that were not inserted since their id and time are stored
    /// under another writer's number, or under another number of this writer.
    pub duplicates: Vec<usize>,
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// The kind of error.
    pub kind: SinkErrorKind,
    /// The database's message, and a hint where one is known.
    pub reason: String,
    /// Its five-character code (PostgreSQL, appendix A), where there is one.
    pub sqlstate: Option<String>,
}

/// How an error of a database is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// No connection, no answer, no resources, read-only: it passes by itself.
    Transient,
    /// No table, no column, no right, a wrong password or certificate: an operator must fix it.
    Misconfigured,
    /// The database rejects a row of this batch, and accepts others.
    RowRejected,
}

/// How long the driver waits for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Look at the queue again and again, after giving way to others: callers are expected back within microseconds.
    /// Ends with an event, or when one of these is reached.
    Spin {
        /// This many entries are held.
        held: usize,
        /// This time.
        until: Time,
    },
    /// Until this time or an event; callers do not wake the writer for an entry that nobody awaits.
    Until(Time),
    /// Until this time, an event, or a caller's wake-up: the queue is empty.
    Park(Time),
    /// The core has ended: nothing is left, or its time is up.
    Finished,
}

/// What an operator should know; the driver logs it, once for each change of state.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The database does not accept batches.
    DatabaseDown {
        /// Why, and a hint.
        error: SinkError,
        /// True if entries go to a spool after a while.
        has_spool: bool,
    },
    /// The database accepts batches again.
    DatabaseUp {
        /// After this time.
        after: Duration,
        /// True if entries are in the spool.
        replaying: bool,
    },
    /// The database rejects a row; it goes to the quarantine.
    RowRejected {
        /// Rows since the last such notice.
        rows: u64,
        /// Why.
        error: SinkError,
    },
    /// The queue was full: entries were dropped.
    QueueFull {
        /// How many since the last such notice.
        entries: u64,
    },
    /// A rejected row is kept in memory, since the quarantine does not take it.
    QuarantineFailed {
        /// Why not.
        reason: String,
    },
    /// A rejected row was given up at the end, since the quarantine did not take it.
    RejectedRowLost {
        /// Why not.
        reason: String,
    },
    /// Entries go to the spool.
    SpoolInUse,
    /// The spool is empty again.
    SpoolDrained,
    /// The spool does not take entries; they wait in memory.
    SpoolFailed {
        /// Why not.
        reason: String,
    },
    /// The spool takes entries again.
    SpoolRecovered,
    /// The spool's thread ended; entries wait in memory alone.
    SpoolGone,
}
