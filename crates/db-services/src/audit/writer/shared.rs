//! What the callers' threads and the writer's thread share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use audit_core::ledger::Ledger;
use audit_core::writer::View;
use audit_core::{Fate, Loss, SeqRange, Size, Time};
use tokio::sync::{Notify, oneshot, watch};

use super::batcher::EntryGroup;
use super::queue::{Queue, QueueError};
use super::stats::Counters;
use super::{DeliveryCounts, DropReason, Receipt, WriterReport, WriterStats};
use crate::LOG_TARGET;
use crate::audit::panics::contained;
use crate::client::Database;

/// What notifies a caller that awaits a receipt.
type Reply = oneshot::Sender<DeliveryCounts>;

/// What the callers' threads and the writer's thread share.
pub(in crate::audit) struct Shared {
    /// The database, once it is known: its name in log lines. Kept: one in memory ends with its last owner.
    database: OnceLock<(String, Option<Database>)>,
    started: Instant,
    pub(super) queue: Queue<EntryGroup>,
    wake: Notify,
    ledger: Mutex<Ledger<Reply>>,
    /// Why nothing can be written, once that is certain: the environment names no usable database.
    unusable: OnceLock<Arc<str>>,
    logged_late_entry: AtomicBool,
    /// True once callers have noted losses that the thread has not looked at.
    has_losses: AtomicBool,
    pub(super) counters: Counters,
    pub(super) receipt_timeout: Duration,
    /// The earliest time by which a shutdown was asked to be done.
    shutdown_deadline: Mutex<Option<Time>>,
    finished: watch::Sender<bool>,
    /// The writer's thread, once it runs.
    thread: OnceLock<ThreadId>,
    /// The process of that thread.
    process: u32,
}

/// The time that a thread gets to end beyond the deadline of a shutdown. It needs it only where the user's
/// code blocks it, or a disk.
const END_GRACE: Duration = Duration::from_secs(3);

/// The waiters that are looked at, whether their caller has gone, for each that expires.
const SWEPT_PER_EXPIRED: usize = 4;

/// The ledger's state at the beginning of a turn of the writer's thread.
pub(super) struct Turn {
    pub(super) view: View,
    pub(super) losses: Vec<Loss>,
}

impl Shared {
    pub(super) fn new(bound: Size, receipt_timeout: Duration) -> Self {
        Self {
            database: OnceLock::new(),
            started: Instant::now(),
            queue: Queue::new(bound),
            wake: Notify::new(),
            ledger: Mutex::default(),
            unusable: OnceLock::new(),
            logged_late_entry: AtomicBool::new(false),
            has_losses: AtomicBool::new(false),
            counters: Counters::default(),
            receipt_timeout,
            shutdown_deadline: Mutex::new(None),
            finished: watch::Sender::new(false),
            thread: OnceLock::new(),
            process: std::process::id(),
        }
    }

    pub(super) fn set_database(&self, name: String, database: Option<Database>) {
        // It is set once, before the first entry is written.
        let _ = self.database.set((name, database));
    }

    /// The database's name in log lines, without credentials.
    pub(super) fn name(&self) -> &str {
        self.database
            .get()
            .map_or("the configured database", |(name, _)| name)
    }

    /// The time by this writer's clock.
    pub(super) fn now(&self) -> Time {
        Time::after(self.started.elapsed())
    }

    /// Wakes the thread.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Assigns numbers; none to no entries.
    #[inline]
    pub(in crate::audit) fn reserve(&self, count: u64) -> Option<SeqRange> {
        SeqRange::starting_at(self.queue.reserve_numbers(count), count)
    }

    /// Drops entries that the queue did not admit.
    #[cold]
    pub(super) fn refuse(&self, range: SeqRange, error: QueueError) -> Receipt {
        let reason = match error {
            QueueError::Full => DropReason::QueueFull,
            QueueError::Closed => self.closed_reason(),
        };
        self.refuse_for(range, reason)
    }

    /// Drops entries for a reason.
    pub(in crate::audit) fn refuse_for(&self, range: SeqRange, reason: DropReason) -> Receipt {
        self.counters.refused.fetch_add(range.len(), Ordering::Relaxed);
        self.settle(&[range], &Fate::Dropped(reason.clone()));
        if reason == DropReason::ShutDown && !self.logged_late_entry.swap(true, Ordering::Relaxed) {
            contained(|| {
                log::error!(
                    target: LOG_TARGET, database = self.name();
                    "an entry came after the writer's shutdown: it and all later ones are lost"
                );
            });
        }
        // The thread reports and declares the loss; once for all until it looks.
        if !self.has_losses.swap(true, Ordering::SeqCst) {
            self.wake();
        }
        Receipt::settled(&super::Delivery::Dropped(reason), range.len())
    }

    pub(super) fn closed_reason(&self) -> DropReason {
        match self.unusable.get() {
            Some(reason) => DropReason::Configuration(Arc::clone(reason)),
            None => DropReason::ShutDown,
        }
    }

    /// Takes no more entries, since none can ever be written.
    pub(super) fn set_unusable(&self, reason: Arc<str>) {
        let _ = self.unusable.set(reason);
        self.queue.close();
    }

    pub(in crate::audit) fn unusable(&self) -> Option<&Arc<str>> {
        self.unusable.get()
    }

    /// Notes the fate of these ranges, counts them, and notifies the callers that wait. Returns how many those
    /// were. They are woken after the lock was released: a waker is user code.
    pub(super) fn settle(&self, ranges: &[SeqRange], fate: &Fate) -> usize {
        let mut ledger = lock(&self.ledger);
        let delta = ledger.settle(ranges, fate);
        self.counters.count(fate, delta);
        let ready = ledger.take_settled();
        drop(ledger);
        notify(ready)
    }

    /// Notifies callers whose time is up.
    pub(super) fn expire(&self, now: Time) {
        let mut ledger = lock(&self.ledger);
        let expired = ledger.take_expired(now);
        // Where one has waited to its deadline, others may have gone. A few for each: callers whose entries are
        // refused wait for this lock.
        let gone = ledger.take_gone(SWEPT_PER_EXPIRED * expired.len(), oneshot::Sender::is_closed);
        drop(ledger);
        notify(expired);
        gone.into_iter().for_each(|reply| _ = contained(|| drop(reply)));
    }

    /// The state of the shared parts, and the losses since the last call. The marks are read before the
    /// losses are taken, under one lock: a mark never passes a loss that the core has not heard of.
    pub(super) fn turn(&self, has_carried: bool) -> Turn {
        self.has_losses.store(false, Ordering::SeqCst);
        let mut ledger = lock(&self.ledger);
        Turn {
            view: self.view_of(&ledger, has_carried),
            losses: ledger.take_losses(),
        }
    }

    /// The state of the shared parts.
    pub(super) fn view(&self, has_carried: bool) -> View {
        self.view_of(&lock(&self.ledger), has_carried)
    }

    fn view_of(&self, ledger: &Ledger<Reply>, has_carried: bool) -> View {
        View {
            held: self.queue.held(),
            submitted: self.queue.submitted(),
            is_closed: self.queue.is_closed(),
            has_carried,
            has_waiters: ledger.has_waiters(),
            settled_through: ledger.settled_through(),
            resolved_through: ledger.resolved_through(),
        }
    }

    /// The earliest deadline of the callers that wait.
    pub(super) fn next_deadline(&self) -> Time {
        lock(&self.ledger).next_deadline().unwrap_or(Time::NEVER)
    }

    /// The numbers that are not settled.
    pub(super) fn unsettled(&self) -> Vec<SeqRange> {
        lock(&self.ledger).unsettled(self.submitted())
    }

    pub(super) fn take_losses(&self) -> Vec<Loss> {
        lock(&self.ledger).take_losses()
    }

    /// Waits for the fate of a range, at most the time that a receipt may take.
    pub(super) async fn outcome(&self, range: SeqRange) -> DeliveryCounts {
        self.settled_by(range, self.now() + self.receipt_timeout).await
    }

    pub(super) async fn settled_by(&self, range: SeqRange, deadline: Time) -> DeliveryCounts {
        // Before the lock, for which other callers wait: the process's number is a system call.
        let can_wait = !self.is_own_thread() && !self.is_forked();
        let (reply, answer) = oneshot::channel();
        {
            let mut ledger = lock(&self.ledger);
            if let Some(counts) = ledger.outcome(range) {
                return counts;
            }
            if !can_wait {
                return ledger.known(range);
            }
            ledger.wait(range, deadline, reply);
        }
        self.wake();
        // An answer always comes: the thread settles everything before it ends, however it ends.
        answer
            .await
            .unwrap_or_else(|_| lock(&self.ledger).outcome(range).unwrap_or_default())
    }

    /// Takes no more entries; the thread is to be done by the deadline.
    pub(super) fn close(&self, deadline: Time) {
        self.queue.close();
        let mut earliest = lock(&self.shutdown_deadline);
        *earliest = Some(earliest.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(earliest);
        self.wake();
    }

    pub(super) fn shutdown_deadline(&self) -> Option<Time> {
        *lock(&self.shutdown_deadline)
    }

    pub(super) fn finish(&self) {
        // Wakes callers, whose wakers are user code.
        contained(|| _ = self.finished.send_replace(true));
    }

    /// Notes that the current thread is the writer's.
    pub(super) fn set_own_thread(&self) {
        let _ = self.thread.set(std::thread::current().id());
    }

    /// True on the writer's thread, which runs the user's callbacks: one of them must not wait for itself.
    fn is_own_thread(&self) -> bool {
        self.thread
            .get()
            .is_some_and(|thread| *thread == std::thread::current().id())
    }

    /// True in a child process, which has no writer's thread.
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Waits until the thread has ended, a little beyond the deadline at most. False if it has not.
    pub(super) async fn finished_by(&self, deadline: Time) -> bool {
        let mut finished = self.finished.subscribe();
        if !self.is_own_thread() && !self.is_forked() {
            let limit = (deadline - self.now()).saturating_add(END_GRACE);
            self.within(limit, finished.wait_for(|finished| *finished)).await;
        }
        *finished.borrow()
    }

    /// Waits for a future, at most for this time. The caller may have no timer, and the writer's thread may be
    /// what does not answer.
    pub(super) async fn within(&self, limit: Duration, future: impl Future) {
        let (expire, expired) = oneshot::channel::<()>();
        let (ended, watch) = mpsc::channel::<()>();
        let timer = std::thread::Builder::new()
            .name("audit-deadline".to_owned())
            .spawn(move || {
                let _ = watch.recv_timeout(limit);
                drop(expire);
            });
        tokio::select! {
            biased;
            _ = future => {}
            _ = expired, if timer.is_ok() => {}
        }
        drop(ended);
    }

    pub(in crate::audit) fn submitted(&self) -> u64 {
        self.queue.submitted()
    }

    pub(super) fn stats(&self) -> WriterStats {
        let held = self.queue.held();
        let stats = self.counters.stats(self.submitted(), self.started.elapsed());
        WriterStats {
            queued: held.entries,
            queued_bytes: held.bytes,
            ..stats
        }
    }

    pub(in crate::audit) fn report(&self) -> WriterReport {
        self.counters.report(self.submitted())
    }

    /// The report of a shutdown: nothing is pending then. A caller that writes at this moment may have a
    /// number and not be settled as dropped yet.
    pub(super) fn last_report(&self) -> WriterReport {
        WriterReport {
            pending: 0,
            ..self.report()
        }
    }
}

/// Notifies callers, and returns how many there were.
fn notify(ready: Vec<(Reply, DeliveryCounts)>) -> usize {
    let notified = ready.len();
    for (reply, counts) in ready {
        // The receiver may have been dropped. Waking it runs its executor's code.
        contained(|| drop(reply.send(counts)));
    }
    notified
}

/// Locks a mutex; a panic elsewhere must not spread to a caller that writes an entry.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_forked_process_waits_for_nothing() {
        let bound = Size {
            entries: 10,
            bytes: 1_000,
        };
        let shared = Shared {
            process: std::process::id() + 1,
            ..Shared::new(bound, Duration::MAX)
        };
        let range = SeqRange { first: 1, last: 2 };
        assert_eq!(shared.settled_by(range, Time::NEVER).await.pending, 2);
        assert!(!shared.finished_by(Time::NEVER).await);
    }
}
