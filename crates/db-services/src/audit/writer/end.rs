//! How does a writer end: what is still written, what is lost, and who hears of it?

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hand::Place;
use super::life::{Loss, OnLoss};
use super::receipt::{Delivery, DropReason};
use super::worker::{LINGER, Worker};
use super::{Shared, lock};

/// The time a spool gets to close its files, beyond the deadline if need be.
const CLOSE_SPOOL: Duration = Duration::from_secs(1);

/// A shutdown under way.
pub(super) struct Closing {
    since: Instant,
    deadline: Instant,
    /// From when on what is left goes to the spool rather than to the database.
    pub(super) divert_at: Instant,
    /// How many entries the writer was given: nothing after them is taken.
    last_seq: u64,
}

impl Closing {
    pub(super) fn next(&self, now: Instant) -> Instant {
        // The end comes by a lane's or the spool's answer; a caller between number and push by itself.
        if self.divert_at > now { self.divert_at.min(now + LINGER) } else { self.deadline.min(now + LINGER) }
    }
}

impl Worker {
    /// Notes that the writer is to end. True when it can.
    pub(super) fn close(&mut self, now: Instant) -> bool {
        let Some(deadline) = *lock(&self.shared.shut_by) else { return false };
        let given = self.shared.given();
        let spool = self.spooling.is_some();
        let closing = self.closing.get_or_insert_with(|| {
            let half = deadline.saturating_duration_since(now) / 2;
            Closing {
                since: now,
                deadline,
                divert_at: if spool { now + half } else { deadline },
                last_seq: given,
            }
        });
        // A second call may shorten the time.
        closing.deadline = closing.deadline.min(deadline);
        let (since, last_seq) = (closing.since, closing.last_seq);
        if deadline <= now {
            return true;
        }
        let safe = self.is_safe(since, now) && lock(&self.shared.ledger).through() >= last_seq;
        if !safe {
            return false;
        }
        self.hear_losses(now);
        let rows = self.life.end(last_seq);
        let writable = self.spooling.is_some() || !self.health.is_down();
        if rows.is_empty() || !writable {
            return true;
        }
        self.send_last(rows, now);
        false
    }

    /// True if nothing in memory would be lost by ending now. What the spool has need not wait for a
    /// database that takes nothing.
    fn is_safe(&self, since: Instant, now: Instant) -> bool {
        let patient = !self.health.is_down() && now.duration_since(since) < self.policy.spill_after;
        self.waiting().entries == 0
            && self.spooling.as_ref().is_none_or(|spooling| spooling.asked.is_empty())
            && self
                .hand
                .batches
                .values()
                .all(|batch| batch.is_kept() && batch.place != Place::Aside && (batch.replayed || !patient))
    }

    /// Settles what is left and lets go of everything.
    pub(super) async fn end(mut self, now: Instant) {
        self.give_up();
        let left = self
            .closing
            .as_ref()
            .map_or(Duration::ZERO, |closing| closing.deadline.saturating_duration_since(now));
        if let Some(spooling) = self.spooling.take() {
            spooling.close(left.max(CLOSE_SPOOL)).await;
        }
    }
}

/// Settles whatever the thread leaves behind, and says that it ended.
pub(super) struct Ending {
    pub(super) shared: Arc<Shared>,
    pub(super) on_loss: Option<OnLoss>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.queue.close();
        // What a caller has counted and not yet pushed comes in a moment; what a worker that panicked
        // had taken out never comes.
        while shared.queue.held().entries > 0 && !(std::thread::panicking() && shared.queue.is_empty()) {
            match shared.queue.pop() {
                Some((group, weight)) => {
                    shared.settle(&[group.range(weight)], &Delivery::Dropped(DropReason::ShutDown));
                    shared.queue.release(weight);
                }
                None => std::thread::yield_now(),
            }
        }
        if std::thread::panicking() {
            // What the worker had in its hands: nobody knows.
            let open = lock(&shared.ledger).unsettled(shared.given());
            shared.settle(&open, &Delivery::Unknown);
        }
        tell(self.on_loss.as_ref(), &lock(&shared.losses).take());
        let report = shared.report();
        if report.lost + report.unknown > 0 {
            log::error!(
                "audit: the writer to {} ended: {} entries committed, {} spooled, {} lost, {} unknown",
                shared.name,
                report.committed,
                report.spooled,
                report.lost,
                report.unknown
            );
        }
        #[cfg(feature = "metrics")]
        shared.tell_last_metrics();
        shared.finish();
    }
}

/// Calls back with losses. A panic of the caller's code must not end the writer.
pub(super) fn tell(on_loss: Option<&OnLoss>, losses: &[Loss]) {
    let Some(on_loss) = on_loss else { return };
    for loss in losses {
        if std::panic::catch_unwind(AssertUnwindSafe(|| on_loss(loss))).is_err() {
            log::error!("audit: the on_loss callback panicked");
        }
    }
}
