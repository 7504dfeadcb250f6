//! What becomes of an entry.

use std::fmt;
use std::sync::Arc;

/// What became of an entry, as its receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It is in `audit_logs`: the database acknowledged the commit.
    Committed,
    /// It is in the local spool, synced; replay will commit it.
    Spooled,
    /// The time to wait passed; it is still queued.
    Pending,
    /// The database rejects this row. It is in the quarantine of the spool directory, synced, if there is
    /// one, and declared in the trail.
    Quarantined,
    /// It is lost, for this reason; counted and logged.
    Dropped(DropReason),
    /// No database is configured.
    Disabled,
    /// Not known exactly: asked too late, or the writer was shut down while the database still worked on
    /// it.
    Unknown,
}

/// Why an entry was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was at its bound.
    QueueFull,
    /// The writer was shut down.
    ShutDown,
    /// The database rejects it, and it could not be put into quarantine; the database's message.
    Database(Arc<str>),
    /// The environment names a database that cannot be used; why not.
    Configuration(Arc<str>),
    /// The operating system gave no thread to write with; its message. Starting is tried again with a
    /// later entry.
    NoThread(Arc<str>),
}

/// The final or passing state of an entry in the [`Ledger`](crate::ledger::Ledger).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The database acknowledged the commit.
    Committed,
    /// Synced in the spool alone. The only fate that may still change.
    Spooled,
    /// Rejected by the database, kept and declared.
    Quarantined,
    /// Given up.
    Dropped(DropReason),
    /// The database or the disk was still working on it at the end.
    Unknown,
}

impl Delivery {
    /// True if the entry survives a crash of this process: committed or spooled. For callers that fail
    /// when their record is not safe.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Committed | Self::Spooled)
    }
}

impl From<Fate> for Delivery {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Committed => Self::Committed,
            Fate::Spooled => Self::Spooled,
            Fate::Quarantined => Self::Quarantined,
            Fate::Dropped(reason) => Self::Dropped(reason),
            Fate::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::Spooled => f.write_str("spooled"),
            Self::Pending => f.write_str("pending"),
            Self::Quarantined => f.write_str("quarantined"),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
            Self::Disabled => f.write_str("disabled"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl DropReason {
    /// One word for each reason, as the trail and the metrics have it.
    pub const LABELS: [&'static str; 5] = [
        "queue_full",
        "shut_down",
        "database",
        "configuration",
        "no_thread",
    ];

    /// The word for this reason.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Its index in [`LABELS`](Self::LABELS).
    pub fn index(&self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::ShutDown => 1,
            Self::Database(_) => 2,
            Self::Configuration(_) => 3,
            Self::NoThread(_) => 4,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the queue was full"),
            Self::ShutDown => f.write_str("the writer was shut down"),
            Self::Database(message) => write!(f, "the database rejects it: {message}"),
            Self::Configuration(message) => write!(f, "the database cannot be used: {message}"),
            Self::NoThread(message) => write!(f, "the writer's thread could not be started: {message}"),
        }
    }
}

/// How many entries of one call were delivered how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryCounts {
    /// [`Delivery::Committed`].
    pub committed: u64,
    /// [`Delivery::Spooled`].
    pub spooled: u64,
    /// [`Delivery::Pending`].
    pub pending: u64,
    /// [`Delivery::Quarantined`].
    pub quarantined: u64,
    /// [`Delivery::Dropped`].
    pub dropped: u64,
    /// [`Delivery::Disabled`].
    pub disabled: u64,
    /// [`Delivery::Unknown`].
    pub unknown: u64,
    /// Why the last of those dropped was.
    pub drop_reason: Option<DropReason>,
}

impl DeliveryCounts {
    /// The counts of entries that were all delivered the same.
    pub fn all(delivery: &Delivery, entries: u64) -> Self {
        let mut counts = Self::default();
        counts.add(delivery, entries);
        counts
    }

    /// The weakest delivery among the entries; [`Delivery::Committed`] if there were none.
    pub fn weakest(&self) -> Delivery {
        if let Some(reason) = &self.drop_reason {
            return Delivery::Dropped(reason.clone());
        }
        [
            (self.disabled, Delivery::Disabled),
            (self.quarantined, Delivery::Quarantined),
            (self.unknown, Delivery::Unknown),
            (self.pending, Delivery::Pending),
            (self.spooled, Delivery::Spooled),
        ]
        .into_iter()
        .find_map(|(count, delivery)| (count > 0).then_some(delivery))
        .unwrap_or(Delivery::Committed)
    }

    /// Counts entries.
    pub fn add(&mut self, delivery: &Delivery, entries: u64) {
        if entries == 0 {
            return;
        }
        match delivery {
            Delivery::Committed => self.committed += entries,
            Delivery::Spooled => self.spooled += entries,
            Delivery::Pending => self.pending += entries,
            Delivery::Quarantined => self.quarantined += entries,
            Delivery::Disabled => self.disabled += entries,
            Delivery::Unknown => self.unknown += entries,
            Delivery::Dropped(reason) => {
                self.dropped += entries;
                self.drop_reason = Some(reason.clone());
            }
        }
    }
}
