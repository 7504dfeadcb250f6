//! How a writer of the simulation ends: by itself, by a panic, and what must be true then.

use std::time::Duration;

use super::driver::{Stage, Writer};
use super::env::Env;
use crate::{Fate, Time};

/// Time enough to write what is in memory to a disk that works.
const ENOUGH: Duration = Duration::from_millis(1_000);

impl Writer {
    pub(super) fn finish(&mut self, env: &mut Env) {
        env.note(|| format!("{} finished", self.index));
        self.stage = Stage::Finished;
        let deadline = self.deadline;
        env.model.demand(
            deadline.is_some(),
            "a writer ends only when it is shut down",
            || self.describe(),
        );
        self.check_losses(env);
        if let Some(spool) = self.spool.take() {
            let had_news = spool.has_news();
            let mut files = env.disk.borrow().held_by(spool.store(), self.known_files_since());
            // A scan copies those.
            files.retain(|file| !spool.is_copying(*file));
            let has_news = spool.close(env) || had_news;
            if self.is_calm && !has_news && self.contract.is_accepted() && !env.model.has_lost_record() {
                let left = env.disk.borrow().left_in(&files, self.index);
                env.model.demand(
                    left.is_empty(),
                    "a shutdown with enough time replays the spool",
                    || format!("writer {}: {}", self.index, left.join(", ")),
                );
            }
        }
        while let Some(group) = self.queue.pop() {
            self.give_up(group, env);
        }
    }

    /// With a spool that works and a moment of time nothing is lost, whatever the database does.
    fn check_losses(&self, env: &mut Env) {
        let (Some(spool), Some(deadline)) = (&self.spool, self.deadline) else {
            return;
        };
        let is_enough = deadline - self.deadline_set_at >= ENOUGH;
        if is_enough && spool.works_since(self.closed_at, env) {
            let lost = env.model.first_lost(self.index);
            env.model.demand(
                lost.is_none(),
                "with a spool that works a shutdown loses nothing",
                || lost.unwrap_or_default(),
            );
        }
    }

    /// What was adopted before this time, the core has heard of when it is shut down.
    fn known_files_since(&self) -> Time {
        Time::after((self.closed_at - Time::START).saturating_sub(Duration::from_millis(500)))
    }

    /// The thread panics: nobody knows what became of what it had.
    pub(super) fn panic(&mut self, env: &mut Env) {
        self.queue.is_closed = true;
        env.model.writers[self.index as usize].is_ending = true;
        self.stage = Stage::Finished;
        while let Some(group) = self.queue.pop() {
            self.give_up(group, env);
        }
        while !self.calls.is_empty() {
            self.complete_next_call(env);
        }
        let open = self.ledger.unsettled(self.queue.submitted);
        env.model.settle(self.index, &open, &Fate::Unknown);
        self.settle(&open, &Fate::Unknown, env);
        if let Some(spool) = self.spool.take() {
            spool.close(env);
        }
    }

    /// True once nobody uses it any more. Then everything must be settled.
    pub(super) fn has_ended(&self, env: &mut Env) -> bool {
        if self.stage == Stage::Runs || !self.calls.is_empty() {
            return false;
        }
        let open = self.ledger.unsettled(self.queue.submitted);
        env.model.demand(
            open.is_empty(),
            "a writer that ended has settled everything",
            || format!("writer {} left {open:?}", self.index),
        );
        env.model.demand(
            !self.ledger.has_waiters(),
            "a writer that ended has answered everybody",
            || format!("writer {}", self.index),
        );
        true
    }
}
