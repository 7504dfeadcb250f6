//! Do queue, batches, ledger and retries do what simple lists do, whatever the order of steps?
//! No thread, no database, no clock of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use audit_core::Size;
use proptest::prelude::*;

use super::RetryPolicy;
use super::batch::{Entries, Gatherer, Group};
use super::health::Health;
use super::ledger::{Ledger, Range};
use super::queue::{Queue, QueueError};
use super::receipt::{Delivery, DropReason};
use crate::audit::AuditEntry;
use crate::audit::sink::{SinkError, SinkErrorKind};

const QUEUE: Size = Size { entries: 40, bytes: 4_000 };
const BATCH: Size = Size { entries: 10, bytes: 1_000 };

#[derive(Clone, Debug)]
enum Step {
    /// A caller writes so many entries of so many bytes each, in one call.
    Write(usize, usize),
    /// The writer takes a batch.
    Take,
    /// The nth batch under way is settled so.
    Settle(usize, Delivery),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![3 => 1..60_usize, 1 => 300..1_500_usize];
    let settled = prop_oneof![
        6 => Just(Delivery::Committed),
        2 => Just(Delivery::Spooled),
        1 => Just(Delivery::Quarantined),
        1 => Just(Delivery::Dropped(DropReason::ShutDown)),
    ];
    let step = prop_oneof![
        80 => (1..15_usize, size).prop_map(|(count, size)| Step::Write(count, size)),
        60 => Just(Step::Take),
        60 => (0..4_usize, settled).prop_map(|(nth, delivery)| Step::Settle(nth, delivery)),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..100)
}

/// The pieces as the writer puts them together, and the lists that they are held against.
struct Bench {
    queue: Queue<Group>,
    gatherer: Gatherer,
    ledger: Ledger,
    under_way: Vec<(Vec<Range>, Size)>,
    /// What became of each number; none while it waits or is under way.
    fates: Vec<Option<Delivery>>,
    /// The calls that were taken in and wait: their numbers, and the bytes of each entry.
    calls: VecDeque<(VecDeque<u64>, usize)>,
    closed: bool,
}

impl Bench {
    fn new() -> Self {
        Self {
            queue: Queue::new(QUEUE),
            gatherer: Gatherer::new(BATCH),
            ledger: Ledger::default(),
            under_way: Vec::new(),
            fates: Vec::new(),
            calls: VecDeque::new(),
            closed: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(count, size) => self.write(count, size),
            Step::Take => self.take(),
            Step::Settle(nth, delivery) => self.settle(nth, &delivery),
            Step::Close => {
                self.queue.close();
                self.closed = true;
            }
        }
        self.agrees();
    }

    fn write(&mut self, count: usize, size: usize) {
        let first_seq = self.fates.len() as u64 + 1;
        let range = Range { first: first_seq, last: first_seq + count as u64 - 1 };
        let entries = Entries::Many((0..count).map(|_| AuditEntry::new("x")).collect());
        let weight = Size { entries: count, bytes: count * size };
        let held = self.queue.held();
        let fits = held.entries + count <= QUEUE.entries
            && (held.bytes + weight.bytes <= QUEUE.bytes || (count == 1 && held.bytes == 0));
        match self.queue.admit(weight) {
            Ok(permit) => {
                assert!(!self.queue.put(Group { first_seq, entries }, permit), "the thread is awake");
                assert!(fits && !self.closed, "taken in beyond the bound, or after the end");
                self.calls.push_back(((range.first..=range.last).collect(), size));
                self.fates.extend(vec![None; count]);
            }
            Err(refused) => {
                let roomy = held.entries < QUEUE.entries * 9 / 10 && held.bytes < QUEUE.bytes * 9 / 10;
                assert!(!fits || !roomy || refused == QueueError::Closed, "refused though there was room");
                assert!(refused == QueueError::Full || self.closed);
                let dropped = Delivery::Dropped(DropReason::QueueFull);
                self.ledger.settle(&[range], &dropped);
                self.fates.extend(vec![Some(dropped); count]);
            }
        }
    }

    /// A batch is what has waited longest, in order, within the bound; calls that fit one stay whole.
    fn take(&mut self) {
        let waited = !self.calls.is_empty();
        let batch = self.gatherer.next(&self.queue);
        let weight = batch.weight();
        let numbers: Vec<u64> = batch.entries.iter().map(|(number, _)| *number).collect();
        let bounded = weight.entries <= BATCH.entries && weight.bytes <= BATCH.bytes;
        assert!(bounded || numbers.len() == 1, "only an entry that is too large alone goes alone");
        let (mut expected, mut bytes) = (Vec::new(), 0);
        while expected.len() < numbers.len() {
            let (waiting, size) = self.calls.front_mut().expect("nothing is invented");
            let whole = waiting.len() <= BATCH.entries && waiting.len() * *size <= BATCH.bytes;
            let part = if whole { waiting.len() } else { waiting.len().min(numbers.len() - expected.len()) };
            expected.extend(waiting.drain(..part));
            bytes += part * *size;
            self.calls.retain(|(waiting, _)| !waiting.is_empty());
        }
        assert_eq!(numbers, expected);
        assert_eq!(weight.bytes, bytes, "what is released is what was counted");
        assert_eq!(waited, !numbers.is_empty(), "whoever waits is taken");
        if waited {
            self.under_way.push((Range::of(numbers), weight));
        }
    }

    fn settle(&mut self, nth: usize, delivery: &Delivery) {
        if nth >= self.under_way.len() {
            return;
        }
        let (ranges, weight) = self.under_way.remove(nth);
        let change = self.ledger.settle(&ranges, delivery);
        self.queue.release(weight);
        let numbers = ranges.iter().flat_map(|range| range.first..=range.last);
        assert_eq!(change.settled, weight.entries as u64);
        for number in numbers {
            let fate = &mut self.fates[number as usize - 1];
            assert_eq!(fate.replace(delivery.clone()), None, "each is settled once");
        }
    }

    /// What the pieces say is what the lists say.
    fn agrees(&mut self) {
        let of_calls = self.calls.iter().map(|(numbers, size)| (numbers.len(), numbers.len() * size));
        let of_batches = self.under_way.iter().map(|(_, weight)| (weight.entries, weight.bytes));
        let (entries, bytes) =
            of_calls.chain(of_batches).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        assert_eq!(self.queue.held(), Size { entries, bytes });
        let open = self.fates.iter().take_while(|fate| fate.is_some()).count() as u64;
        assert_eq!(self.ledger.through(), open);
        if self.fates.is_empty() {
            return;
        }
        let all = Range { first: 1, last: self.fates.len() as u64 };
        let waiting = self.fates.iter().filter(|fate| fate.is_none()).count() as u64;
        assert_eq!(self.ledger.unsettled(all.last).into_iter().map(Range::len).sum::<u64>(), waiting);
        for (number, fate) in (1..).zip(&self.fates) {
            let said = self.ledger.outcome(Range { first: number, last: number });
            assert_eq!(said.map(|counts| counts.weakest()), *fate, "number {number}");
        }
    }
}

/// What a database answers, and when.
#[derive(Clone, Debug)]
enum Event {
    /// The nth of the batches under way fails, of the moment or for the set-up.
    Fails(usize, SinkErrorKind),
    /// It is taken.
    Taken(usize),
    /// A batch is sent if that is allowed.
    Send,
    Milliseconds(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let fault = prop_oneof![Just(SinkErrorKind::Transient), Just(SinkErrorKind::Misconfigured)];
    let event = prop_oneof![
        3 => (0..3_usize, fault).prop_map(|(nth, fault)| Event::Fails(nth, fault)),
        1 => (0..3_usize).prop_map(Event::Taken),
        4 => Just(Event::Send),
        3 => (1..3_000_u64).prop_map(Event::Milliseconds),
    ];
    prop::collection::vec(event, 1..80)
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_reordered_between_queue_and_ledger(steps in steps()) {
        let mut bench = Bench::new();
        steps.into_iter().for_each(|step| bench.step(step));
        // And to the end.
        while !bench.calls.is_empty() {
            bench.step(Step::Take);
        }
        while !bench.under_way.is_empty() {
            bench.step(Step::Settle(0, Delivery::Committed));
        }
        prop_assert_eq!(bench.queue.held(), Size::default());
        prop_assert_eq!(bench.ledger.through(), bench.fates.len() as u64);
    }

    /// While the database is down one batch at a time tries it, after a pause that grows to the longest.
    #[test]
    fn one_batch_at_a_time_tries_a_database_that_is_down(events in events()) {
        let policy = RetryPolicy::default();
        let mut health = Health::new("model".to_owned());
        let (mut now, mut under_way, mut token) = (Instant::now(), Vec::new(), 0);
        // When the trial of the moment was sent, and the batches that were under way as it went down.
        let mut failed_at: Option<(Instant, u32)> = None;
        let mut trial: Option<u64> = None;
        for event in events {
            match event {
                Event::Milliseconds(passed) => now += Duration::from_millis(passed),
                Event::Send => {
                    let allowed = health.allows(now);
                    if let Some((at, failures)) = failed_at {
                        prop_assert!(!allowed || trial.is_none(), "a second trial");
                        let full = policy.pause(failures, 0.0);
                        prop_assert!(!allowed || now >= at + full / 2, "before the pause was over");
                        prop_assert!(allowed || trial.is_some() || now < at + full, "kept waiting");
                    } else {
                        prop_assert!(allowed);
                    }
                    if allowed && under_way.len() < 3 {
                        token += 1;
                        health.sent(token);
                        under_way.push(token);
                        trial = failed_at.map(|_| token);
                    }
                }
                Event::Fails(nth, fault) if nth < under_way.len() => {
                    let token = under_way.remove(nth);
                    let error = SinkError { kind: fault, reason: "model".to_owned(), sqlstate: None };
                    health.failed(token, &error, &policy, false, now);
                    if failed_at.is_none() || trial == Some(token) {
                        failed_at = Some((now, failed_at.map_or(1, |(_, failures)| failures + 1)));
                        trial = None;
                    }
                }
                Event::Taken(nth) if nth < under_way.len() => {
                    under_way.remove(nth);
                    health.answered(false);
                    (failed_at, trial) = (None, None);
                }
                _ => {}
            }
            prop_assert_eq!(health.is_down(), failed_at.is_some());
        }
    }
}
