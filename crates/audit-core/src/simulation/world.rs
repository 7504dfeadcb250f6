//! A world: what comes next happens, until nothing is left to happen or a promise is broken.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Outcome;
use super::database::{self, Database};
use super::disk::{Disk, Power};
use super::driver::Writer;
use super::env::{Env, Happening};
use super::history::History;
use super::model::WriterState;
use super::plan::{DatabaseState, DiskState, Planned};
use super::scenario::Scenario;
use super::settings::{Ending, Rates, late};
use super::spool_side::SpoolSide;
use crate::Time;
use crate::writer::SinkErrorKind;

/// A world in which more happens is running in circles.
const MAX_STEPS: u64 = 300_000;

/// A shutdown in a world in which nothing can be promised.
const SOME_TIME: Duration = Duration::from_millis(1_500);

/// How far a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Faulty,
    /// Without faults: everything must be settled.
    Calm,
    /// The writers end.
    Ending,
    /// One more writer sends what the others left.
    Sweeping,
    Over,
}

pub(super) struct World {
    pub(super) env: Env,
    pub(super) writers: Vec<Option<Writer>>,
    pub(super) slots: Vec<Option<u32>>,
    plan: Vec<Planned>,
    pub(super) stage: Stage,
}

impl World {
    pub(super) fn new(scenario: &Scenario, is_text_wanted: bool) -> Self {
        let (seed, settings) = (scenario.seed, scenario.settings.clone());
        let disk = Rc::new(RefCell::new(Disk::new(seed, settings.rates.disk_error)));
        disk.borrow_mut().limit_bytes = settings.spool_config.limit_bytes;
        let database = Database::new(seed, settings.rates);
        let slots = settings.slots;
        let mut env = Env::new(seed, settings, database, disk, History::new(is_text_wanted));
        env.model.is_shared = slots > 1;
        for slot in 0..slots {
            env.schedule(Time::START, Happening::Start { slot });
        }
        for (index, planned) in scenario.plan.iter().enumerate() {
            env.schedule(planned.at, Happening::Planned(index));
        }
        env.schedule(Time::START + env.settings.faulty, Happening::FaultsStop);
        Self {
            env,
            writers: Vec::new(),
            slots: vec![None; slots],
            plan: scenario.plan.clone(),
            stage: Stage::Faulty,
        }
    }

    pub(super) fn run(mut self) -> (Outcome, String) {
        while self.stage != Stage::Over && self.env.model.finding.is_none() {
            let Some(next) = self.env.next() else {
                self.env
                    .model
                    .report("a world ends", || "nothing is left to happen".to_owned());
                break;
            };
            self.env.history.steps += 1;
            let steps = self.env.history.steps;
            self.env
                .model
                .demand(steps < MAX_STEPS, "nothing runs in circles", || {
                    format!("{steps} steps")
                });
            self.happen(next);
            self.advance_stage();
        }
        let outcome = Outcome {
            events: self.env.events,
            operations: self.env.disk.borrow().operations,
            hash: self.env.history.hash,
            finding: self.env.model.finding.clone(),
        };
        (outcome, self.env.history.text())
    }

    fn happen(&mut self, what: Happening) {
        let env = &mut self.env;
        match what {
            Happening::Planned(index) => self.happen_outside(self.plan[index].what),
            Happening::Start { slot } if self.stage == Stage::Faulty => self.start(slot),
            Happening::Start { .. } => {}
            Happening::Calls { slot, left } => self.calls(slot, left),
            Happening::Kill { writer } if self.stage == Stage::Faulty => self.kill(writer),
            Happening::Kill { .. } => {}
            Happening::Call { writer, call } => {
                self.with(writer, |writer, env| writer.complete_call(call, env))
            }
            Happening::Turn { writer, generation } => {
                self.with(writer, |writer, env| writer.turn(generation, env));
            }
            Happening::Close { writer, deadline } => {
                self.with(writer, |writer, env| writer.close(deadline, env));
            }
            Happening::Deadline { writer } => self.with(writer, |writer, env| {
                let is_late = writer.is_running() && writer.deadline.is_some_and(|at| late(at) <= env.now);
                env.model
                    .demand(!is_late, "a shutdown ends by its deadline", || writer.describe());
            }),
            Happening::Execute { statement } => self.execute(statement),
            Happening::Answer { statement } => {
                let answer = env.statements[statement].answer.take();
                self.answer(statement, answer);
            }
            Happening::TimeOut { statement } => {
                let error = database::error(SinkErrorKind::Transient, "no answer in time");
                self.answer(statement, Some(Err(error)));
            }
            Happening::SpoolRun { writer, generation } => self.run_spool(writer, generation),
            Happening::SpoolReply { writer } => self.with(writer, |writer, env| {
                if let Some(reply) = writer.spool.as_mut().and_then(SpoolSide::next_reply) {
                    writer.replied(reply, env);
                }
            }),
            Happening::DatabaseWorks => env.database.state = DatabaseState::Works,
            Happening::DiskWorks => env.disk.borrow_mut().state = DiskState::Works,
            Happening::FaultsStop => self.stop_faults(),
            Happening::Promised => self.check_promises(),
        }
    }

    /// Lets a writer do something; it may have ended after that.
    pub(super) fn with(&mut self, index: u32, work: impl FnOnce(&mut Writer, &mut Env)) {
        let Some(mut writer) = self.writers.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        work(&mut writer, &mut self.env);
        if !writer.has_ended(&mut self.env) {
            self.writers[index as usize] = Some(writer);
            return;
        }
        self.leave_slot(&writer);
    }

    fn leave_slot(&mut self, writer: &Writer) {
        self.env.model.writers[writer.index as usize].has_ended = true;
        self.slots[writer.slot] = None;
        if self.stage == Stage::Faulty {
            let delay = self.env.delays.millis(0, 500);
            self.env
                .schedule_in(delay, Happening::Start { slot: writer.slot });
        }
    }

    fn start(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        let index = self.writers.len() as u32;
        let has_spool = self.env.settings.spool.is_some();
        let spool = has_spool
            .then(|| SpoolSide::start(index, &mut self.env))
            .flatten();
        // Without its directory a writer does not start; one is started later.
        if has_spool && spool.is_none() {
            self.env.model.writers.push(WriterState::default());
            self.writers.push(None);
            let delay = self.env.delays.millis(10, 300);
            return self.env.schedule_in(delay, Happening::Start { slot });
        }
        self.env.note(|| format!("{index} started in slot {slot}"));
        self.env.model.writers.push(WriterState {
            has_quarantine: has_spool,
            ..WriterState::default()
        });
        let mut writer = Writer::new(index, slot, spool, &self.env);
        writer.is_calm = self.stage != Stage::Faulty;
        self.env.model.writers[index as usize].is_calm = writer.is_calm;
        self.writers.push(Some(writer));
        self.slots[slot] = Some(index);
        self.env.schedule_in(
            Duration::ZERO,
            Happening::Turn {
                writer: index,
                generation: 0,
            },
        );
        match self.stage {
            Stage::Faulty | Stage::Over => {}
            Stage::Calm | Stage::Ending => self.calm_calls(slot),
            Stage::Sweeping => {
                self.calm_calls(slot);
                let time = self.time_needed().unwrap_or(SOME_TIME) + Duration::from_secs(30);
                self.env.schedule_in(time, Happening::Promised);
            }
        }
    }

    /// The process of a writer ends at once.
    pub(super) fn kill(&mut self, index: u32) {
        let Some(writer) = self.writers.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.env.note(|| format!("{index} is killed"));
        self.leave_slot(&writer);
        drop(writer);
        self.env.tell_disk_effects();
    }

    fn run_spool(&mut self, index: u32, generation: u64) {
        let mut is_alive = true;
        self.with(index, |writer, env| {
            if let Some(spool) = &mut writer.spool {
                is_alive = spool.run(generation, index, env);
            }
        });
        if !is_alive {
            self.kill(index);
        }
    }

    // The database.

    fn execute(&mut self, index: usize) {
        let env = &mut self.env;
        let statement = &env.statements[index];
        let is_waited_for = !statement.is_answered && self.writers[statement.writer as usize].is_some();
        if env.database.state == DatabaseState::Hangs {
            let at = env.database.hangs_until.max(env.now + Duration::from_millis(1));
            return env.schedule(at, Happening::Execute { statement: index });
        }
        if !is_waited_for && !env.database.outlives_client() {
            return;
        }
        let rows = std::sync::Arc::clone(&statement.rows);
        let answer = env.database.execute(&rows, &mut env.model);
        env.note(|| format!("  the database executes statement {index}: {}", answer.is_ok()));
        let statement = &mut env.statements[index];
        statement.answer = Some(answer);
        let delay = statement.until_answered;
        env.schedule_in(delay, Happening::Answer { statement: index });
    }

    fn answer(&mut self, index: usize, answer: Option<super::database::Answer>) {
        let statement = &mut self.env.statements[index];
        let Some(answer) = answer.filter(|_| !statement.is_answered) else {
            return;
        };
        statement.is_answered = true;
        let (writer, lane) = (statement.writer, statement.lane);
        self.with(writer, |writer, env| writer.written(lane, answer, env));
    }

    // The end.

    fn stop_faults(&mut self) {
        let env = &mut self.env;
        env.note(|| "faults stop".to_owned());
        env.database.stop_faults();
        env.disk.borrow_mut().stop_faults();
        let keep = env.settings.rates;
        env.settings.rates = Rates {
            group: keep.group,
            interleaved: keep.interleaved,
            ..Rates::default()
        };
        for power in &mut env.disk.borrow_mut().stores {
            if *power != Power::Off {
                *power = Power::On;
            }
        }
        self.stage = Stage::Calm;
        let needed = self.time_needed();
        for slot in 0..self.slots.len() {
            match self.slots[slot] {
                None => self.start(slot),
                Some(index) => {
                    let is_calm = needed.is_some() && self.mark_calm(index);
                    if is_calm {
                        self.calm_calls(slot);
                    }
                }
            }
        }
        match (needed, self.env.settings.ending) {
            (Some(time), Ending::RunOn) => self.env.schedule_in(time, Happening::Promised),
            (Some(time), Ending::ShutDown) => self.shut_down_all(time * 2),
            (None, _) => self.shut_down_all(SOME_TIME),
        }
    }

    /// From now on a writer has no excuse, unless it is to end soon.
    fn mark_calm(&mut self, index: u32) -> bool {
        let Some(writer) = self.writers[index as usize].as_mut() else {
            return false;
        };
        writer.is_calm = writer.deadline.is_none() && writer.is_running();
        self.env.model.writers[index as usize].is_calm = writer.is_calm;
        writer.is_calm
    }

    fn time_needed(&self) -> Option<Duration> {
        let held: usize = self.writers.iter().flatten().map(Writer::entries_in_memory).sum();
        self.env
            .settings
            .promised(held + self.env.disk.borrow().backlog())
    }

    fn check_promises(&mut self) {
        let env = &mut self.env;
        let has_spool = env.settings.spool.is_some();
        // What a rejected record declares stays open, and the copies in the spool with it.
        let has_writer = self.writers.iter().flatten().any(|writer| writer.is_calm);
        let mut is_spool_watched = has_spool && has_writer && !env.model.has_lost_record();
        for writer in self.writers.iter().flatten() {
            is_spool_watched &= writer.spool.is_some() && writer.is_calm;
            env.model.writers[writer.index as usize].is_clean_end_due = writer.is_calm;
            let holds = !writer.is_calm || writer.is_settled();
            env.model
                .demand(holds, "without faults everything is settled in time", || {
                    writer.describe()
                });
        }
        let backlog = env.disk.borrow().backlog();
        let files = env.disk.borrow().describe(&env.model);
        env.model.demand(
            !is_spool_watched || backlog == 0,
            "without faults the spool is drained in time",
            || files,
        );
        self.stage = if self.stage == Stage::Sweeping {
            Stage::Sweeping
        } else {
            Stage::Ending
        };
        self.shut_down_all(self.time_needed().unwrap_or(SOME_TIME));
    }

    fn shut_down_all(&mut self, within: Duration) {
        if self.stage == Stage::Calm {
            self.stage = Stage::Ending;
        }
        for slot in 0..self.slots.len() {
            self.shut_down(slot, within);
        }
    }

    fn advance_stage(&mut self) {
        let is_empty = self.slots.iter().all(Option::is_none) && self.writers.iter().all(Option::is_none);
        match self.stage {
            Stage::Ending if is_empty => {
                self.stage = Stage::Sweeping;
                self.start(0);
            }
            Stage::Sweeping if is_empty => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        self.stage = Stage::Over;
        let files = self.env.disk.borrow().describe(&self.env.model);
        self.env.note(|| files);
        self.env.model.check_complete();
        // A full spool takes no stop record.
        if self.env.settings.spool_config.limit_bytes > u64::from(u32::MAX) {
            self.env.model.check_clean_ends();
        }
        let disk = self.env.disk.borrow();
        let backlog = disk.backlog();
        let model = &mut self.env.model;
        model.demand(backlog == 0, "the spool is empty in the end", || {
            format!("{backlog} rows are left")
        });
        model.demand(
            disk.is_foreign_untouched(),
            "foreign files are left alone",
            String::new,
        );
    }
}
