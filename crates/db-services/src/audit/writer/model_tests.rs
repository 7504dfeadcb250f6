//! Queue, batcher and ledger against simple lists, whatever the order of steps. Without a thread, a database
//! or a clock.

use std::collections::VecDeque;

use audit_core::ledger::Ledger;
use audit_core::{Delivery, DropReason, Fate, SeqRange, Size};
use proptest::prelude::*;

use super::batcher::{Batcher, Entries, EntryGroup};
use super::queue::{Queue, QueueError};
use crate::audit::AuditEntry;

const QUEUE: Size = Size {
    entries: 40,
    bytes: 4_000,
};
const BATCH: Size = Size {
    entries: 10,
    bytes: 1_000,
};

#[derive(Clone, Debug)]
enum Step {
    /// A caller writes this many entries of this many bytes each, in one call.
    Write(usize, usize),
    /// The writer takes a batch.
    Take,
    /// The nth batch in flight is settled like this.
    Settle(usize, Fate),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![3 => 1..60_usize, 1 => 300..1_500_usize];
    let fate = prop_oneof![
        6 => Just(Fate::Committed),
        2 => Just(Fate::Spooled),
        1 => Just(Fate::Quarantined),
        1 => Just(Fate::Dropped(DropReason::ShutDown)),
    ];
    let step = prop_oneof![
        80 => (1..15_usize, size).prop_map(|(count, size)| Step::Write(count, size)),
        60 => Just(Step::Take),
        60 => (0..4_usize, fate).prop_map(|(nth, fate)| Step::Settle(nth, fate)),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..100)
}

/// The size that a step gave an entry.
fn estimated_size(entry: &mut AuditEntry) -> usize {
    entry.resource_id.as_ref().map_or(0, |size| size.parse().unwrap())
}

/// The pieces as the writer puts them together, and the lists that they are compared with.
struct Fixture {
    queue: Queue<EntryGroup>,
    batcher: Batcher,
    ledger: Ledger<()>,
    in_flight: Vec<(Vec<SeqRange>, Size)>,
    /// The fate of each number; none while it waits or is in flight.
    fates: Vec<Option<Fate>>,
    /// The calls that were admitted and wait: their numbers, and the bytes of each entry.
    calls: VecDeque<(VecDeque<u64>, usize)>,
    closed: bool,
}

impl Fixture {
    fn new() -> Self {
        Self {
            queue: Queue::new(QUEUE),
            batcher: Batcher::new(BATCH, estimated_size),
            ledger: Ledger::default(),
            in_flight: Vec::new(),
            fates: Vec::new(),
            calls: VecDeque::new(),
            closed: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(count, size) => self.write(count, size),
            Step::Take => self.take(),
            Step::Settle(nth, fate) => self.settle(nth, &fate),
            Step::Close => {
                self.queue.close();
                self.closed = true;
            }
        }
        self.assert_matches_lists();
    }

    fn write(&mut self, count: usize, size: usize) {
        let first_seq = self.fates.len() as u64 + 1;
        let range = SeqRange {
            first: first_seq,
            last: first_seq + count as u64 - 1,
        };
        let entry = || AuditEntry::new("x").resource("bytes", size.to_string());
        let entries = Entries::Many((0..count).map(|_| entry()).collect());
        let held = self.queue.held();
        let added = Size {
            entries: count,
            bytes: count * size,
        };
        let fits = held.entries + count <= QUEUE.entries && held.bytes + added.bytes <= QUEUE.bytes;
        match self.queue.admit(added) {
            Ok(permit) => {
                let _ = self.queue.put(EntryGroup { first_seq, entries }, permit);
                assert!(
                    fits && !self.closed,
                    "admitted beyond the bound, or after the end"
                );
                self.calls.push_back(((range.first..=range.last).collect(), size));
                self.fates.extend(vec![None; count]);
            }
            Err(error) => {
                let has_room = held.entries < QUEUE.entries * 9 / 10 && held.bytes < QUEUE.bytes * 9 / 10;
                assert!(
                    !fits || !has_room || error == QueueError::Closed,
                    "refused though there was room"
                );
                assert!(error == QueueError::Full || self.closed);
                let dropped = Fate::Dropped(DropReason::QueueFull);
                self.ledger.settle(&[range], &dropped);
                self.fates.extend(vec![Some(dropped); count]);
            }
        }
    }

    /// A batch is what has waited longest, in order, within the bound; calls that fit one stay whole.
    fn take(&mut self) {
        let any_waited = !self.calls.is_empty();
        let batch = self.batcher.next(&self.queue);
        let size = batch.size();
        let numbers: Vec<u64> = batch.entries.iter().map(|(number, _)| *number).collect();
        let is_bounded = size.entries <= BATCH.entries && size.bytes <= BATCH.bytes;
        assert!(
            is_bounded || numbers.len() == 1,
            "only an entry that is too large alone goes alone"
        );
        let (mut expected, mut bytes) = (Vec::new(), 0);
        while expected.len() < numbers.len() {
            let (waiting, size) = self.calls.front_mut().expect("nothing is invented");
            let whole = waiting.len() <= BATCH.entries && waiting.len() * *size <= BATCH.bytes;
            let part = if whole {
                waiting.len()
            } else {
                waiting.len().min(numbers.len() - expected.len())
            };
            expected.extend(waiting.drain(..part));
            bytes += part * *size;
            self.calls.retain(|(waiting, _)| !waiting.is_empty());
        }
        assert_eq!(numbers, expected);
        assert_eq!(size.bytes, bytes, "what is released is what was counted");
        assert_eq!(any_waited, !numbers.is_empty(), "an entry that waits is taken");
        if any_waited {
            self.in_flight.push((SeqRange::of(numbers), size));
        }
    }

    fn settle(&mut self, nth: usize, fate: &Fate) {
        if nth >= self.in_flight.len() {
            return;
        }
        let (ranges, size) = self.in_flight.remove(nth);
        let delta = self.ledger.settle(&ranges, fate);
        self.queue.release(size);
        assert_eq!(delta.settled, size.entries as u64);
        for number in ranges.iter().flat_map(|range| range.first..=range.last) {
            let slot = &mut self.fates[number as usize - 1];
            assert_eq!(slot.replace(fate.clone()), None, "each is settled once");
        }
    }

    fn assert_matches_lists(&mut self) {
        let of_calls = self
            .calls
            .iter()
            .map(|(numbers, size)| (numbers.len(), numbers.len() * size));
        let of_batches = self.in_flight.iter().map(|(_, size)| (size.entries, size.bytes));
        let (entries, bytes) = of_calls
            .chain(of_batches)
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        assert_eq!(self.queue.held(), Size { entries, bytes });
        let settled = self.fates.iter().take_while(|fate| fate.is_some()).count() as u64;
        assert_eq!(self.ledger.settled_through(), settled);
        let waiting = self.fates.iter().filter(|fate| fate.is_none()).count() as u64;
        let unsettled = self.ledger.unsettled(self.fates.len() as u64);
        assert_eq!(unsettled.into_iter().map(SeqRange::len).sum::<u64>(), waiting);
        for (number, fate) in (1..).zip(&self.fates) {
            let outcome = self.ledger.outcome(SeqRange {
                first: number,
                last: number,
            });
            let expected = fate.clone().map(Delivery::from);
            assert_eq!(
                outcome.map(|counts| counts.weakest()),
                expected,
                "number {number}"
            );
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_reordered_between_queue_and_ledger(steps in steps()) {
        let mut fixture = Fixture::new();
        steps.into_iter().for_each(|step| fixture.step(step));
        // And to the end.
        while !fixture.calls.is_empty() {
            fixture.step(Step::Take);
        }
        while !fixture.in_flight.is_empty() {
            fixture.step(Step::Settle(0, Fate::Committed));
        }
        prop_assert_eq!(fixture.queue.held(), Size::default());
        prop_assert_eq!(fixture.ledger.settled_through(), fixture.fates.len() as u64);
    }
}
