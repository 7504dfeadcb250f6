//! The fate of each entry, and the callers that wait for it.
//!
//! Shared by the callers' threads and the writer's: the driver keeps it behind a lock. Nothing here calls
//! user code. Callers that are to be notified are returned, so that they are woken after the lock was
//! released.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::loss::LossLog;
use crate::{Delivery, DeliveryCounts, Fate, Loss, SeqRange, SeqSet, Time};

/// Ranges of entries that were not stored, remembered exactly. Asked about an older one, the ledger
/// says [`Delivery::Unknown`].
pub const MAX_EXCEPTIONS: usize = 1_024;

/// The most waiters that expire at once: each costs a few hundred nanoseconds under a lock for which callers
/// whose entries are refused wait.
pub const MAX_EXPIRED: usize = 1_024;

/// The fate of every number so far. `W` is what notifies a waiting caller.
#[derive(Debug)]
pub struct Ledger<W> {
    /// Every number up to this one is settled.
    settled_through: u64,
    /// Settled numbers beyond it.
    out_of_order: SeqSet,
    /// Settled numbers that are in the spool alone.
    spooled: SeqSet,
    /// Other fates than committed and spooled, by their first number.
    exceptions: BTreeMap<u64, (u64, Fate)>,
    /// The highest number among the exceptions that were evicted.
    evicted_through: u64,
    /// Losses that the writer's thread has not seen yet. In here so that a number that is settled as
    /// dropped and its loss are noted at once: a shutdown that reads between the two would miss it.
    losses: LossLog,
    /// By their last number: a call that settles a few numbers looks at the few that wait for them. Each
    /// refused entry is such a call, and 65,536 callers may wait.
    waiters: BTreeMap<WaiterKey, Waiter<W>>,
    deadlines: BTreeSet<(Time, WaiterKey)>,
    last_waiter: u64,
    /// The last waiter of which it is known whether its caller has gone.
    swept_to: WaiterKey,
    /// The numbers that were settled since waiters were last taken, with their settled neighbours above.
    touched: Vec<SeqRange>,
}

/// The last number that a caller waits for, and a number of the caller.
type WaiterKey = (u64, u64);

/// How many numbers a call of [`Ledger::settle`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettleDelta {
    /// That were open before.
    pub settled: u64,
    /// That were spooled before.
    pub unspooled: u64,
}

impl SettleDelta {
    /// How many changed at all.
    pub fn total(self) -> u64 {
        self.settled + self.unspooled
    }
}

#[derive(Debug)]
struct Waiter<W> {
    range: SeqRange,
    deadline: Time,
    reply: W,
}

impl<W> Default for Ledger<W> {
    fn default() -> Self {
        Self {
            settled_through: 0,
            out_of_order: SeqSet::default(),
            spooled: SeqSet::default(),
            exceptions: BTreeMap::new(),
            evicted_through: 0,
            losses: LossLog::default(),
            waiters: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            last_waiter: 0,
            swept_to: WaiterKey::default(),
            touched: Vec::new(),
        }
    }
}

impl<W> Ledger<W> {
    /// Notes the fate of these ranges. A settled number keeps its fate, unless that is
    /// [`Fate::Spooled`]. Dropped entries are noted as losses as well.
    pub fn settle(&mut self, ranges: &[SeqRange], fate: &Fate) -> SettleDelta {
        let mut delta = SettleDelta::default();
        for &range in ranges {
            let mut parts = self.open_within(range);
            delta.settled += parts.iter().map(|part| part.len()).sum::<u64>();
            if *fate == Fate::Spooled {
                parts.iter().for_each(|part| self.spooled.insert(*part));
            } else {
                let spooled = self.spooled.remove(range);
                delta.unspooled += spooled.iter().map(|part| part.len()).sum::<u64>();
                parts.extend(spooled);
                if *fate != Fate::Committed {
                    parts.iter().for_each(|part| self.add_exception(*part, fate));
                }
                if let Fate::Dropped(reason) = fate
                    && !planted!(LossNotNoted)
                {
                    parts
                        .iter()
                        .for_each(|part| self.losses.add(Loss::of(*part, reason)));
                }
            }
            let last = self.cover(range);
            if !self.waiters.is_empty() {
                self.touched.push(SeqRange {
                    first: range.first,
                    last,
                });
            }
        }
        delta
    }

    /// Removes and returns the waiters that the last call of [`settle`](Self::settle) has completed, with what
    /// is to be sent to each. To be called after the counters were set, so that no caller sees older ones.
    pub fn take_settled(&mut self) -> Vec<(W, DeliveryCounts)> {
        let touched = std::mem::take(&mut self.touched);
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let mut ready = Vec::new();
        for SeqRange { first, last } in touched {
            // Whoever waits for numbers beyond these alone was not waiting for them; and the last number of
            // one that is completed is settled.
            let waiting = self.waiters.range((first, 0)..=(last, u64::MAX));
            let completed = waiting.filter(|(_, waiter)| self.is_settled(waiter.range));
            let completed: Vec<WaiterKey> = completed.map(|(key, _)| *key).collect();
            ready.extend(completed.into_iter().filter_map(|key| self.remove_waiter(key)));
        }
        ready
    }

    /// Removes and returns waiters whose deadline has passed, with what is known: at most [`MAX_EXPIRED`], the
    /// others with the next call.
    pub fn take_expired(&mut self, now: Time) -> Vec<(W, DeliveryCounts)> {
        let mut expired = Vec::new();
        while expired.len() < MAX_EXPIRED
            && let Some(&(_, key)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)
        {
            expired.extend(self.remove_waiter(key));
        }
        expired
    }

    /// Removes and returns waiters whose caller has gone. Looks at no more than `count`, and goes on behind them
    /// with the next call.
    pub fn take_gone(&mut self, count: usize, is_gone: impl Fn(&W) -> bool) -> Vec<W> {
        if count == 0 {
            return Vec::new();
        }
        let next = self
            .waiters
            .range((Bound::Excluded(self.swept_to), Bound::Unbounded));
        let looked_at: Vec<WaiterKey> = next.take(count).map(|(key, _)| *key).collect();
        // Behind the last one it begins again at the first.
        self.swept_to = match looked_at.last() {
            Some(last) if looked_at.len() == count => *last,
            _ => WaiterKey::default(),
        };
        let mut gone = Vec::new();
        for key in looked_at {
            if is_gone(&self.waiters[&key].reply) {
                gone.extend(self.remove_waiter(key).map(|(reply, _)| reply));
            }
        }
        gone
    }

    fn remove_waiter(&mut self, key: WaiterKey) -> Option<(W, DeliveryCounts)> {
        let waiter = self.waiters.remove(&key)?;
        self.deadlines.remove(&(waiter.deadline, key));
        Some((waiter.reply, self.counts(waiter.range)))
    }

    /// Removes and returns the losses that were noted since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    /// The number up to which every number is settled.
    pub fn settled_through(&self) -> u64 {
        self.settled_through
    }

    /// The number up to which everything is committed or given up: nothing at or below it is in a spool.
    pub fn resolved_through(&self) -> u64 {
        self.spooled
            .first()
            .map_or(self.settled_through, |first| self.settled_through.min(first - 1))
    }

    /// How each entry of a range was delivered, if all of it is settled.
    pub fn outcome(&self, range: SeqRange) -> Option<DeliveryCounts> {
        self.is_settled(range).then(|| self.counts(range))
    }

    /// How each entry of a range was delivered as far as is known; the others are pending.
    pub fn known(&self, range: SeqRange) -> DeliveryCounts {
        self.counts(range)
    }

    /// Adds a waiter for a range, to be notified at the deadline at the latest.
    pub fn wait(&mut self, range: SeqRange, deadline: Time, reply: W) {
        self.last_waiter += 1;
        let key = (range.last, self.last_waiter);
        self.waiters.insert(
            key,
            Waiter {
                range,
                deadline,
                reply,
            },
        );
        self.deadlines.insert((deadline, key));
    }

    /// The numbers up to `last` that are not settled.
    pub fn unsettled(&self, last: u64) -> Vec<SeqRange> {
        if last == 0 {
            Vec::new()
        } else {
            self.open_within(SeqRange { first: 1, last })
        }
    }

    /// True if a caller waits.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// The earliest deadline of the waiters.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn open_within(&self, range: SeqRange) -> Vec<SeqRange> {
        let first = range.first.max(self.settled_through + 1);
        if first > range.last {
            Vec::new()
        } else {
            self.out_of_order.gaps_within(SeqRange { first, ..range })
        }
    }

    fn add_exception(&mut self, range: SeqRange, fate: &Fate) {
        let before = self.exceptions.range_mut(..range.first).next_back();
        match before {
            Some((_, (last, same))) if *last + 1 == range.first && same == fate => *last = range.last,
            _ => _ = self.exceptions.insert(range.first, (range.last, fate.clone())),
        }
        if self.exceptions.len() > MAX_EXCEPTIONS
            && let Some((_, (last, _))) = self.exceptions.pop_first()
        {
            self.evicted_through = self.evicted_through.max(last);
        }
    }

    /// Adds a range to the settled ones, and returns up to where everything from it on is settled.
    fn cover(&mut self, range: SeqRange) -> u64 {
        self.out_of_order.insert(range);
        let last = self
            .out_of_order
            .within(SeqRange {
                last: u64::MAX,
                ..range
            })
            .next()
            .map_or(range.last, |r| r.last);
        while let Some(range) = self.out_of_order.pop_first_at(self.settled_through + 1) {
            self.settled_through = self.settled_through.max(range.last);
        }
        last
    }

    fn is_settled(&self, range: SeqRange) -> bool {
        self.open_within(range).is_empty()
    }

    fn settled_within(&self, range: SeqRange) -> u64 {
        range.len()
            - self
                .open_within(range)
                .into_iter()
                .map(SeqRange::len)
                .sum::<u64>()
    }

    /// The exceptions that overlap a range.
    fn exceptions_within(&self, range: SeqRange) -> impl Iterator<Item = (SeqRange, &Fate)> {
        let begin = self
            .exceptions
            .range(..=range.first)
            .next_back()
            .map_or(range.first, |(&first, _)| first);
        self.exceptions
            .range(begin..=range.last.max(begin))
            .filter_map(move |(&first, (last, fate))| {
                Some((SeqRange { first, last: *last }.overlap(range)?, fate))
            })
    }

    fn counts(&self, range: SeqRange) -> DeliveryCounts {
        let settled = self.settled_within(range);
        let mut counts = DeliveryCounts {
            pending: range.len() - settled,
            ..DeliveryCounts::default()
        };
        let mut known = 0;
        for (part, fate) in self.exceptions_within(range) {
            known += part.len();
            counts.add(&fate.clone().into(), part.len());
        }
        counts.spooled = self.spooled.within(range).map(SeqRange::len).sum();
        known += counts.spooled;
        // Evicted exceptions may be in the range: what is settled there and not known to be one was
        // committed or not.
        let doubtful = SeqRange {
            first: 1,
            last: self.evicted_through,
        };
        let doubtful = (self.evicted_through > 0)
            .then(|| doubtful.overlap(range))
            .flatten()
            .map_or(0, |part| {
                let exceptions: u64 = self.exceptions_within(part).map(|(part, _)| part.len()).sum();
                let spooled: u64 = self.spooled.within(part).map(SeqRange::len).sum();
                self.settled_within(part).saturating_sub(exceptions + spooled)
            });
        counts.add(&Delivery::Unknown, doubtful);
        counts.add(&Delivery::Committed, settled - known - doubtful);
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::DropReason;

    const fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    fn full() -> Fate {
        Fate::Dropped(DropReason::QueueFull)
    }

    #[test]
    fn a_waiter_is_notified_when_the_last_of_its_range_is_settled() {
        let mut ledger = Ledger::default();
        ledger.wait(range(2, 4), Time::NEVER, "caller");
        ledger.settle(&[range(4, 4)], &Fate::Committed);
        ledger.settle(&[range(1, 2)], &full());
        assert_eq!(ledger.take_settled(), []);
        ledger.settle(&[range(3, 3)], &Fate::Committed);
        let settled = ledger.take_settled();
        let (_, counts) = &settled[0];
        assert_eq!((settled[0].0, counts.committed, counts.dropped), ("caller", 2, 1));
        assert_eq!(counts.weakest(), full().into());
        assert!(!ledger.has_waiters());
    }

    #[test]
    fn the_rest_of_a_range_is_pending_at_the_deadline() {
        let mut ledger = Ledger::default();
        let deadline = Time::after(Duration::from_secs(5));
        ledger.wait(range(1, 3), deadline, ());
        ledger.settle(&[range(2, 2)], &Fate::Committed);
        assert_eq!(ledger.take_expired(Time::after(Duration::from_secs(4))), []);
        let (_, counts) = ledger.take_expired(deadline).remove(0);
        assert_eq!((counts.committed, counts.pending), (1, 2));
        assert_eq!(counts.weakest(), Delivery::Pending);
    }

    #[test]
    fn a_spooled_entry_may_still_be_committed_and_no_other_fate_changes() {
        let mut ledger = Ledger::<()>::default();
        let settle = |ledger: &mut Ledger<()>, ranges: &[SeqRange], fate: &Fate| ledger.settle(ranges, fate);
        assert_eq!(
            settle(&mut ledger, &[range(1, 6)], &Fate::Spooled),
            SettleDelta {
                settled: 6,
                unspooled: 0
            }
        );
        assert_eq!((ledger.settled_through(), ledger.resolved_through()), (6, 0));
        let delta = settle(&mut ledger, &[range(1, 2), range(4, 4)], &Fate::Committed);
        assert_eq!(
            delta,
            SettleDelta {
                settled: 0,
                unspooled: 3
            }
        );
        assert_eq!(ledger.resolved_through(), 2);
        assert_eq!(ledger.outcome(range(1, 6)).unwrap().spooled, 3);
        let delta = settle(&mut ledger, &[range(3, 8)], &Fate::Quarantined);
        assert_eq!(
            delta,
            SettleDelta {
                settled: 2,
                unspooled: 3
            }
        );
        assert_eq!(
            settle(&mut ledger, &[range(1, 8)], &Fate::Spooled),
            SettleDelta::default()
        );
        assert_eq!(
            settle(&mut ledger, &[range(1, 8)], &full()),
            SettleDelta::default()
        );
        assert_eq!(
            ledger.take_losses(),
            [],
            "nothing was dropped that was settled before"
        );
        let counts = ledger.outcome(range(1, 8)).unwrap();
        assert_eq!((counts.committed, counts.quarantined, counts.dropped), (3, 5, 0));
        assert_eq!(ledger.resolved_through(), 8);
    }

    #[test]
    fn many_waiters_expire_in_turns() {
        let mut ledger = Ledger::default();
        for waiter in 0..MAX_EXPIRED + 1 {
            ledger.wait(range(1, 1), Time::START, waiter);
        }
        assert_eq!(ledger.take_expired(Time::START).len(), MAX_EXPIRED);
        assert_eq!(ledger.next_deadline(), Some(Time::START));
        assert_eq!(
            ledger.take_expired(Time::START),
            [(
                MAX_EXPIRED,
                DeliveryCounts {
                    pending: 1,
                    ..DeliveryCounts::default()
                }
            )]
        );
        assert!(!ledger.has_waiters());
    }

    #[test]
    fn each_waiter_is_looked_at_within_a_round_whether_its_caller_has_gone() {
        let mut ledger = Ledger::default();
        for waiter in 0..10 {
            ledger.wait(range(waiter + 1, waiter + 1), Time::NEVER, waiter);
        }
        let is_gone = |waiter: &u64| waiter.is_multiple_of(3);
        let rounds: Vec<Vec<u64>> = (0..4).map(|_| ledger.take_gone(3, is_gone)).collect();
        assert_eq!(rounds, [vec![0], vec![3], vec![6], vec![9]]);
        assert_eq!(ledger.take_gone(100, |_| true), [1, 2, 4, 5, 7, 8]);
        assert!(!ledger.has_waiters() && ledger.next_deadline().is_none());
    }

    #[test]
    fn a_loss_is_noted_with_the_settlement() {
        let mut ledger = Ledger::<()>::default();
        ledger.settle(&[range(1, 3)], &full());
        assert_eq!(
            ledger.take_losses(),
            [Loss::of(range(1, 3), &DropReason::QueueFull)]
        );
        assert_eq!(ledger.take_losses(), []);
    }

    #[test]
    fn an_evicted_exception_is_unknown_and_never_a_guess() {
        let mut ledger = Ledger::<()>::default();
        for nth in 0..=MAX_EXCEPTIONS as u64 {
            ledger.settle(&[range(2 * nth + 1, 2 * nth + 1)], &full());
            ledger.settle(&[range(2 * nth + 2, 2 * nth + 2)], &Fate::Committed);
        }
        let weakest = |seq| ledger.outcome(range(seq, seq)).unwrap().weakest();
        assert_eq!(weakest(1), Delivery::Unknown);
        assert_eq!(weakest(2), Delivery::Committed);
        assert_eq!(weakest(3), full().into());
        assert_eq!(weakest(4), Delivery::Committed);
    }

    proptest! {
        /// Against the obvious model: the fate of each number, in a vector.
        #[test]
        fn any_order_of_settling_gives_the_same_counts(
            settled in prop::collection::vec((1..60_u64, 0..6_u64, 0..4_u8), 0..60), first in 1..=60_u64, length in 1..=60_u64,
        ) {
            let mut ledger = Ledger::<()>::default();
            let mut model: Vec<Option<Fate>> = vec![None; 70];
            for (first, more, fate) in settled {
                let fate = [Fate::Committed, Fate::Spooled, Fate::Quarantined, full()][usize::from(fate)].clone();
                let delta = ledger.settle(&[range(first, first + more)], &fate);
                let mut expected = SettleDelta::default();
                for slot in &mut model[first as usize..=(first + more) as usize] {
                    match slot {
                        None => expected.settled += 1,
                        Some(Fate::Spooled) if fate != Fate::Spooled => expected.unspooled += 1,
                        Some(_) => continue,
                    }
                    *slot = Some(fate.clone());
                }
                prop_assert_eq!(delta, expected);
            }
            let asked = range(first, (first + length - 1).min(69));
            let mut expected = DeliveryCounts::default();
            for slot in &model[asked.first as usize..=asked.last as usize] {
                expected.add(&slot.clone().map_or(Delivery::Pending, Delivery::from), 1);
            }
            prop_assert_eq!(ledger.counts(asked), expected);
            let open: u64 = ledger.unsettled(69).into_iter().map(SeqRange::len).sum();
            prop_assert_eq!(open, model[1..].iter().filter(|slot| slot.is_none()).count() as u64);
            let resolved = model[1..].iter().take_while(|slot| slot.as_ref().is_some_and(|fate| *fate != Fate::Spooled)).count();
            prop_assert_eq!(ledger.resolved_through(), resolved as u64);
        }
    }
}
