//! What waits to be written, within which bounds? Lock-free, without a clock or a database.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

/// How much a queued item counts against the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// A first-in-first-out queue bounded by entries and by bytes.
///
/// Once full it refuses everything until it is below nine tenths of both bounds, so that a loss is
/// one range rather than every other entry.
pub(super) struct Queue<T> {
    items: SegQueue<(T, Weight)>,
    bound: Weight,
    counts: Counts,
}

/// What each call changes: in one cache line, so that two threads that write at the same time wait for
/// each other once and not three times.
#[repr(align(64))]
struct Counts {
    /// The next entry's number.
    next: AtomicU64,
    /// Entries admitted and not yet released; [`CLOSED`] is added when nothing more is admitted.
    entries: AtomicUsize,
    bytes: AtomicUsize,
    full: AtomicBool,
}

/// The highest bit of the count of entries.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl<T> Queue<T> {
    /// What the queue itself takes for an item, in bytes: its place, and a word that says whether it is
    /// there.
    pub(super) const PLACE: usize = size_of::<(T, Weight)>() + size_of::<usize>();

    pub(super) fn new(bound: Weight) -> Self {
        Self {
            items: SegQueue::new(),
            bound,
            counts: Counts {
                next: AtomicU64::new(1),
                entries: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                full: AtomicBool::new(false),
            },
        }
    }

    /// Gives numbers to so many entries, admitted or not, and returns the first.
    pub(super) fn number(&self, count: u64) -> u64 {
        self.counts.next.fetch_add(count, Ordering::Relaxed)
    }

    /// How many numbers were given.
    pub(super) fn given(&self) -> u64 {
        self.counts.next.load(Ordering::Relaxed) - 1
    }

    /// Counts an item if the bounds allow; then it must be [`put`](Self::put). Never waits.
    pub(super) fn admit(&self, weight: Weight) -> Result<(), Refused> {
        if self.counts.full.load(Ordering::Relaxed) {
            // Whoever comes looks for himself: the writer may be asleep with the queue long empty.
            if !self.below_nine_tenths(self.held()) {
                return Err(Refused::Full);
            }
            self.counts.full.store(false, Ordering::Relaxed);
        }
        // SeqCst: the writer goes to sleep only after it saw a count of zero (see `AuditWriter::push`).
        let before = Weight {
            entries: self.counts.entries.fetch_add(weight.entries, Ordering::SeqCst),
            bytes: self.counts.bytes.fetch_add(weight.bytes, Ordering::Relaxed),
        };
        let closed = before.entries & CLOSED != 0;
        let fits = before.entries.saturating_add(weight.entries) <= self.bound.entries
            && before.bytes.saturating_add(weight.bytes) <= self.bound.bytes;
        if closed || !fits {
            self.release(weight);
            if closed {
                return Err(Refused::Closed);
            }
            // An item too large for what room there is does not make the queue full for others.
            if !self.below_nine_tenths(before) {
                self.counts.full.store(true, Ordering::Relaxed);
            }
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Takes an item that was admitted. Apart from that, so that it is moved once.
    pub(super) fn put(&self, item: T, weight: Weight) {
        self.items.push((item, weight));
    }

    /// Takes out the oldest item. It counts against the bounds until it is released: what is being
    /// written is still in memory.
    pub(super) fn pop(&self) -> Option<(T, Weight)> {
        self.items.pop()
    }

    /// Makes room again for what was taken out.
    pub(super) fn release(&self, weight: Weight) {
        self.counts.entries.fetch_sub(weight.entries, Ordering::SeqCst);
        self.counts.bytes.fetch_sub(weight.bytes, Ordering::Relaxed);
    }

    /// What counts against the bounds, what is admitted and not put yet included.
    pub(super) fn held(&self) -> Weight {
        Weight {
            entries: self.counts.entries.load(Ordering::SeqCst) & !CLOSED,
            bytes: self.counts.bytes.load(Ordering::Relaxed),
        }
    }

    /// Admits nothing from now on. What is held can still be taken out.
    pub(super) fn close(&self) {
        self.counts.entries.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.counts.entries.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// True once more than half of either bound is used.
    pub(super) fn is_half_full(&self) -> bool {
        let held = self.held();
        held.entries > self.bound.entries / 2 || held.bytes > self.bound.bytes / 2
    }

    fn below_nine_tenths(&self, held: Weight) -> bool {
        held.entries < self.bound.entries - self.bound.entries / 10
            && held.bytes < self.bound.bytes - self.bound.bytes / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both steps.
    fn push<T>(queue: &Queue<T>, item: T, weight: Weight) -> Result<(), Refused> {
        queue.admit(weight).map(|()| queue.put(item, weight))
    }

    const ONE: Weight = Weight { entries: 1, bytes: 10 };

    fn queue(entries: usize, bytes: usize) -> Queue<usize> {
        Queue::new(Weight { entries, bytes })
    }

    #[test]
    fn refuses_beyond_either_bound_until_below_nine_tenths() {
        for queue in [queue(10, usize::MAX / 2), queue(usize::MAX / 4, 100)] {
            for item in 0..10 {
                assert_eq!(push(&queue, item, ONE), Ok(()));
            }
            assert_eq!(push(&queue, 10, ONE), Err(Refused::Full));
            assert_eq!(queue.pop(), Some((0, ONE)));
            assert_eq!(queue.held().entries, 10, "taken out, and still counted");
            queue.release(ONE);
            assert_eq!(push(&queue, 11, ONE), Err(Refused::Full), "nine tenths are not below nine tenths");
            assert_eq!(queue.pop(), Some((1, ONE)));
            queue.release(ONE);
            assert_eq!(push(&queue, 12, ONE), Ok(()));
            assert_eq!(queue.held(), Weight { entries: 9, bytes: 90 });
        }
    }

    #[test]
    fn an_item_too_large_does_not_shut_out_the_others() {
        let queue = queue(10, 1_000);
        assert_eq!(push(&queue, 0, Weight { entries: 11, bytes: 11 }), Err(Refused::Full));
        assert_eq!(push(&queue, 1, ONE), Ok(()));
    }

    #[test]
    fn closed_it_admits_nothing_and_gives_out_the_rest() {
        let queue = queue(10, 1_000);
        assert_eq!(push(&queue, 1, ONE), Ok(()));
        queue.close();
        assert_eq!(push(&queue, 2, ONE), Err(Refused::Closed));
        assert_eq!(queue.held(), ONE);
        assert_eq!(queue.pop(), Some((1, ONE)));
        queue.release(ONE);
        assert_eq!((queue.pop(), queue.held()), (None, Weight::default()));
    }

    #[test]
    fn threads_neither_lose_nor_invent_items() {
        let queue = queue(64, usize::MAX / 2);
        let (taken, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for item in 0..10_000 {
                        if push(&queue, item, ONE).is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            scope.spawn(|| {
                while taken.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed) < 40_000 {
                    if let Some((_, weight)) = queue.pop() {
                        queue.release(weight);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        assert_eq!(taken.into_inner() + refused.into_inner(), 40_000);
        assert_eq!(queue.held(), Weight::default());
    }
}
