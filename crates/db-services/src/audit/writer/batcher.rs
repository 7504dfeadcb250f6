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
    pub(super) fn range(&self, size: Size) -> Option<SeqRange> {
        SeqRange::starting_at(self.first_seq, size.entries as u64)
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
        Size {
            entries: self.entries.len(),
            bytes: self.bytes,
        }
    }
}

/// Takes batches out of the queue, each within a bound.
pub(super) struct Batcher {
    bound: Size,
    /// The memory of an entry.
    estimated_size: fn(&mut AuditEntry) -> usize,
    /// What did not fit the last batch and begins the next.
    carried: Option<Carried>,
}

#[allow(clippy::large_enum_variant)] // there is one of them
enum Carried {
    Whole(EntryGroup, Size),
    Part(Part),
}

/// The rest of a group that is larger than a batch.
struct Part {
    first_seq: u64,
    /// The next entry last: taking it moves no other, and the room that it took is returned.
    reversed: Vec<AuditEntry>,
    size: Size,
}

impl Batcher {
    pub(super) fn new(bound: Size, estimated_size: fn(&mut AuditEntry) -> usize) -> Self {
        Self {
            bound,
            estimated_size,
            carried: None,
        }
    }

    /// True if a group waits outside the queue.
    pub(super) fn has_carried(&self) -> bool {
        self.carried.is_some()
    }

    /// Drops the group that waits outside the queue, at the end.
    pub(super) fn drop_carried(&mut self, shared: &Shared) {
        let (range, size) = match self.carried.take() {
            Some(Carried::Whole(group, size)) => (group.range(size), size),
            Some(Carried::Part(Part { first_seq, size, .. })) => {
                (SeqRange::starting_at(first_seq, size.entries as u64), size)
            }
            None => return,
        };
        shared.settle(range.as_slice(), &Fate::Dropped(DropReason::ShutDown));
        shared.queue.release(size);
    }

    /// Takes the next batch; empty if nothing waits. A group stays whole unless it alone is beyond
    /// the bound.
    pub(super) fn next(&mut self, queue: &Queue<EntryGroup>) -> EntryBatch {
        let mut batch = EntryBatch::default();
        loop {
            let (group, size) = match self.carried.take() {
                Some(Carried::Whole(group, size)) => (group, size),
                Some(Carried::Part(part)) => {
                    self.carried = self.take_part(part, &mut batch).map(Carried::Part);
                    if self.carried.is_some() {
                        return batch;
                    }
                    continue;
                }
                None => match queue.pop() {
                    Some(popped) => popped,
                    None => return batch,
                },
            };
            if self.has_room(&batch, size) {
                batch.add(group, size);
                continue;
            }
            if !batch.entries.is_empty() {
                self.carried = Some(Carried::Whole(group, size));
                return batch;
            }
            match group.entries {
                Entries::Many(mut reversed) => {
                    reversed.reverse();
                    self.carried = Some(Carried::Part(Part {
                        first_seq: group.first_seq,
                        reversed,
                        size,
                    }));
                }
                one => {
                    batch.add(
                        EntryGroup {
                            entries: one,
                            ..group
                        },
                        size,
                    );
                    return batch;
                }
            }
        }
    }

    fn has_room(&self, batch: &EntryBatch, more: Size) -> bool {
        batch.entries.len() + more.entries <= self.bound.entries
            && batch.bytes + more.bytes <= self.bound.bytes
    }

    /// Moves as many entries as fit into a batch, at least one into an empty one. Returns the rest.
    fn take_part(&self, mut part: Part, batch: &mut EntryBatch) -> Option<Part> {
        while let Some(next) = part.reversed.last_mut() {
            let bytes = (self.estimated_size)(next).min(part.size.bytes);
            if !batch.entries.is_empty() && !self.has_room(batch, Size { entries: 1, bytes }) {
                part.reversed.shrink_to_fit();
                return Some(part);
            }
            batch
                .entries
                .extend(part.reversed.pop().map(|entry| (part.first_seq, entry)));
            batch.bytes += bytes;
            part.first_seq += 1;
            part.size -= Size { entries: 1, bytes };
        }
        // To the byte: what is released later must be what was counted.
        batch.bytes += part.size.bytes;
        None
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

    const BOUND: Size = Size {
        entries: 10,
        bytes: 1_000,
    };

    /// The size that a test gave an entry.
    fn estimated_size(entry: &mut AuditEntry) -> usize {
        entry.resource_id.as_ref().map_or(0, |size| size.parse().unwrap())
    }

    fn queue_of(groups: &[(usize, usize)]) -> Queue<EntryGroup> {
        let queue = Queue::new(Size {
            entries: 1_000,
            bytes: 1 << 20,
        });
        let mut first_seq = 1;
        for &(count, bytes) in groups {
            let entries = Entries::Many(
                (0..count)
                    .map(|_| AuditEntry::new("x").resource("bytes", (bytes / count).to_string()))
                    .collect(),
            );
            let size = Size {
                entries: count,
                bytes,
            };
            let permit = queue.admit(size).unwrap();
            assert!(
                !queue.put(EntryGroup { first_seq, entries }, permit),
                "the thread does not sleep"
            );
            first_seq += count as u64;
        }
        queue
    }

    fn batches(groups: &[(usize, usize)]) -> Vec<Vec<u64>> {
        let queue = queue_of(groups);
        let mut batcher = Batcher::new(BOUND, estimated_size);
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
        assert_eq!(
            batches(&[(6, 60), (6, 60), (4, 40)]),
            [vec![1, 2, 3, 4, 5, 6], (7..=16).collect()]
        );
    }

    #[test]
    fn bytes_bound_a_batch_too() {
        assert_eq!(batches(&[(1, 600), (1, 600), (1, 300)]), [vec![1], vec![2, 3]]);
    }

    #[test]
    fn a_group_beyond_the_bound_is_split_at_it() {
        assert_eq!(
            batches(&[(25, 250)]),
            [
                (1..=10).collect::<Vec<_>>(),
                (11..=20).collect(),
                (21..=25).collect()
            ]
        );
        assert_eq!(batches(&[(4, 2_000), (1, 10)]), [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn a_group_of_small_and_large_entries_is_split_by_their_own_sizes() {
        let queue = Queue::new(Size {
            entries: 1_000,
            bytes: 1 << 20,
        });
        let sizes = [400, 400, 400, 1, 1, 1, 5_000, 1];
        let entries = sizes.map(|size| AuditEntry::new("x").resource("bytes", size.to_string()));
        let size = Size {
            entries: 8,
            bytes: sizes.iter().sum::<usize>() + 7,
        };
        let permit = queue.admit(size).unwrap();
        let group = EntryGroup {
            first_seq: 1,
            entries: Entries::Many(entries.into()),
        };
        assert!(!queue.put(group, permit), "the thread does not sleep");
        let mut batcher = Batcher::new(BOUND, estimated_size);
        let mut next = || batcher.next(&queue).size();
        let batches = [next(), next(), next(), next()].map(|size| (size.entries, size.bytes));
        assert_eq!(
            batches,
            [(2, 800), (4, 403), (1, 5_000), (1, 8)],
            "the rest counts with the last"
        );
    }

    #[test]
    fn an_entry_beyond_the_bound_goes_alone() {
        assert_eq!(batches(&[(1, 5_000), (1, 10)]), [vec![1], vec![2]]);
    }
}
