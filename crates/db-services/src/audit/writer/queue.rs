//! The queue between callers and the writer's thread: first in, first out, bounded, without a lock.
//!
//! `gate.rs` decides what gets in and whether the thread must be woken, in one atomic word; the items
//! themselves are in a list that is not bounded.

mod gate;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod model_check;

use std::sync::atomic;

use audit_core::Size;
use crossbeam_queue::SegQueue;

use self::gate::Gate;
pub(super) use self::gate::{Permit, QueueError};

/// A queue bounded by entries and by bytes.
///
/// Any thread puts items in; one thread, the writer's, takes them out and sleeps.
pub(super) struct Queue<T> {
    items: SegQueue<(T, Size)>,
    gate: Gate,
}

impl<T> Queue<T> {
    /// What the queue itself takes for an item, in bytes: its place, and a word that says whether it is
    /// occupied.
    pub(super) const PLACE: usize = size_of::<(T, Size)>() + size_of::<usize>();

    /// An empty queue. A bound beyond [`gate::MAX`] is that.
    pub(super) fn new(bound: Size) -> Self {
        Self {
            items: SegQueue::new(),
            gate: Gate::new(bound),
        }
    }

    /// The bounds.
    pub(super) fn bound(&self) -> Size {
        self.gate.bound()
    }

    /// Reserves numbers for entries, admitted or not, and returns the first, from 1.
    pub(super) fn reserve_numbers(&self, count: u64) -> u64 {
        self.gate.reserve_numbers(count)
    }

    /// How many numbers were reserved.
    pub(super) fn submitted(&self) -> u64 {
        self.gate.submitted()
    }

    /// Counts an item if the bounds allow. Never waits, and never makes another one fail.
    #[inline]
    pub(super) fn admit(&self, size: Size) -> Result<Permit, QueueError> {
        self.gate.admit(size)
    }

    /// Puts in an item that was admitted: a second step, so that the item is moved once. True if the
    /// caller must wake the writer's thread.
    #[inline]
    #[must_use = "the thread may sleep"]
    pub(super) fn put(&self, item: T, permit: Permit) -> bool {
        self.items.push((item, permit.size()));
        self.gate.must_wake(permit)
    }

    /// Takes out the oldest item. It counts against the bounds until it is released: what is being
    /// written is still in memory.
    pub(super) fn pop(&self) -> Option<(T, Size)> {
        let (item, size) = self.items.pop()?;
        self.gate.take(size);
        Some((item, size))
    }

    /// Frees room again for what was taken out.
    pub(super) fn release(&self, size: Size) {
        self.gate.release(size);
    }

    /// What counts against the bounds: what was admitted and not released.
    pub(super) fn held(&self) -> Size {
        self.gate.held()
    }

    /// Announces that the writer's thread is about to sleep. False if it must not, since an item was
    /// admitted that it has not taken out. After true, the next item makes its caller wake the thread.
    #[must_use = "an item may be on its way"]
    pub(super) fn prepare_sleep(&self) -> bool {
        self.gate.prepare_sleep()
    }

    /// Admits nothing from now on. Queued entries can still be taken out.
    pub(super) fn close(&self) {
        self.gate.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Both steps.
    fn push<T>(queue: &Queue<T>, item: T, size: Size) -> Result<(), QueueError> {
        queue.admit(size).map(|permit| _ = queue.put(item, permit))
    }

    const ONE: Size = Size {
        entries: 1,
        bytes: 10,
    };

    fn queue(entries: usize, bytes: usize) -> Queue<usize> {
        Queue::new(Size { entries, bytes })
    }

    #[test]
    fn a_full_queue_refuses_until_it_is_below_nine_tenths_of_both_bounds() {
        for queue in [queue(10, usize::MAX), queue(usize::MAX, 100)] {
            for item in 0..10 {
                assert_eq!(push(&queue, item, ONE), Ok(()));
            }
            assert_eq!(push(&queue, 10, ONE), Err(QueueError::Full));
            assert_eq!(queue.pop(), Some((0, ONE)));
            assert_eq!(queue.held().entries, 10, "taken out, and still counted");
            queue.release(ONE);
            assert_eq!(
                push(&queue, 11, ONE),
                Err(QueueError::Full),
                "nine tenths are not below nine tenths"
            );
            assert_eq!(queue.pop(), Some((1, ONE)));
            queue.release(ONE);
            assert_eq!(push(&queue, 12, ONE), Ok(()));
            assert_eq!(
                queue.held(),
                Size {
                    entries: 9,
                    bytes: 90
                }
            );
        }
    }

    #[test]
    fn a_group_too_large_does_not_shut_out_the_others() {
        let queue = queue(10, 1_000);
        for group in [
            Size {
                entries: 11,
                bytes: 11,
            },
            Size {
                entries: 2,
                bytes: 1_001,
            },
        ] {
            assert_eq!(push(&queue, 0, group), Err(QueueError::Full));
        }
        assert_eq!(push(&queue, 1, ONE), Ok(()));
    }

    #[test]
    fn an_entry_beyond_the_bound_is_admitted_alone() {
        let (queue, large) = (
            queue(10, 1_000),
            Size {
                entries: 1,
                bytes: 1_000_000,
            },
        );
        assert_eq!(push(&queue, 0, ONE), Ok(()));
        assert_eq!(push(&queue, 1, large), Err(QueueError::Full));
        assert_eq!(queue.pop(), Some((0, ONE)));
        queue.release(ONE);
        assert_eq!(push(&queue, 2, large), Ok(()));
        assert_eq!(push(&queue, 3, ONE), Err(QueueError::Full));
        assert_eq!(queue.held(), large);
    }

    #[test]
    fn a_closed_queue_admits_nothing_and_hands_out_the_rest() {
        let queue = queue(10, 1_000);
        assert_eq!(push(&queue, 1, ONE), Ok(()));
        queue.close();
        assert_eq!(push(&queue, 2, ONE), Err(QueueError::Closed));
        assert_eq!(queue.held(), ONE);
        assert_eq!(queue.pop(), Some((1, ONE)));
        queue.release(ONE);
        assert_eq!((queue.pop(), queue.held()), (None, Size::default()));
    }

    #[test]
    fn the_first_item_after_the_thread_fell_asleep_wakes_it_and_no_other() {
        let queue = queue(10, 1_000);
        let put = |item| queue.put(item, queue.admit(ONE).unwrap());
        assert!(!put(1), "it was awake");
        assert!(!queue.prepare_sleep(), "something is there");
        assert_eq!(queue.pop(), Some((1, ONE)));
        assert!(
            queue.prepare_sleep(),
            "what was taken out is no reason to stay awake"
        );
        assert!(put(2));
        assert!(!put(3));
        let permit = queue.admit(ONE).unwrap();
        assert_eq!((queue.pop(), queue.pop()), (Some((2, ONE)), Some((3, ONE))));
        assert!(!queue.prepare_sleep(), "an item is on its way");
        assert!(!queue.put(4, permit));
    }

    #[test]
    fn a_group_that_is_refused_makes_no_single_entry_fail() {
        let (queue, done) = (queue(1_000, 1 << 20), atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(
                        push(
                            &queue,
                            0,
                            Size {
                                entries: 999,
                                bytes: 2 << 20
                            }
                        ),
                        Err(QueueError::Full)
                    );
                }
            });
            let refused = (0..200_000).filter(|nth| {
                let refused = push(&queue, *nth, ONE).is_err();
                if let Some((_, size)) = queue.pop() {
                    queue.release(size);
                }
                refused
            });
            let refused = refused.count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn threads_neither_lose_nor_invent_items() {
        let queue = queue(64, usize::MAX);
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
                    if let Some((_, size)) = queue.pop() {
                        queue.release(size);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        assert_eq!(taken.into_inner() + refused.into_inner(), 40_000);
        assert_eq!(queue.held(), Size::default());
    }
}
