//! The spool's worker: it decides what is appended, read, removed, adopted and salvaged.

mod config;
mod file;
mod read;
mod salvage;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use config::SpoolConfig;
use file::OpenFile;
use salvage::Salvage;

use super::{Again, SpoolFailure, SpoolId, SpoolReply, SpoolRequest, Store, StoreError};
use crate::Time;

type Replies<R> = Vec<SpoolReply<R>>;

/// How often what is lost with this process is copied at the end of it, each time to another file.
const MAX_LAST_SALVAGES: usize = 3;

/// The policy of a spool directory for one writer.
///
/// Its driver calls [`handle`](Self::handle) with the requests that gathered, and [`tick`](Self::tick) at
/// [`next_tick`](Self::next_tick).
pub struct SpoolWorker<S: Store> {
    store: S,
    config: SpoolConfig,
    /// The open files by their key, adopted ones included.
    files: BTreeMap<u32, OpenFile<S::File>>,
    /// The key of the file that is appended to, once there is one.
    own: Option<u32>,
    /// The newest key. None is used twice: what is said of a batch never means another.
    last_key: u32,
    /// Files that are corrupt or gone and not copied yet, by their former key.
    salvages: BTreeMap<u32, Salvage<S::File>>,
    /// Where batches are that the writer holds and that were copied since.
    aliases: BTreeMap<SpoolId, SpoolId>,
    /// Files that are not to be adopted, ever.
    ignored: BTreeSet<String>,
    /// Files that could not be adopted at the last scan, and were reported.
    failing: BTreeSet<String>,
    is_scan_failing: bool,
    /// Files that were closed again to make room: of those nothing is left but stop records.
    postponed: BTreeSet<String>,
    /// Files, other than postponed ones, that the last scan found and that were not looked at yet.
    unadopted: VecDeque<String>,
    /// How many of them may be looked at before the next requests are answered.
    looks: usize,
    /// When the next of them are looked at.
    adopt_at: Time,
    /// What the last scan left alone.
    left: u64,
    /// Files that were emptied and removed.
    removed: u64,
    next_scan: Time,
    /// When pending removals are committed.
    flush_at: Time,
    /// When the writer is asked to read again, after a failed read.
    reread_at: Time,
    /// A read that is answered once it is known whether there is something to read.
    is_read_waiting: bool,
    /// The newest batch of the own file that may have to do with the stop records of adopted ones.
    before_stops: Option<i64>,
}

/// What a worker did with the files of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Files that the last scan left alone: in use, for another database, of a newer version, or failing.
    pub left: u64,
    /// Files that were emptied and removed.
    pub removed: u64,
}

impl<S: Store> SpoolWorker<S> {
    /// A worker that creates its file with the first batch. The first [`tick`](Self::tick) adopts files.
    pub fn new(store: S, config: SpoolConfig, now: Time) -> Self {
        Self {
            store,
            config,
            files: BTreeMap::new(),
            own: None,
            last_key: 0,
            salvages: BTreeMap::new(),
            aliases: BTreeMap::new(),
            ignored: BTreeSet::new(),
            failing: BTreeSet::new(),
            is_scan_failing: false,
            postponed: BTreeSet::new(),
            unadopted: VecDeque::new(),
            looks: 0,
            adopt_at: Time::NEVER,
            left: 0,
            removed: 0,
            next_scan: now,
            flush_at: Time::NEVER,
            reread_at: Time::NEVER,
            is_read_waiting: false,
            before_stops: None,
        }
    }

    /// A worker that has created its file. If the disk is full, it creates its file with the first batch: the
    /// files that it adopts until then free space.
    ///
    /// # Errors
    /// When the directory does not take a file for another reason.
    pub fn open(store: S, config: SpoolConfig, now: Time) -> Result<Self, StoreError> {
        let mut worker = Self::new(store, config, now);
        match worker.create_own() {
            Ok(_) | Err(StoreError::DiskFull(_)) => Ok(worker),
            Err(error) => Err(error),
        }
    }

    /// Answers the requests that gathered: what is to be appended and removed shares one sync, or a few if
    /// it is large. Does what is due by time as well, however many requests there are.
    pub fn handle(
        &mut self,
        requests: Vec<SpoolRequest<S::Row>>,
        now: Time,
        replies: &mut Vec<SpoolReply<S::Row>>,
    ) {
        let (mut appends, mut others) = (Vec::new(), Vec::new());
        for request in requests {
            match request {
                SpoolRequest::Append { copy, rows } => appends.push((copy, rows)),
                SpoolRequest::Remove(ids) => self.remove(&ids, now),
                SpoolRequest::Return { batches, again } => self.put_back(&batches, again),
                SpoolRequest::Rewind => _ = self.rewind(),
                other => others.push(other),
            }
        }
        self.append(appends, now, replies);
        self.flush_many_removals(now, replies);
        for request in others {
            match request {
                SpoolRequest::Read => self.is_read_waiting = true,
                SpoolRequest::Quarantine {
                    ticket,
                    rows,
                    reason,
                    sqlstate,
                } => {
                    let result = self
                        .store
                        .quarantine(&rows, &reason, sqlstate.as_deref())
                        .map_err(|error| SpoolFailure::Io(error.to_string()));
                    replies.push(SpoolReply::Quarantined { ticket, result });
                }
                _ => {}
            }
        }
        self.tick(now, replies);
    }

    /// Does what is due by this time.
    pub fn tick(&mut self, now: Time, replies: &mut Vec<SpoolReply<S::Row>>) {
        if self.flush_at <= now && !planted!(RemovalsNotFlushedByTime) {
            self.flush_removals(now, replies);
        }
        self.looks = self.config.max_looks;
        let are_looks_due = self.adopt_at <= now;
        if are_looks_due {
            self.adopt_at = Time::NEVER;
        }
        if self.next_scan <= now {
            self.scan(now, replies);
        } else if are_looks_due {
            self.adopt_waiting(now, replies);
        }
        if self.reread_at <= now {
            self.reread_at = Time::NEVER;
            self.files.values_mut().for_each(OpenFile::retry_skipped);
            if !self.is_read_waiting {
                replies.push(SpoolReply::Adopted);
            }
        }
        if self.is_read_waiting {
            self.answer_read(now, replies);
        }
        self.adopt_at = if self.has_unadopted() && self.has_room() {
            self.adopt_at.min(now + self.config.look_pause)
        } else {
            Time::NEVER
        };
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_tick(&self) -> Time {
        self.next_scan
            .min(self.flush_at)
            .min(self.reread_at)
            .min(self.adopt_at)
    }

    /// Commits pending removals and removes the files that hold nothing. The others wait for the next
    /// writer.
    pub fn close(mut self) -> Closed {
        // Nobody is left to hear of it; what stays is found stored by the next writer.
        let (now, mut unheard) = (Time::NEVER, Vec::new());
        self.commit_removals(self.files.keys().copied().collect(), now, &mut unheard);
        // The new file may be gone as well meanwhile.
        for _ in 0..MAX_LAST_SALVAGES {
            if self.salvages.values().any(Salvage::is_gone) {
                self.run_salvages(now, &mut unheard);
            }
        }
        for open in self.files.values_mut().filter(|open| open.usage.batches == 0) {
            let _ = self.store.remove_if_done(&mut open.file, &[]);
        }
        Closed {
            left: self.left,
            removed: self.removed,
        }
    }

    fn remove(&mut self, ids: &[SpoolId], now: Time) {
        for id in ids {
            let SpoolId { file, batch } = self.resolve(*id);
            if let Some(open) = self.files.get_mut(&file) {
                open.remove(batch);
                self.flush_at = self.flush_at.min(now + self.config.removal_delay);
            } else if let Some(salvage) = self.salvages.get_mut(&file) {
                salvage.remove(batch);
            }
        }
    }

    fn put_back(&mut self, ids: &[SpoolId], again: Again) {
        for id in ids {
            let SpoolId { file, batch } = self.resolve(*id);
            if let Some(open) = self.files.get_mut(&file) {
                open.put_back(batch, again);
            } else if let Some(salvage) = self.salvages.get_mut(&file) {
                salvage.put_back(batch);
            }
        }
    }

    /// Where a batch is that the writer no longer holds.
    fn resolve(&mut self, mut id: SpoolId) -> SpoolId {
        while let Some(copy) = self
            .aliases
            .remove(&id)
            .filter(|_| !planted!(SalvagedCopyForgotten))
        {
            id = copy;
        }
        id
    }

    /// Begins a new pass. True if there is something in it.
    fn rewind(&mut self) -> bool {
        self.files
            .values_mut()
            .fold(false, |any, open| open.rewind() | any)
    }
}
