//! What became of an entry, and how is that asked?

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use super::AuditWriter;
use super::ledger::Range;

/// The answer to writing: can be dropped, which costs nothing, or awaited.
///
/// Awaiting asks the writer to hurry and gives the [`Delivery`], within 5 seconds unless the
/// writer's [`receipt_timeout`](super::AuditWriterBuilder::receipt_timeout) says otherwise. It works
/// on any executor.
///
/// # Cancel safety
/// Dropping the receipt or its future changes nothing about the entry.
pub struct Receipt(State);

enum State {
    Settled(DeliveryCounts),
    Numbered { writer: AuditWriter, range: Range },
}

impl Receipt {
    pub(in crate::audit) fn settled(delivery: &Delivery, entries: u64) -> Self {
        let mut counts = DeliveryCounts::default();
        counts.add(delivery, entries);
        Self(State::Settled(counts))
    }

    pub(super) fn numbered(writer: AuditWriter, range: Range) -> Self {
        Self(State::Numbered { writer, range })
    }

    /// Waits like awaiting the receipt, and gives how many entries were delivered how.
    pub async fn counts(self) -> DeliveryCounts {
        match self.0 {
            State::Settled(counts) => counts,
            State::Numbered { writer, range } => writer.shared.outcome(range).await,
        }
    }
}

impl IntoFuture for Receipt {
    type Output = Delivery;
    type IntoFuture = Pin<Box<dyn Future<Output = Delivery> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.counts().await.weakest() })
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Settled(counts) => f.debug_tuple("Receipt").field(&counts.weakest()).finish(),
            State::Numbered { range, .. } => f.debug_tuple("Receipt").field(range).finish(),
        }
    }
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It is in `audit_logs`: the database acknowledged the commit.
    Committed,
    /// It is in the local spool, synced; replay will commit it.
    Spooled,
    /// The time to wait passed; it is still queued.
    Pending,
    /// The database refuses this row. It is kept aside in the spool directory, if there is one, and
    /// declared in the trail.
    Quarantined,
    /// It is lost, for this reason; counted and logged.
    Dropped(DropReason),
    /// No database is configured.
    Disabled,
    /// It cannot be told exactly: asked too late, or the writer was shut down while the database
    /// still worked on it.
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
    /// The database refuses it, and it could not be kept aside either; what was said.
    Database(Arc<str>),
    /// The environment names a database that cannot be used; why not.
    Configuration(Arc<str>),
}

impl Delivery {
    /// True if the entry survives a crash of this process: committed or spooled. For callers who
    /// want to fail when their record is not safe.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Committed | Self::Spooled)
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
    /// One word for each reason, as the trail and metrics have it.
    pub(super) const LABELS: [&'static str; 4] = ["queue_full", "shut_down", "database", "configuration"];

    pub(super) fn label(&self) -> &'static str {
        Self::LABELS[self.nth()]
    }

    /// Its place among the labels.
    pub(super) fn nth(&self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::ShutDown => 1,
            Self::Database(_) => 2,
            Self::Configuration(_) => 3,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the queue was full"),
            Self::ShutDown => f.write_str("the writer was shut down"),
            Self::Database(said) => write!(f, "the database refuses it: {said}"),
            Self::Configuration(said) => write!(f, "the database cannot be used: {said}"),
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
    /// Gives the weakest delivery among the entries; [`Delivery::Committed`] if there were none.
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

    pub(super) fn add(&mut self, delivery: &Delivery, count: u64) {
        if count == 0 {
            return;
        }
        match delivery {
            Delivery::Committed => self.committed += count,
            Delivery::Spooled => self.spooled += count,
            Delivery::Pending => self.pending += count,
            Delivery::Quarantined => self.quarantined += count,
            Delivery::Disabled => self.disabled += count,
            Delivery::Unknown => self.unknown += count,
            Delivery::Dropped(reason) => {
                self.dropped += count;
                self.drop_reason = Some(reason.clone());
            }
        }
    }
}
