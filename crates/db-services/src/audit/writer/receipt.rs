//! The answer to writing an entry.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;

use audit_core::SeqRange;

use super::{AuditWriter, Delivery, DeliveryCounts};

/// The answer to writing: can be dropped, which costs nothing, or awaited.
///
/// Awaiting asks the writer to hurry and gives the [`Delivery`], within 5 seconds unless the
/// writer's [`receipt_timeout`](super::AuditWriterBuilder::receipt_timeout) says otherwise. It works
/// on any executor.
///
/// # Cancel safety
/// Dropping the receipt or its future changes nothing about the entry.
#[derive(Clone)]
pub struct Receipt(State);

#[derive(Clone)]
enum State {
    Settled(DeliveryCounts),
    Numbered { writer: AuditWriter, range: SeqRange },
}

impl Receipt {
    pub(in crate::audit) fn settled(delivery: &Delivery, entries: u64) -> Self {
        Self(State::Settled(DeliveryCounts::all(delivery, entries)))
    }

    pub(super) fn numbered(writer: AuditWriter, range: SeqRange) -> Self {
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
