//! The spool's thread of a writer: requests gather while the disk works, and are answered together.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Power, SharedDisk, name_of};
use super::env::{Env, Happening};
use super::history;
use super::row::SimRow;
use super::settings::Settings;
use super::store::SimStore;
use crate::Time;
use crate::spool::{SpoolReply, SpoolRequest, SpoolWorker};

pub(super) struct SpoolSide {
    worker: SpoolWorker<SimStore>,
    store: u32,
    inbox: Vec<SpoolRequest<SimRow>>,
    replies: VecDeque<SpoolReply<SimRow>>,
    /// The thread does nothing before.
    busy_until: Time,
    /// The last reply goes out then: none overtakes another.
    last_reply_at: Time,
    generation: u64,
    /// When an operation of the disk failed last.
    failed_at: Option<Time>,
    /// When the disk was last slow. Once the faults have stopped it is not any more.
    slow_at: Option<Time>,
    /// Dropped last.
    locks: Locks,
}

/// The locks of a process. One that died within an operation may have taken one without knowing.
struct Locks {
    disk: SharedDisk,
    store: u32,
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.disk.borrow_mut().release_all(self.store);
    }
}

impl SpoolSide {
    /// Starts the thread. None if the directory takes no file and the writer wants one at once.
    pub(super) fn start(writer: u32, env: &mut Env) -> Option<Self> {
        let store = SimStore::new(&env.disk);
        let (id, mut config) = (store.id(), env.settings.spool_config.clone());
        config.writer = Some(super::row::writer_id(writer));
        let locks = Locks {
            disk: Rc::clone(&env.disk),
            store: id,
        };
        let worker = if env.delays.coin() {
            Some(SpoolWorker::new(store, config, env.now))
        } else {
            SpoolWorker::open(store, config, env.now).ok()
        };
        env.tell_disk_effects();
        let side = Self {
            worker: worker?,
            store: id,
            inbox: Vec::new(),
            replies: VecDeque::new(),
            busy_until: env.now,
            last_reply_at: env.now,
            generation: 0,
            failed_at: None,
            slow_at: None,
            locks,
        };
        side.schedule_run(env.now, writer, env);
        Some(side)
    }

    pub(super) fn store(&self) -> u32 {
        self.store
    }

    pub(super) fn ask(&mut self, request: SpoolRequest<SimRow>, writer: u32, env: &mut Env) {
        if self.inbox.is_empty() {
            let at = self.busy_until.max(env.now + env.delays.micros(1, 50));
            self.schedule_run(at, writer, env);
        }
        self.inbox.push(request);
    }

    fn schedule_run(&self, at: Time, writer: u32, env: &mut Env) {
        env.schedule(
            at,
            Happening::SpoolRun {
                writer,
                generation: self.generation,
            },
        );
    }

    /// The thread looks for requests, and for what is due by time. False if its process died at that.
    pub(super) fn run(&mut self, generation: u64, writer: u32, env: &mut Env) -> bool {
        if generation != self.generation {
            return true;
        }
        self.generation += 1;
        let mut group = std::mem::take(&mut self.inbox);
        if group.len() > 1 && env.delays.chance(env.settings.rates.split_group) {
            let size = env.delays.size(1, group.len() - 1);
            self.inbox = group.split_off(size);
        }
        let mut replies = Vec::new();
        let failures = env.disk.borrow().failures;
        env.events += 1;
        if !group.is_empty() {
            env.note(|| {
                let requests: Vec<String> = group.iter().map(history::request).collect();
                format!("{writer} spool's thread: {}", requests.join(" | "))
            });
        }
        if group.is_empty() {
            self.worker.tick(env.now, &mut replies);
        } else {
            self.worker.handle(group, env.now, &mut replies);
        }
        env.tell_disk_effects();
        if !replies.is_empty() {
            env.note(|| {
                let replies: Vec<String> = replies.iter().map(history::reply).collect();
                format!("{writer}   it answers: {}", replies.join(" | "))
            });
        }
        if env.disk.borrow().stores[self.store as usize] == Power::Off {
            return false;
        }
        if env.disk.borrow().failures > failures {
            self.failed_at = Some(env.now);
        }
        self.check_removals(env);
        let is_slow = env.delays.chance(env.settings.rates.slow_disk);
        let longest = if is_slow {
            self.slow_at = Some(env.now);
            400_000
        } else {
            Settings::HEALTHY_DISK.as_micros() as u64
        };
        self.busy_until = env.now + env.delays.micros(10, longest);
        for reply in replies {
            self.last_reply_at = self.last_reply_at.max(self.busy_until) + env.delays.micros(0, 100);
            env.schedule(self.last_reply_at, Happening::SpoolReply { writer });
            self.replies.push_back(reply);
        }
        let next = if self.inbox.is_empty() {
            self.worker.next_tick()
        } else {
            env.now
        };
        self.schedule_run(next.max(self.busy_until), writer, env);
        true
    }

    /// Where nothing failed for a while, few removals wait, and not beyond their time.
    fn check_removals(&self, env: &mut Env) {
        let config = &env.settings.spool_config;
        let repeated_after = config.retry_delay + config.removal_delay;
        if self
            .failed_at
            .is_some_and(|at| env.now <= at + repeated_after + Duration::from_secs(1))
        {
            return;
        }
        let (waiting, max) = (self.worker.working_removals(), config.max_pending_removals);
        // Those of a file whose removals fail are repeated by time, which "what is due is done" demands. Batches
        // that a read finds empty are removed later.
        env.model
            .demand(waiting < max + 6, "removals that wait are bounded", || {
                format!("{waiting} of {max}")
            });
        let tick = self.worker.next_tick();
        env.model.demand(tick > env.now, "what is due is done", || {
            format!("{tick:?} at {:?}", env.now)
        });
    }

    /// True if this file looked damaged twice: its batches are copied with the next scan.
    pub(super) fn is_copying(&self, file: u32) -> bool {
        self.worker.is_copying(&name_of(file))
    }

    /// True if the core has not heard yet that there is something to read.
    pub(super) fn has_news(&self) -> bool {
        self.replies.iter().any(is_news)
    }

    /// True if no operation failed or was slow since then, and the spool has room.
    pub(super) fn works_since(&self, time: Time, env: &Env) -> bool {
        let has_room = env.settings.spool_config.limit_bytes > u64::from(u32::MAX);
        let is_before = |at: Option<Time>| at.is_none_or(|at| at < time);
        has_room && is_before(self.slow_at) && is_before(self.failed_at)
    }

    pub(super) fn next_reply(&mut self) -> Option<SpoolReply<SimRow>> {
        self.replies.pop_front()
    }

    /// The writer has ended: what was asked for is done, then the thread ends. True if it adopted or copied a file
    /// meanwhile.
    pub(super) fn close(mut self, env: &mut Env) -> bool {
        let mut unheard = Vec::new();
        self.worker
            .handle(std::mem::take(&mut self.inbox), env.now, &mut unheard);
        let Self { worker, locks, .. } = self;
        worker.close();
        drop(locks);
        env.tell_disk_effects();
        unheard.iter().any(is_news)
    }
}

fn is_news(reply: &SpoolReply<SimRow>) -> bool {
    matches!(reply, SpoolReply::Adopted)
}
