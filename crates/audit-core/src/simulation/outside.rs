//! Carries out the external events of a plan.

use std::time::Duration;

use super::disk::Power;
use super::driver::Writer;
use super::env::{Env, Happening};
use super::plan::External;
use super::row::SimRow;
use super::settings::late;
use super::spool_side::SpoolSide;
use super::world::{Stage, World};

impl World {
    pub(super) fn happen_outside(&mut self, what: External) {
        self.env.note(|| format!("  {what}"));
        if self.stage != Stage::Faulty {
            return;
        }
        let env = &mut self.env;
        match what {
            External::Write { slot, calls } => self.calls(slot, calls),
            External::Database(state, time) => {
                env.database.state = state;
                env.database.hangs_until = env.now + time;
                env.schedule_in(time, Happening::DatabaseWorks);
            }
            External::Disk(state, time) => {
                env.disk.borrow_mut().state = state;
                env.schedule_in(time, Happening::DiskWorks);
            }
            External::Lock(target, time) => env.disk.borrow_mut().locks.push((target, env.now + time)),
            External::Damage(kind) => env.disk.borrow_mut().damage(kind),
            External::RemoveDirectory => env.disk.borrow_mut().remove_directory(),
            External::ForeignFile { is_newer } => {
                let id = env.model.new_id();
                let key = env.model.new_foreign_row(id);
                let row = SimRow {
                    key,
                    id,
                    writer: u32::MAX - 1,
                    seq: 1,
                    bytes: 50,
                    record: None,
                };
                env.disk.borrow_mut().add_foreign(is_newer, row);
            }
            External::Kill { slot, operations } => self.end_process(slot, operations),
            External::PowerLoss { operations } => {
                (0..self.slots.len()).for_each(|slot| self.end_process(slot, Some(operations)));
            }
            External::Panic { slot } => self.in_slot(slot, |writer, env| {
                if writer.is_running() {
                    writer.panic(env);
                }
            }),
            External::SpoolGone { slot } => self.in_slot(slot, Writer::lose_spool),
            External::ShutDown { slot, within } => self.shut_down(slot, within),
        }
        self.env.tell_disk_effects();
    }

    pub(super) fn in_slot(&mut self, slot: usize, work: impl FnOnce(&mut Writer, &mut Env)) {
        if let Some(index) = self.slots[slot] {
            self.with(index, work);
        }
    }

    /// Kills a process at once, or within an operation of its disk, soon.
    fn end_process(&mut self, slot: usize, operations: Option<u32>) {
        let Some(index) = self.slots[slot] else { return };
        let store = self.writers[index as usize]
            .as_ref()
            .and_then(|writer| writer.spool.as_ref())
            .map(SpoolSide::store);
        match (operations, store) {
            (Some(operations), Some(store)) => {
                self.env.disk.borrow_mut().stores[store as usize] = Power::FailsAfter(operations);
                let delay = self.env.delays.millis(5, 400);
                self.env.schedule_in(delay, Happening::Kill { writer: index });
            }
            _ => self.kill(index),
        }
    }

    pub(super) fn shut_down(&mut self, slot: usize, within: Duration) {
        self.in_slot(slot, |writer, env| {
            if !writer.is_running() {
                return;
            }
            let asked = env.now + within;
            let deadline = writer.deadline.map_or(asked, |deadline| deadline.min(asked));
            let before = writer.deadline.replace(deadline);
            if before.is_none() {
                writer.closed_at = env.now;
            }
            if before != Some(deadline) {
                writer.deadline_set_at = env.now;
            }
            writer.queue.is_closed = true;
            env.model.writers[writer.index as usize].is_ending = true;
            env.schedule(late(deadline), Happening::Deadline { writer: writer.index });
            while env.callers.chance(env.settings.rates.late_call) {
                writer.call(env, false);
            }
            let delay = env.delays.micros(0, 200);
            env.schedule_in(
                delay,
                Happening::Close {
                    writer: writer.index,
                    deadline: asked,
                },
            );
        });
    }
}
