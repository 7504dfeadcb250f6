//! Which entries go to the database together? Counts and bytes alone, without a clock.

use audit_core::Size;

use super::ledger::Range;
use super::queue::Queue;
use crate::audit::AuditEntry;

/// Entries that were given to the writer in one call: numbered without a gap, kept together.
pub(super) struct Group {
    pub(super) first_seq: u64,
    pub(super) entries: Entries,
}

impl Group {
    /// Its numbers.
    pub(super) fn range(&self, weight: Size) -> Range {
        Range { first: self.first_seq, last: self.first_seq + weight.entries as u64 - 1 }
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
pub(super) struct Batch {
    pub(super) entries: Vec<(u64, AuditEntry)>,
    bytes: usize,
}

impl Batch {
    pub(super) fn weight(&self) -> Size {
        Size { entries: self.entries.len(), bytes: self.bytes }
    }
}

/// Takes batches out of the queue, each within a bound.
pub(super) struct Gatherer {
    bound: Size,
    /// What did not fit the last batch and begins the next.
    carried: Option<(Group, Size)>,
}

impl Gatherer {
    pub(super) fn new(bound: Size) -> Self {
        Self { bound, carried: None }
    }

    /// The numbers that wait outside the queue, and what they weigh.
    pub(super) fn carried(&self) -> Option<(Range, Size)> {
        self.carried.as_ref().map(|(group, weight)| (group.range(*weight), *weight))
    }

    /// Takes the next batch; empty if nothing waits. A group stays whole unless it alone is beyond
    /// the bound.
    pub(super) fn next(&mut self, queue: &Queue<Group>) -> Batch {
        let mut batch = Batch::default();
        while let Some((group, weight)) = self.carried.take().or_else(|| queue.pop()) {
            let fits = batch.entries.len() + weight.entries <= self.bound.entries
                && batch.bytes + weight.bytes <= self.bound.bytes;
            if fits {
                batch.add(group, weight);
                continue;
            }
            self.carried = Some(if batch.entries.is_empty() {
                match self.split(group, weight) {
                    (head, head_weight, Some(rest)) => {
                        batch.add(head, head_weight);
                        rest
                    }
                    (whole, weight, None) => {
                        batch.add(whole, weight);
                        break;
                    }
                }
            } else {
                (group, weight)
            });
            break;
        }
        batch
    }

    /// Splits off as many entries as one batch may hold, at least one.
    fn split(&self, group: Group, weight: Size) -> (Group, Size, Option<(Group, Size)>) {
        let each = weight.bytes / weight.entries.max(1);
        let room = (self.bound.bytes / each.max(1)).min(self.bound.entries).max(1);
        match group.entries {
            Entries::Many(mut entries) if entries.len() > room => {
                let rest = entries.split_off(room);
                // To the byte: what is released later must be what was counted.
                let head_weight = Size { entries: room, bytes: each * room };
                let tail_weight = Size { entries: rest.len(), bytes: weight.bytes - head_weight.bytes };
                let tail = Group { first_seq: group.first_seq + room as u64, entries: Entries::Many(rest) };
                let head = Group { entries: Entries::Many(entries), ..group };
                (head, head_weight, Some((tail, tail_weight)))
            }
            entries => (Group { entries, ..group }, weight, None),
        }
    }
}

impl Batch {
    fn add(&mut self, group: Group, weight: Size) {
        self.bytes += weight.bytes;
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

    fn queue_of(groups: &[(usize, usize)]) -> Queue<Group> {
        let queue = Queue::new(Size { entries: 1_000, bytes: 1 << 20 });
        let mut first_seq = 1;
        for &(count, bytes) in groups {
            let entries = Entries::Many((0..count).map(|_| AuditEntry::new("x")).collect());
            let weight = Size { entries: count, bytes };
            let permit = queue.admit(weight).unwrap();
            assert!(!queue.put(Group { first_seq, entries }, permit), "nobody sleeps");
            first_seq += count as u64;
        }
        queue
    }

    fn batches(groups: &[(usize, usize)]) -> Vec<Vec<u64>> {
        let queue = queue_of(groups);
        let mut gatherer = Gatherer::new(BOUND);
        let all = std::iter::from_fn(|| {
            let batch = gatherer.next(&queue);
            (!batch.entries.is_empty()).then(|| batch.entries.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        })
        .collect();
        assert!(gatherer.carried().is_none() && queue.pop().is_none());
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
