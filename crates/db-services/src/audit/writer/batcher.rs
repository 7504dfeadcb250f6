//! Makes batches of what is queued, within the bounds of one statement. Without a clock.

use audit_core::{Fate, SeqRange, Size};

use super::DropReason;
use super::queue::Queue;
use super::shared::Shared;
use crate::audit::AuditEntry;

/// Entries that were submitted in one call: numbered without a gap, kept together.
pub(super) struct EntryGroup {
    pub(super) first_seq: u64,
    pub(super) entries: Entries,
}

impl EntryGroup {
    /// Its numbers.
    pub(super) fn range(&self, size: Size) -> SeqRange {
        SeqRange { first: self.first_seq, last: self.first_seq + size.entries as u64 - 1 }
    }
}

/// One entry without an allocation, or several.
#[allow(clippy::large_enum_variant)] // the large one is the frequent one
pub(super) enum Entries {
    One(AuditEntry),
    Many(Vec<AuditEntry>),
}

impl From<AuditEntry> for Entries {
    fn from(entry: AuditEntry) -> Self {
        Self::One(entry)
    }
}

impl From<Vec<AuditEntry>> for Entries {
    fn from(entries: Vec<AuditEntry>) -> Self {
        Self::Many(entries)
    }
}

/// What is written with one statement.
#[derive(Default)]
pub(super) struct EntryBatch {
    pub(super) entries: Vec<(u64, AuditEntry)>,
    bytes: usize,
}

impl EntryBatch {
    pub(super) fn size(&self) -> Size {
        Size { entries: self.entries.len(), bytes: self.bytes }
    }
}

/// Takes batches out of the queue, each within a bound.
pub(super) struct Batcher {
    bound: Size,
    /// What did not fit the last batch and begins the next.
    carried: Option<(EntryGroup, Size)>,
}

impl Batcher {
    pub(super) fn new(bound: Size) -> Self {
        Self { bound, carried: None }
    }

    /// True if a group waits outside the queue.
    pub(super) fn has_carried(&self) -> bool {
        self.carried.is_some()
    }

    /// Drops the group that waits outside the queue, at the end.
    pub(super) fn drop_carried(&mut self, shared: &Shared) {
        if let Some((group, size)) = self.carried.take() {
            shared.settle(&[group.range(size)], &Fate::Dropped(DropReason::ShutDown));
            shared.queue.release(size);
        }
    }

    /// Takes the next batch; empty if nothing waits. A group stays whole unless it alone is beyond
    /// the bound.
    pub(super) fn next(&mut self, queue: &Queue<EntryGroup>) -> EntryBatch {
        let mut batch = EntryBatch::default();
        while let Some((group, size)) = self.carried.take().or_else(|| queue.pop()) {
            let fits = batch.entries.len() + size.entries <= self.bound.entries
                && batch.bytes + size.bytes <= self.bound.bytes;
            if fits {
                batch.add(group, size);
                continue;
            }
            self.carried = Some(if batch.entries.is_empty() {
                match self.split(group, size) {
                    (head, head_size, Some(rest)) => {
                        batch.add(head, head_size);
                        rest
                    }
                    (whole, size, None) => {
                        batch.add(whole, size);
                        break;
                    }
                }
            } else {
                (group, size)
            });
            break;
        }
        batch
    }

    /// Splits off as many entries as one batch may hold, at least one.
    fn split(&self, group: EntryGroup, size: Size) -> (EntryGroup, Size, Option<(EntryGroup, Size)>) {
        let each = size.bytes / size.entries.max(1);
        let room = (self.bound.bytes / each.max(1)).min(self.bound.entries).max(1);
        match group.entries {
            Entries::Many(mut entries) if entries.len() > room => {
                let rest = entries.split_off(room);
                // To the byte: what is released later must be what was counted.
                let head_size = Size { entries: room, bytes: each * room };
                let tail_size = Size { entries: rest.len(), bytes: size.bytes - head_size.bytes };
                let tail =
                    EntryGroup { first_seq: group.first_seq + room as u64, entries: Entries::Many(rest) };
                let head = EntryGroup { entries: Entries::Many(entries), ..group };
                (head, head_size, Some((tail, tail_size)))
            }
            entries => (EntryGroup { entries, ..group }, size, None),
        }
    }
}

impl EntryBatch {
    fn add(&mut self, group: EntryGroup, size: Size) {
        self.bytes += size.bytes;
        match group.entries {
            Entries::One(entry) => self.entries.push((group.first_seq, entry)),
            Entries::Many(entries) => self.entries.extend((group.first_seq..).zip(entries)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Size = Size { entries: 10, bytes: 1_000 };

    fn queue_of(groups: &[(usize, usize)]) -> Queue<EntryGroup> {
        let queue = Queue::new(Size { entries: 1_000, bytes: 1 << 20 });
        let mut first_seq = 1;
        for &(count, bytes) in groups {
            let entries = Entries::Many((0..count).map(|_| AuditEntry::new("x")).collect());
            let size = Size { entries: count, bytes };
            let permit = queue.admit(size).unwrap();
            assert!(!queue.put(EntryGroup { first_seq, entries }, permit), "the thread does not sleep");
            first_seq += count as u64;
        }
        queue
    }

    fn batches(groups: &[(usize, usize)]) -> Vec<Vec<u64>> {
        let queue = queue_of(groups);
        let mut batcher = Batcher::new(BOUND);
        let all = std::iter::from_fn(|| {
            let batch = batcher.next(&queue);
            (!batch.entries.is_empty()).then(|| batch.entries.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        })
        .collect();
        assert!(!batcher.has_carried() && queue.pop().is_none());
        all
    }

    #[test]
    fn a_group_that_fits_a_batch_is_never_split() {
        assert_eq!(batches(&[(6, 60), (6, 60), (4, 40)]), [vec![1, 2, 3, 4, 5, 6], (7..=16).collect()]);
    }

    #[test]
    fn bytes_bound_a_batch_too() {
        assert_eq!(batches(&[(1, 600), (1, 600), (1, 300)]), [vec![1], vec![2, 3]]);
    }

    #[test]
    fn a_group_beyond_the_bound_is_split_at_it() {
        assert_eq!(
            batches(&[(25, 250)]),
            [(1..=10).collect::<Vec<_>>(), (11..=20).collect(), (21..=25).collect()]
        );
        assert_eq!(batches(&[(4, 2_000), (1, 10)]), [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn an_entry_beyond_the_bound_goes_alone() {
        assert_eq!(batches(&[(1, 5_000), (1, 10)]), [vec![1], vec![2]]);
    }
}
