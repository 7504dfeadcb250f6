//! What the parts of a world share: the clock, the queue of what is to come, the model, database and disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::database::{Database, Statement};
use super::disk::SharedDisk;
use super::history::History;
use super::model::Model;
use super::random::Random;
use super::settings::Settings;
use crate::Time;

/// Something that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Planned(usize),
    Start {
        slot: usize,
    },
    Calls {
        slot: usize,
        left: usize,
    },
    /// A caller completes what it began.
    Call {
        writer: u32,
        call: u64,
    },
    Turn {
        writer: u32,
        generation: u64,
    },
    Close {
        writer: u32,
        deadline: Time,
    },
    Deadline {
        writer: u32,
    },
    Execute {
        statement: usize,
    },
    Answer {
        statement: usize,
    },
    TimeOut {
        statement: usize,
    },
    SpoolRun {
        writer: u32,
        generation: u64,
    },
    SpoolReply {
        writer: u32,
    },
    DatabaseWorks,
    DiskWorks,
    Kill {
        writer: u32,
    },
    FaultsStop,
    /// Everything must be settled by now.
    Promised,
}

pub(super) struct Env {
    pub(super) settings: Settings,
    pub(super) now: Time,
    queue: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    scheduled: u64,
    pub(super) model: Model,
    pub(super) database: Database,
    pub(super) statements: Vec<Statement>,
    pub(super) disk: SharedDisk,
    pub(super) history: History,
    /// Choices of callers.
    pub(super) callers: Random,
    /// Choices about the time that things take.
    pub(super) delays: Random,
    /// Events that the state machines were given.
    pub(super) events: u64,
}

impl Env {
    pub(super) fn new(
        seed: u64,
        settings: Settings,
        database: Database,
        disk: SharedDisk,
        history: History,
    ) -> Self {
        Self {
            settings,
            now: Time::START,
            queue: BinaryHeap::new(),
            scheduled: 0,
            model: Model::default(),
            database,
            statements: Vec::new(),
            disk,
            history,
            callers: Random::new(seed, 5),
            delays: Random::new(seed, 6),
            events: 0,
        }
    }

    /// Puts something into the queue. What is scheduled for the same time happens in that order.
    pub(super) fn schedule(&mut self, at: Time, what: Happening) {
        if at < Time::NEVER {
            self.scheduled += 1;
            self.queue.push(Reverse((at, self.scheduled, what)));
        }
    }

    pub(super) fn schedule_in(&mut self, delay: Duration, what: Happening) {
        self.schedule(self.now + delay, what);
    }

    /// Takes the earliest, and advances the clock to it.
    pub(super) fn next(&mut self) -> Option<Happening> {
        let Reverse((at, _, what)) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.disk.borrow_mut().now = self.now;
        Some(what)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.history.note(self.now, line);
    }

    /// Tells the model what the disk did.
    pub(super) fn tell_disk_effects(&mut self) {
        let mut disk = self.disk.borrow_mut();
        if !disk.effects.is_empty() {
            self.history.note(self.now, || {
                format!("  the disk: {}", disk.describe_effects(&self.model))
            });
        }
        disk.tell(&mut self.model);
    }
}
