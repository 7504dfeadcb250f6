//! A writer as a driver runs it: the core, the ledger, the queue, the lanes and the spool's thread.
//!
//! Actions are carried out in their order, [`Action::Take`] is answered before anything else happens, and the
//! mark of the ledger is read before the losses are taken.

use std::collections::VecDeque;
use std::rc::Rc;

use super::contract::Contract;
use super::database::Statement;
use super::env::{Env, Happening};
use super::history;
use super::model::Verdict;
use super::queue::{Group, Queue};
use super::row::{SimRow, writer_id};
use super::spool_side::SpoolSide;
use crate::ledger::Ledger;
use crate::spool::{SpoolReply, SpoolRequest};
use crate::writer::{Action, Attempt, Config, Core, Event, Record, Taken, View, Wait};
use crate::{DeliveryCounts, DropReason, Fate, Loss, Rows, SeqRange, Time};

/// A caller that has a number and is not done.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) step: CallStep,
    /// Until when the caller awaits its receipt.
    pub(super) awaits_until: Option<Time>,
}

#[derive(Debug)]
pub(super) enum CallStep {
    Push(Group),
    Refused(SeqRange, DropReason),
}

/// How a thread rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Callers do not wake it for an entry that nobody awaits.
    Looks,
    /// Callers wake it for every entry.
    Parks,
}

/// Where a writer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Runs,
    /// The core has ended; callers that have a number are waited for.
    Finished,
}

/// Who waits for a receipt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) range: SeqRange,
}

pub(super) struct Writer {
    pub(super) index: u32,
    pub(super) slot: usize,
    core: Core<SimRow>,
    pub(super) ledger: Ledger<Waiter>,
    pub(super) queue: Queue,
    pub(super) contract: Contract,
    pub(super) spool: Option<SpoolSide>,
    pub(super) calls: VecDeque<Call>,
    pub(super) last_call: u64,
    pub(super) rest: Rest,
    generation: u64,
    pub(super) deadline: Option<Time>,
    pub(super) closed_at: Time,
    /// When the deadline was set, or made earlier.
    pub(super) deadline_set_at: Time,
    pub(super) stage: Stage,
    /// True if nothing happens to it from outside any more, and it has the time that it needs.
    pub(super) is_calm: bool,
    notified: Option<usize>,
}

impl Writer {
    pub(super) fn new(index: u32, slot: usize, spool: Option<SpoolSide>, env: &Env) -> Self {
        let settings = &env.settings;
        let config = Config {
            writer: writer_id(index),
            lanes: settings.lanes,
            bound: settings.bound,
            spool: settings.spool,
            retry: settings.retry,
            limits: settings.limits,
            seed: u64::from(index),
        };
        Self {
            index,
            slot,
            core: Core::new(config),
            ledger: Ledger::default(),
            queue: Queue::new(settings.bound),
            contract: Contract::new(index, settings.lanes, settings.limits.appends, settings.retry),
            spool,
            calls: VecDeque::new(),
            last_call: 0,
            rest: Rest::Parks,
            generation: 0,
            deadline: None,
            closed_at: Time::START,
            deadline_set_at: Time::START,
            stage: Stage::Runs,
            is_calm: false,
            notified: None,
        }
    }

    fn view(&self, resolved_through: u64) -> View {
        View {
            held: self.queue.held(),
            submitted: self.queue.submitted,
            is_closed: self.queue.is_closed,
            has_carried: self.queue.has_carried(),
            has_waiters: self.ledger.has_waiters(),
            settled_through: self.ledger.settled_through(),
            resolved_through,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.stage == Stage::Runs
    }

    /// How many entries are in the queue and in the core.
    pub(super) fn entries_in_memory(&self) -> usize {
        self.queue.held().entries + self.contract.holds() * 5
    }

    /// True if nothing is in memory and every number is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.core.is_empty()
            && self.calls.is_empty()
            && self.ledger.unsettled(self.queue.submitted).is_empty()
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "writer {}: core holds {:?}, queue {:?}, {} calls, unsettled {:?}, {} batches of the spool",
            self.index,
            self.core.held(),
            self.queue.held(),
            self.calls.len(),
            self.ledger.unsettled(self.queue.submitted),
            self.contract.holds()
        )
    }

    /// The thread wakes: its time has come, or a caller woke it.
    pub(super) fn turn(&mut self, generation: u64, env: &mut Env) {
        if generation == self.generation {
            self.on(Event::Woken, env);
        }
    }

    /// Hands an event to the core with everything that goes before it, and rests after it.
    pub(super) fn on(&mut self, event: Event<SimRow>, env: &mut Env) {
        if self.stage == Stage::Finished {
            return;
        }
        let expired = self.ledger.take_expired(env.now);
        self.check_receipts(&expired, false, env);
        self.handle(event, env);
        while let Some(callers) = self.notified.take() {
            self.handle(Event::Notified { callers }, env);
        }
        self.rest(env);
    }

    /// Hands an event to the core with the losses that came before it, and then what it asked for. As the
    /// driver of `db-services` does: losses and event see the same view, and their actions are one list.
    fn handle(&mut self, event: Event<SimRow>, env: &mut Env) {
        let mut next = Some(event);
        while let Some(event) = next {
            let (resolved_through, losses) = self.look_at_ledger(env);
            let view = self.view(resolved_through);
            let mut actions = Vec::new();
            if !losses.is_empty() {
                self.hand_over(Event::Lost(losses), &view, &mut actions, env);
            }
            self.hand_over(event, &view, &mut actions, env);
            next = self.carry_out(actions, env);
        }
        let (held, taken) = (self.core.held(), self.contract.taken);
        env.model
            .demand(held == taken, "what was taken and not released is held", || {
                format!(
                    "writer {} took {taken:?} more than it released and holds {held:?}",
                    self.index
                )
            });
    }

    /// The mark, and the losses that came since the last time. A caller may settle something in between.
    fn look_at_ledger(&mut self, env: &mut Env) -> (u64, Vec<Loss>) {
        let mut resolved_through = self.ledger.resolved_through();
        let mut losses = if planted!(MarkReadAfterLosses) {
            self.ledger.take_losses()
        } else {
            Vec::new()
        };
        if env.callers.chance(env.settings.rates.interleaved) {
            self.complete_next_call(env);
        }
        if planted!(MarkReadAfterLosses) {
            resolved_through = self.ledger.resolved_through();
        } else {
            losses = self.ledger.take_losses();
        }
        (resolved_through, losses)
    }

    /// Hands one event to the core.
    fn hand_over(
        &mut self,
        event: Event<SimRow>,
        view: &View,
        actions: &mut Vec<Action<SimRow>>,
        env: &mut Env,
    ) {
        match &event {
            Event::Written { lane, result } => {
                let error = result.as_ref().err().map(|error| error.kind);
                self.contract.on_written(*lane, error, env.now);
            }
            Event::SpoolGone => {
                env.model.writers[self.index as usize].has_quarantine = false;
                self.contract.on_spool_gone();
            }
            _ => {}
        }
        env.events += 1;
        let text = env.history.is_wanted().then(|| history::event(&event));
        let before = actions.len();
        self.core.on(event, view, env.now, actions);
        let new = &actions[before..];
        self.contract.on_decisions(new, &mut env.model, env.now);
        let is_take = |action: &Action<SimRow>| matches!(action, Action::Take { .. });
        let is_last = !new.iter().rev().skip(1).any(is_take);
        env.model
            .demand(is_last, "to take a batch is the last action", String::new);
        env.history.mix(env.now.as_nanos() ^ u64::from(self.index) << 48);
        // That it looked and did nothing is not worth a line.
        if !(new.is_empty() && text.as_deref() == Some("woken")) {
            let index = self.index;
            env.note(|| format!("{index} {}{}", text.unwrap_or_default(), history::actions(new)));
        }
    }

    /// Carries out actions in their order; the answer to the last one, if that is to take a batch.
    fn carry_out(&mut self, actions: Vec<Action<SimRow>>, env: &mut Env) -> Option<Event<SimRow>> {
        let mut answer = None;
        for action in actions {
            env.history.mix(history::code(&action));
            self.contract.on_action(&action, &mut env.model);
            match action {
                Action::Take { records, entries } => answer = Some(self.take(&records, entries, env)),
                Action::Send { lane, rows, attempt } => self.send(lane, rows, attempt, env),
                Action::Spool(request) => self.ask_spool(request, env),
                Action::Settle { ranges, fate } => {
                    env.model.settle(self.index, &ranges, &fate);
                    self.settle(&ranges, &fate, env);
                }
                Action::Release(size) => {
                    let is_counted = self.queue.release(size);
                    env.model
                        .demand(is_counted, "no more is released than was taken", || {
                            format!("{size:?}")
                        });
                }
                Action::Count(..) | Action::Notice(_) => {}
            }
        }
        answer
    }

    pub(super) fn settle(&mut self, ranges: &[SeqRange], fate: &Fate, env: &mut Env) {
        self.ledger.settle(ranges, fate);
        let settled = self.ledger.take_settled();
        *self.notified.get_or_insert(0) += settled.len();
        self.check_receipts(&settled, true, env);
    }

    fn check_receipts(&self, receipts: &[(Waiter, DeliveryCounts)], is_settled: bool, env: &mut Env) {
        for (waiter, counts) in receipts {
            self.check_receipt(waiter.range, counts, is_settled, env);
        }
    }

    pub(super) fn check_receipt(
        &self,
        range: SeqRange,
        counts: &DeliveryCounts,
        is_settled: bool,
        env: &mut Env,
    ) {
        let expected = env.model.counts(self.index, range);
        let is_true = DeliveryCounts {
            drop_reason: None,
            ..counts.clone()
        } == expected
            && (!is_settled || counts.pending == 0);
        env.model.demand(is_true, "receipts are true", || {
            format!(
                "{}/{range:?} hears {counts:?} instead of {expected:?}",
                self.index
            )
        });
    }

    fn take(&mut self, records: &[Record<SimRow>], entries: bool, env: &mut Env) -> Event<SimRow> {
        let mut rows: Vec<SimRow> = records
            .iter()
            .map(|record| self.record_row(record, env))
            .collect();
        let mut size = crate::Size::default();
        if entries {
            let (mut taken, taken_size) = self.queue.take(env.settings.limits.batch);
            taken
                .iter()
                .for_each(|row| env.model.row_mut(row.key).is_taken = true);
            rows.append(&mut taken);
            size = taken_size;
        }
        self.contract.taken += size;
        Event::Taken(Taken { rows, size })
    }

    fn record_row(&self, record: &Record<SimRow>, env: &mut Env) -> SimRow {
        // Records of a start or an end look like other entries of the trail; the operator's own rules reject
        // at most declarations.
        let is_declaration = !matches!(
            record,
            Record::Started | Record::Alive { .. } | Record::Stopped { .. }
        );
        let verdict = if is_declaration {
            env.database.draw_verdict(true)
        } else {
            Verdict::Accepted
        };
        let id = env.model.new_id();
        let key = env.model.new_row(self.index, 0, id, verdict);
        env.model.row_mut(key).is_stop_record = matches!(record, Record::Stopped { .. });
        SimRow {
            key,
            id,
            writer: self.index,
            seq: 0,
            bytes: 40,
            record: Some(Rc::new(record.clone())),
        }
    }

    fn send(&mut self, lane: usize, rows: Rows<SimRow>, _attempt: Attempt, env: &mut Env) {
        let course = env.database.draw_course();
        let statement = env.statements.len();
        env.statements.push(Statement {
            writer: self.index,
            lane,
            rows,
            is_answered: false,
            answer: None,
            until_answered: course.until_answered,
        });
        env.schedule_in(course.until_executed, Happening::Execute { statement });
        env.schedule_in(
            env.settings.retry.attempt_timeout,
            Happening::TimeOut { statement },
        );
    }

    fn ask_spool(&mut self, request: SpoolRequest<SimRow>, env: &mut Env) {
        if let Some(spool) = &mut self.spool {
            spool.ask(request, self.index, env);
        }
    }

    /// A lane answers.
    pub(super) fn written(&mut self, lane: usize, result: super::database::Answer, env: &mut Env) {
        if self.stage == Stage::Runs {
            self.on(Event::Written { lane, result }, env);
        }
    }

    /// The spool answers.
    pub(super) fn replied(&mut self, reply: SpoolReply<SimRow>, env: &mut Env) {
        if self.stage == Stage::Runs {
            self.contract.on_reply(&reply, &mut env.model);
            self.on(Event::Spool(reply), env);
        }
    }

    /// The spool's thread panicked.
    pub(super) fn lose_spool(&mut self, env: &mut Env) {
        let Some(spool) = self.spool.take() else { return };
        drop(spool);
        env.tell_disk_effects();
        self.on(Event::SpoolGone, env);
    }

    pub(super) fn close(&mut self, deadline: Time, env: &mut Env) {
        self.on(Event::Close { deadline }, env);
    }

    fn rest(&mut self, env: &mut Env) {
        let view = self.view(self.ledger.resolved_through());
        let (rest, until) = match self.core.wait(&view, env.now) {
            Wait::Finished => return self.finish(env),
            Wait::Spin { .. } => (Rest::Looks, env.now + env.delays.micros(1, 5)),
            Wait::Until(until) => (Rest::Looks, until),
            Wait::Park(until) => (Rest::Parks, until),
        };
        self.rest = rest;
        let until = self
            .ledger
            .next_deadline()
            .map_or(until, |deadline| until.min(deadline));
        self.generation += 1;
        self.schedule_turn(until.max(env.now), env);
    }

    pub(super) fn schedule_turn(&mut self, at: Time, env: &mut Env) {
        env.schedule(
            at,
            Happening::Turn {
                writer: self.index,
                generation: self.generation,
            },
        );
    }
}
