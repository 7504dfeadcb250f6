//! Admission to the queue, and the wake-up of the thread that empties it.
//!
//! Everything that must change together is in one atomic word, so that no order of reads and writes of
//! several variables need be argued about:
//!
//! | bits | what |
//! | --- | --- |
//! | 0 to 34 | bytes that were admitted and not released |
//! | 35 to 60 | entries that were admitted and not released |
//! | 61 | the writer's thread sleeps until it is woken |
//! | 62 | full: refuses until it is below nine tenths |
//! | 63 | closed |
//!
//! The model checker compiles this file a second time, with its own atomics in the parent module.

use audit_core::Size;

use super::atomic::{AtomicU64, AtomicUsize, Ordering};

const BYTES_BITS: u32 = 35;
const ENTRIES_BITS: u32 = 26;
const ASLEEP: u64 = 1 << 61;
const FULL: u64 = 1 << 62;
const CLOSED: u64 = 1 << 63;

/// The largest bounds: 67,108,863 entries and 32 GiB.
pub(super) const MAX: Size = Size {
    entries: (1 << ENTRIES_BITS) - 1,
    bytes: saturating((1 << BYTES_BITS) - 1),
};

/// Why an item was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum QueueError {
    /// The queue is at its bound.
    Full,
    /// It was closed.
    Closed,
}

/// An item that was admitted, and must be put.
#[derive(Debug, PartialEq)]
#[must_use = "an item that is admitted must be put"]
pub(in super::super) struct Permit {
    size: Size,
    /// True if the thread slept when the item was admitted.
    asleep: bool,
}

impl Permit {
    pub(super) fn size(&self) -> Size {
        self.size
    }
}

/// Counts what is in the queue and in the writer's memory.
///
/// Once full it refuses everything until it is below nine tenths of both bounds, so that a loss is one
/// range rather than every other entry.
pub(super) struct Gate {
    bound: Size,
    /// Below it a full queue admits again.
    low: Size,
    shared: Line,
    /// Entries that the thread took out and did not release. Written by that thread alone.
    taken: AtomicUsize,
}

/// What each call changes: in one cache line, so that two threads that write at the same time wait for
/// each other once and not twice.
#[repr(align(64))]
struct Line {
    /// The next entry's number.
    next: AtomicU64,
    word: AtomicU64,
}

impl Gate {
    pub(super) fn new(bound: Size) -> Self {
        let bound = Size {
            entries: bound.entries.min(MAX.entries),
            bytes: bound.bytes.min(MAX.bytes),
        };
        Self {
            bound,
            low: bound.saturating_sub(Size {
                entries: bound.entries / 10,
                bytes: bound.bytes / 10,
            }),
            shared: Line {
                next: AtomicU64::new(1),
                word: AtomicU64::new(0),
            },
            taken: AtomicUsize::new(0),
        }
    }

    pub(super) fn bound(&self) -> Size {
        self.bound
    }

    pub(super) fn reserve_numbers(&self, count: u64) -> u64 {
        self.shared.next.fetch_add(count, Ordering::Relaxed)
    }

    pub(super) fn submitted(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed) - 1
    }

    #[inline]
    pub(super) fn admit(&self, size: Size) -> Result<Permit, QueueError> {
        let mut word = self.shared.word.load(Ordering::Relaxed);
        loop {
            let (next, result) = self.decide(word, size);
            if next == word {
                return result;
            }
            match self
                .shared
                .word
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return result,
                Err(changed) => word = changed,
            }
        }
    }

    /// What an item makes of a word, and whether it is admitted.
    fn decide(&self, word: u64, size: Size) -> (u64, Result<Permit, QueueError>) {
        if word & CLOSED != 0 {
            return (word, Err(QueueError::Closed));
        }
        let held = held(word);
        let room = held.entries < self.low.entries && held.bytes < self.low.bytes;
        if word & FULL != 0 && !room {
            return (word, Err(QueueError::Full));
        }
        // An entry beyond the bound is admitted to an empty queue: none is refused for its size alone.
        let counted = if size.entries == 1 {
            size.bytes.min(self.bound.bytes)
        } else {
            size.bytes
        };
        let fits = held.entries.saturating_add(size.entries) <= self.bound.entries
            && held.bytes.saturating_add(counted) <= self.bound.bytes
            && held.bytes.saturating_add(size.bytes) <= MAX.bytes;
        if fits {
            let permit = Permit {
                size,
                asleep: word & ASLEEP != 0,
            };
            ((word & !FULL) + packed(size), Ok(permit))
        } else {
            // An item too large for what room there is does not make the queue full for others.
            (if room { word } else { word | FULL }, Err(QueueError::Full))
        }
    }

    /// True for the caller that must wake the thread. To be called after the item was put: a thread that
    /// is woken finds it.
    #[inline]
    pub(super) fn must_wake(&self, permit: Permit) -> bool {
        // Nobody wakes a thread that is awake: a wake-up costs more than everything else here. Of several
        // callers whose items were admitted while it slept, the first that put its item wakes it. One
        // whose item was admitted later sees that it is awake, and the thread sees that item: it sleeps
        // only while everything that was admitted was taken out.
        permit.asleep && self.shared.word.fetch_and(!ASLEEP, Ordering::AcqRel) & ASLEEP != 0
    }

    pub(super) fn take(&self, size: Size) {
        self.taken.fetch_add(size.entries, Ordering::Relaxed);
    }

    pub(super) fn release(&self, size: Size) {
        self.taken.fetch_sub(size.entries, Ordering::Relaxed);
        let before = self.shared.word.fetch_sub(packed(size), Ordering::AcqRel);
        debug_assert!(
            held(before).entries >= size.entries && held(before).bytes >= size.bytes,
            "released what was not held"
        );
    }

    pub(super) fn held(&self) -> Size {
        held(self.shared.word.load(Ordering::Acquire))
    }

    pub(super) fn prepare_sleep(&self) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        let mut word = self.shared.word.load(Ordering::Acquire);
        while held(word).entries == taken {
            match self.shared.word.compare_exchange_weak(
                word,
                word | ASLEEP,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
        false
    }

    pub(super) fn close(&self) {
        self.shared.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.word.load(Ordering::Relaxed) & CLOSED != 0
    }
}

fn held(word: u64) -> Size {
    let entries = word >> BYTES_BITS & ((1 << ENTRIES_BITS) - 1);
    let bytes = word & ((1 << BYTES_BITS) - 1);
    Size {
        entries: saturating(entries),
        bytes: saturating(bytes),
    }
}

fn packed(size: Size) -> u64 {
    (size.entries as u64) << BYTES_BITS | size.bytes as u64
}

const fn saturating(value: u64) -> usize {
    if value > usize::MAX as u64 {
        usize::MAX
    } else {
        value as usize
    }
}
