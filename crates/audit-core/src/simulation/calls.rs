//! Callers: they write single entries and groups, await some receipts, and pause between any two steps.

use super::driver::{Call, CallStep, Rest, Stage, Waiter, Writer};
use super::env::{Env, Happening};
use super::model::Verdict;
use super::queue::{Group, Refused};
use super::row::SimRow;
use super::world::World;
use crate::{DropReason, Fate, SeqRange, Size};

impl World {
    /// One caller writes `left` times, with short pauses or none.
    pub(super) fn calls(&mut self, slot: usize, left: usize) {
        self.in_slot(slot, |writer, env| writer.call(env, false));
        if left > 1 {
            let delay = self.env.callers.micros(0, 300);
            self.env
                .schedule_in(delay, Happening::Calls { slot, left: left - 1 });
        }
    }

    /// A few entries that the database accepts.
    pub(super) fn calm_calls(&mut self, slot: usize) {
        for _ in 0..2 {
            self.in_slot(slot, |writer, env| writer.call(env, true));
        }
    }
}

impl Writer {
    /// A caller writes once.
    pub(super) fn call(&mut self, env: &mut Env, is_calm: bool) {
        let rates = env.settings.rates;
        let count = if env.callers.chance(rates.group) {
            env.callers.size(2, 7)
        } else {
            1
        };
        let first = self.queue.submitted + 1;
        let rows: Vec<SimRow> = (0..count).map(|_| self.entry(env, is_calm)).collect();
        let range = SeqRange {
            first,
            last: self.queue.submitted,
        };
        let size = Size {
            entries: count,
            bytes: rows.iter().map(|row| row.bytes as usize).sum(),
        };
        let step = match self.queue.admit(size) {
            Ok(()) => {
                rows.iter()
                    .for_each(|row| env.model.row_mut(row.key).is_admitted = true);
                CallStep::Push(Group { rows, size })
            }
            Err(Refused::Full) => CallStep::Refused(range, DropReason::QueueFull),
            Err(Refused::Closed) => CallStep::Refused(range, DropReason::ShutDown),
        };
        let awaits_until = env
            .callers
            .chance(rates.awaited)
            .then(|| env.now + env.callers.millis(1, 3_000));
        self.last_call += 1;
        let call = Call {
            id: self.last_call,
            step,
            awaits_until,
        };
        let id = call.id;
        self.calls.push_back(call);
        if env.callers.chance(rates.slow_call) {
            let delay = env.callers.micros(1, 20_000);
            env.schedule_in(
                delay,
                Happening::Call {
                    writer: self.index,
                    call: id,
                },
            );
        } else {
            self.complete_call(id, env);
        }
        if env.callers.chance(rates.awaited / 10) {
            self.drop_receipts();
        }
    }

    /// An entry with the next number.
    fn entry(&mut self, env: &mut Env, is_calm: bool) -> SimRow {
        self.queue.submitted += 1;
        let (seq, rates) = (self.queue.submitted, env.settings.rates);
        let before = env.model.rows.len() as u64;
        let repeated = (before > 0 && env.callers.chance(rates.repeated))
            .then(|| env.model.row(env.callers.below(before) as u32))
            .filter(|row| row.seq > 0 && row.verdict != Verdict::Foreign)
            .map(|row| (row.id, row.verdict));
        let (id, verdict) = repeated.unwrap_or_else(|| {
            let verdict = if is_calm {
                Verdict::Accepted
            } else {
                env.database.draw_verdict(false)
            };
            (env.model.new_id(), verdict)
        });
        let key = env.model.new_row(self.index, seq, id, verdict);
        let bound = env.settings.bound.bytes as u64;
        let is_large = env.callers.chance(rates.large);
        let bytes = if is_large {
            env.callers.between(bound / 2, bound + bound / 2)
        } else {
            env.callers.between(30, 120)
        };
        SimRow {
            key,
            id,
            writer: self.index,
            seq,
            bytes: bytes as u32,
            record: None,
        }
    }

    /// A caller completes what it began.
    pub(super) fn complete_call(&mut self, id: u64, env: &mut Env) {
        let Some(at) = self.calls.iter().position(|call| call.id == id) else {
            return;
        };
        if let Some(call) = self.calls.remove(at) {
            self.complete(call, env);
        }
    }

    pub(super) fn complete_next_call(&mut self, env: &mut Env) {
        if let Some(call) = self.calls.pop_front() {
            self.complete(call, env);
        }
    }

    fn complete(&mut self, call: Call, env: &mut Env) {
        let range = match call.step {
            CallStep::Push(group) => {
                let range = group.range();
                match self.stage {
                    Stage::Runs => self.queue.push(group),
                    Stage::Finished => self.give_up(group, env),
                }
                range
            }
            CallStep::Refused(range, reason) => {
                let fate = Fate::Dropped(reason);
                env.note(|| format!("{} caller: {}-{} {fate:?}", self.index, range.first, range.last));
                env.model.settle(self.index, &[range], &fate);
                self.settle(&[range], &fate, env);
                range
            }
        };
        if let Some(until) = call.awaits_until {
            match self.ledger.outcome(range) {
                Some(counts) => self.check_receipt(range, &counts, true, env),
                None => self.ledger.wait(range, until.max(env.now), Waiter { range }),
            }
        }
        if self.stage == Stage::Runs && (self.rest == Rest::Parks || call.awaits_until.is_some()) {
            self.schedule_turn(env.now + env.delays.micros(5, 100), env);
        }
    }

    pub(super) fn give_up(&mut self, group: Group, env: &mut Env) {
        let (range, fate) = (group.range(), Fate::Dropped(DropReason::ShutDown));
        env.model.settle(self.index, &[range], &fate);
        self.settle(&[range], &fate, env);
        self.queue.release(group.size);
    }

    /// Callers stop to await what is not settled.
    pub(super) fn drop_receipts(&mut self) {
        self.ledger
            .take_gone(usize::MAX, |waiter| waiter.range.first % 2 == 1);
    }
}
