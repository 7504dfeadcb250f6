//! The end of the writer's thread: settles whatever it leaves behind, and reports it.

use std::sync::Arc;

use audit_core::Fate;

use super::OnLoss;
use super::driver::call_on_loss;
use super::shared::Shared;
use crate::LOG_TARGET;
use crate::audit::panics::contained;

/// Settles whatever the thread leaves behind, and says that it has ended. A panic of the driver was caught
/// before: this never runs while the thread unwinds.
pub(super) fn finish(shared: &Arc<Shared>, end: End, on_loss: Option<&OnLoss>) {
    shared.queue.close();
    drain_queue(shared, end);
    if end == End::Panicked {
        // What the driver held: nobody knows.
        shared.settle(&shared.unsettled(), &Fate::Unknown);
        contained(|| {
            log::error!(
                target: LOG_TARGET, database = shared.name();
                "the writer to {} panicked: it takes no more entries",
                shared.name()
            )
        });
    }
    call_on_loss(on_loss, &shared.take_losses());
    let report = shared.report();
    // Why an unusable database loses everything was logged.
    if report.lost + report.unknown > 0 && shared.unusable().is_none() {
        contained(|| {
            log::error!(
                target: LOG_TARGET, database = shared.name(), committed = report.committed, spooled = report.spooled,
                lost = report.lost, unknown = report.unknown;
                "the writer to {} ended: {} entries committed, {} spooled, {} lost, {} unknown",
                shared.name(),
                report.committed,
                report.spooled,
                report.lost,
                report.unknown
            );
        });
    }
    shared.finish();
}

/// How the driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Panicked,
}

/// Drops what is queued. A caller that was admitted pushes in a moment; what a driver that panicked had
/// taken out never comes.
pub(super) fn drain_queue(shared: &Shared, end: End) {
    while shared.queue.held().entries > 0 {
        match shared.queue.pop() {
            Some((group, size)) => {
                let fate = Fate::Dropped(shared.closed_reason());
                shared.settle(group.range(size).as_slice(), &fate);
                shared.queue.release(size);
            }
            None if end == End::Panicked => return,
            None => std::thread::yield_now(),
        }
    }
}
