//! What became of each entry, and who waits to hear it? Counts and instants handed in, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tokio::sync::oneshot;

use super::receipt::{Delivery, DeliveryCounts};

/// How many ranges of entries that were not stored are remembered exactly. Asked about an older
/// one, the ledger says that it does not know.
const REMEMBERED: usize = 1_024;

/// Numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What became of every number so far.
#[derive(Default)]
pub(super) struct Ledger {
    /// Every number up to this one is settled.
    through: u64,
    /// Settled ranges beyond it, by their first number; apart from each other.
    beyond: BTreeMap<u64, u64>,
    /// What was settled otherwise than as committed, oldest first.
    exceptions: VecDeque<(Range, Delivery)>,
    /// The highest number among the exceptions that had to be forgotten.
    forgotten: u64,
    waiters: Vec<Waiter>,
}

/// How many numbers a call of [`Ledger::settle`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// That were open before.
    pub(super) settled: u64,
    /// That were spooled before.
    pub(super) unspooled: u64,
}

struct Waiter {
    range: Range,
    deadline: Instant,
    reply: oneshot::Sender<DeliveryCounts>,
}

impl Range {
    pub(super) fn len(self) -> u64 {
        self.last + 1 - self.first
    }

    /// The fewest ranges that hold these numbers.
    pub(super) fn of(mut numbers: Vec<u64>) -> Vec<Range> {
        numbers.sort_unstable();
        let mut ranges: Vec<Range> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(range) if range.last + 1 == number => range.last = number,
                _ => ranges.push(Range { first: number, last: number }),
            }
        }
        ranges
    }

    fn overlap(self, other: Range) -> Option<Range> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Range { first, last })
    }
}

impl Ledger {
    /// Notes what became of these ranges.
    ///
    /// What is settled stays so; only what was spooled may still become something else.
    pub(super) fn settle(&mut self, ranges: &[Range], delivery: &Delivery) -> Change {
        let mut change = Change::default();
        for &range in ranges {
            let mut parts = self.open_within(range);
            change.settled += parts.iter().map(|part| part.len()).sum::<u64>();
            if *delivery != Delivery::Spooled {
                let spooled = self.take_spooled(range);
                change.unspooled += spooled.iter().map(|part| part.len()).sum::<u64>();
                parts.extend(spooled);
            }
            if *delivery != Delivery::Committed {
                parts.into_iter().for_each(|part| self.except(part, delivery));
            }
            self.cover(range);
        }
        change
    }

    /// Tells those who waited for the last of theirs, and gives how many there were. Apart from
    /// settling, so that counters can be set before anybody hears.
    pub(super) fn tell(&mut self) -> usize {
        if self.waiters.is_empty() {
            return 0;
        }
        let (ready, waiting): (Vec<_>, _) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| self.is_settled(waiter.range) || waiter.reply.is_closed());
        self.waiters = waiting;
        let told = ready.len();
        self.answer(ready);
        told
    }

    /// The highest number up to which everything is committed, or was given up and said so: nothing
    /// below it waits in a spool.
    pub(super) fn resolved_through(&self) -> u64 {
        let spooled = self.exceptions.iter().filter(|(_, delivery)| *delivery == Delivery::Spooled);
        spooled.map(|(range, _)| range.first - 1).min().map_or(self.through, |low| low.min(self.through))
    }

    /// The highest number up to which everything is settled, be it as spooled.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    /// Gives what became of a range, if all of it is settled.
    pub(super) fn outcome(&self, range: Range) -> Option<DeliveryCounts> {
        self.is_settled(range).then(|| self.counts(range))
    }

    /// Asks to be told what became of a range, at the latest at the deadline.
    pub(super) fn wait(&mut self, range: Range, deadline: Instant) -> oneshot::Receiver<DeliveryCounts> {
        let (reply, answer) = oneshot::channel();
        self.waiters.push(Waiter { range, deadline, reply });
        answer
    }

    /// Tells those whose deadline has passed what is known.
    pub(super) fn expire(&mut self, now: Instant) {
        let (expired, waiting) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.deadline <= now);
        self.waiters = waiting;
        self.answer(expired);
    }

    /// The numbers up to `last` of which nothing is known.
    pub(super) fn unsettled(&self, last: u64) -> Vec<Range> {
        self.open_within(Range { first: 1, last })
    }

    /// True if somebody waits for what is not settled.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// The next deadline of those who wait.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).min()
    }

    fn answer(&self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            // The asker may have gone: that is his right.
            let _ = waiter.reply.send(self.counts(waiter.range));
        }
    }

    fn open_within(&self, range: Range) -> Vec<Range> {
        let mut open = Vec::new();
        let mut next = range.first.max(self.through + 1);
        for (&first, &last) in self.beyond.range(..=range.last) {
            open.push(Range { first: next, last: first - 1 });
            next = next.max(last + 1);
        }
        open.push(Range { first: next, last: range.last });
        open.retain(|range| range.first <= range.last);
        open
    }

    /// Removes the parts of a range that were settled as spooled, and gives them back.
    fn take_spooled(&mut self, range: Range) -> Vec<Range> {
        let mut taken = Vec::new();
        let concerned = |known: Range, delivery: &Delivery| {
            *delivery == Delivery::Spooled && known.overlap(range).is_some()
        };
        if !self.exceptions.iter().any(|(known, delivery)| concerned(*known, delivery)) {
            return taken;
        }
        for (known, delivery) in std::mem::take(&mut self.exceptions) {
            match known.overlap(range).filter(|_| concerned(known, &delivery)) {
                Some(part) => {
                    taken.push(part);
                    let rest = [
                        Range { first: known.first, last: part.first - 1 },
                        Range { first: part.last + 1, last: known.last },
                    ];
                    let rest = rest.into_iter().filter(|rest| rest.first <= rest.last);
                    self.exceptions.extend(rest.map(|rest| (rest, Delivery::Spooled)));
                }
                None => self.exceptions.push_back((known, delivery)),
            }
        }
        taken
    }

    fn except(&mut self, range: Range, delivery: &Delivery) {
        match self.exceptions.back_mut() {
            Some((last, same)) if last.last + 1 == range.first && same == delivery => last.last = range.last,
            _ => self.exceptions.push_back((range, delivery.clone())),
        }
        // What is spooled will still change, and is not forgotten: its ranges are few.
        if self.exceptions.len() > REMEMBERED
            && let Some(oldest) =
                self.exceptions.iter().position(|(_, delivery)| *delivery != Delivery::Spooled)
            && let Some((range, _)) = self.exceptions.remove(oldest)
        {
            self.forgotten = self.forgotten.max(range.last);
        }
    }

    fn cover(&mut self, range: Range) {
        let mut range = range;
        // Join with the neighbour below and with those above that it touches.
        if let Some((&first, &last)) = self.beyond.range(..=range.first).next_back()
            && last + 1 >= range.first
        {
            self.beyond.remove(&first);
            range = Range { first, last: last.max(range.last) };
        }
        while let Some((&first, &last)) = self.beyond.range(range.first..).next()
            && first <= range.last + 1
        {
            self.beyond.remove(&first);
            range.last = range.last.max(last);
        }
        if range.first <= self.through + 1 {
            self.through = self.through.max(range.last);
        } else {
            self.beyond.insert(range.first, range.last);
        }
    }

    fn is_settled(&self, range: Range) -> bool {
        range.last <= self.through || self.settled_within(range) == range.len()
    }

    fn settled_within(&self, range: Range) -> u64 {
        let below = Range { first: 1, last: self.through }.overlap(range).map_or(0, Range::len);
        let above = self.beyond.iter().filter_map(|(&first, &last)| Range { first, last }.overlap(range));
        below + above.map(Range::len).sum::<u64>()
    }

    fn counts(&self, range: Range) -> DeliveryCounts {
        let settled = self.settled_within(range);
        let mut counts = DeliveryCounts { pending: range.len() - settled, ..DeliveryCounts::default() };
        let mut excepted = 0;
        for (part, delivery) in &self.exceptions {
            if let Some(part) = part.overlap(range) {
                excepted += part.len();
                counts.add(delivery, part.len());
            }
        }
        // Forgotten exceptions may lie in the range: what is settled and not remembered as one is
        // committed only beyond them.
        let certain_from = self.forgotten + 1;
        let doubtful = Range { first: 1, last: self.forgotten }.overlap(range).map_or(0, |part| {
            let known: u64 =
                self.exceptions.iter().filter_map(|(e, _)| e.overlap(part)).map(Range::len).sum();
            self.settled_within(part).saturating_sub(known)
        });
        if range.first < certain_from {
            counts.add(&Delivery::Unknown, doubtful);
        }
        counts.add(&Delivery::Committed, settled - excepted - doubtful);
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::DropReason;

    const fn range(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    fn full() -> Delivery {
        Delivery::Dropped(DropReason::QueueFull)
    }

    #[test]
    fn numbers_out_of_order_are_one_range() {
        assert_eq!(Range::of(vec![3, 1, 2, 7, 6]), [range(1, 3), range(6, 7)]);
        assert_eq!(Range::of(vec![]), []);
    }

    #[test]
    fn an_answer_comes_when_the_last_of_a_range_is_settled() {
        let mut ledger = Ledger::default();
        let mut answer = ledger.wait(range(2, 4), Instant::now());
        ledger.settle(&[range(4, 4)], &Delivery::Committed);
        ledger.settle(&[range(1, 2)], &full());
        ledger.tell();
        assert!(answer.try_recv().is_err());
        ledger.settle(&[range(3, 3)], &Delivery::Committed);
        ledger.tell();
        let counts = answer.try_recv().unwrap();
        assert_eq!((counts.committed, counts.dropped), (2, 1));
        assert_eq!(counts.weakest(), full());
        assert!(!ledger.is_awaited());
    }

    #[test]
    fn at_the_deadline_the_rest_is_pending() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let mut answer = ledger.wait(range(1, 3), now + Duration::from_secs(5));
        ledger.settle(&[range(2, 2)], &Delivery::Committed);
        ledger.expire(now + Duration::from_secs(4));
        assert!(answer.try_recv().is_err());
        ledger.expire(now + Duration::from_secs(5));
        let counts = answer.try_recv().unwrap();
        assert_eq!((counts.committed, counts.pending), (1, 2));
        assert_eq!(counts.weakest(), Delivery::Pending);
    }

    #[test]
    fn what_was_spooled_may_still_be_committed_and_nothing_else_changes() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.settle(&[range(1, 6)], &Delivery::Spooled), Change { settled: 6, unspooled: 0 });
        assert_eq!((ledger.through(), ledger.resolved_through()), (6, 0));
        assert_eq!(
            ledger.settle(&[range(1, 2), range(4, 4)], &Delivery::Committed),
            Change { settled: 0, unspooled: 3 }
        );
        assert_eq!(ledger.resolved_through(), 2);
        assert_eq!(ledger.outcome(range(1, 6)).unwrap().spooled, 3);
        assert_eq!(
            ledger.settle(&[range(3, 8)], &Delivery::Quarantined),
            Change { settled: 2, unspooled: 3 }
        );
        assert_eq!(ledger.settle(&[range(1, 8)], &Delivery::Spooled), Change::default());
        assert_eq!(ledger.settle(&[range(1, 8)], &full()), Change::default());
        let counts = ledger.outcome(range(1, 8)).unwrap();
        assert_eq!((counts.committed, counts.quarantined, counts.dropped), (3, 5, 0));
        assert_eq!(ledger.resolved_through(), 8);
    }

    #[test]
    fn what_was_forgotten_is_unknown_and_never_a_guess() {
        let mut ledger = Ledger::default();
        for nth in 0..=REMEMBERED as u64 {
            ledger.settle(&[range(2 * nth + 1, 2 * nth + 1)], &full());
            ledger.settle(&[range(2 * nth + 2, 2 * nth + 2)], &Delivery::Committed);
        }
        let weakest = |seq| ledger.outcome(range(seq, seq)).unwrap().weakest();
        assert_eq!(weakest(1), Delivery::Unknown);
        assert_eq!(weakest(2), Delivery::Committed);
        assert_eq!(weakest(3), full());
        assert_eq!(weakest(4), Delivery::Committed);
    }

    proptest! {
        /// Against the obvious model: what became of each number, in a vector.
        #[test]
        fn any_order_of_settling_gives_the_same_counts(order in Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle(),
                                                       cut in 0..60_usize, first in 1..=60_u64, length in 1..=60_u64) {
            let mut ledger = Ledger::default();
            for &nth in &order[..cut] {
                let delivery = if nth % 7 == 0 { full() } else { Delivery::Committed };
                ledger.settle(&[range(nth + 1, nth + 1)], &delivery);
            }
            let asked = range(first, (first + length - 1).min(60));
            let settled: Vec<_> = order[..cut].iter().filter(|&&nth| (asked.first..=asked.last).contains(&(nth + 1))).collect();
            let dropped = settled.iter().filter(|&&&nth| nth % 7 == 0).count() as u64;
            let counts = ledger.counts(asked);
            prop_assert_eq!(counts.dropped, dropped);
            prop_assert_eq!(counts.committed, settled.len() as u64 - dropped);
            prop_assert_eq!(counts.pending, asked.len() - settled.len() as u64);
            prop_assert_eq!(ledger.outcome(asked).is_some(), counts.pending == 0);
            let open: u64 = ledger.unsettled(60).into_iter().map(Range::len).sum();
            prop_assert_eq!(open, 60 - cut as u64);
        }
    }
}
