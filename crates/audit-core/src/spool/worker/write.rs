//! Batches are appended and removed, as many as possible with one sync.

use super::file::OpenFile;
use super::{Replies, SpoolWorker};
use crate::spool::{Batch, CopyId, SpoolFailure, SpoolId, SpoolNotice, SpoolReply, Store, StoreError, Usage};
use crate::{Row, Rows, Time};

/// A batch to append.
struct Append<B> {
    copy: CopyId,
    batch: Batch<B>,
    has_stop: bool,
}

impl<S: Store> SpoolWorker<S> {
    /// Appends batches, as many with one sync as fit into memory together.
    pub(super) fn append(
        &mut self,
        appends: Vec<(CopyId, Rows<S::Row>)>,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for (copy, rows) in appends {
            let has_stop = rows.iter().any(Row::is_stop_record);
            if has_stop && !self.salvages.is_empty() {
                // What it attests would not all be in its file.
                let failure = SpoolFailure::Damaged("a damaged file is not copied yet".to_owned());
                replies.push(SpoolReply::Appended {
                    copy,
                    result: Err(failure),
                });
                continue;
            }
            let batch = self.store.encode(&rows);
            if !group.is_empty() && bytes + batch.bytes > self.config.max_group_bytes {
                self.append_group(std::mem::take(&mut group), now, replies);
                bytes = 0;
            }
            bytes += batch.bytes;
            group.push(Append {
                copy,
                batch,
                has_stop,
            });
        }
        if !group.is_empty() {
            self.append_group(group, now, replies);
        }
    }

    fn append_group(&mut self, group: Vec<Append<S::Body>>, now: Time, replies: &mut Replies<S::Row>) {
        let wanted: u64 = group.iter().map(|append| append.batch.bytes).sum();
        if self.own_bytes().saturating_add(wanted) > self.config.limit_bytes && self.pending_removals() > 0 {
            self.flush_removals(now, replies);
        }
        let (mut used, limit) = (self.own_bytes(), self.config.limit_bytes);
        let (mut fitting, mut batches) = (Vec::new(), Vec::new());
        for Append {
            copy,
            batch,
            has_stop,
        } in group
        {
            let fits = used.saturating_add(batch.bytes) <= limit || planted!(LimitIgnored);
            fitting.push((copy, has_stop, fits));
            if fits {
                used += batch.bytes;
                batches.push(batch);
            }
        }
        let committed = if batches.is_empty() {
            Ok((0, Vec::new()))
        } else {
            self.commit_own(&batches, now, replies)
        };
        let mut ids = committed.as_ref().map_or(&[][..], |(_, ids)| ids).iter();
        for (copy, has_stop, fits) in fitting {
            let result = match &committed {
                _ if !fits => Err(SpoolFailure::Full { limit }),
                Err(failure) => Err(failure.clone()),
                Ok((key, _)) => match ids.next() {
                    Some(&id) => Ok(self.hold(*key, id, has_stop)),
                    None => Err(SpoolFailure::Io("the spool did not number the batch".to_owned())),
                },
            };
            replies.push(SpoolReply::Appended { copy, result });
        }
    }

    /// Notes that the writer holds a batch that it appended.
    fn hold(&mut self, key: u32, id: i64, has_stop: bool) -> SpoolId {
        if let Some(open) = self.files.get_mut(&key) {
            open.held.insert(id);
            if has_stop {
                open.stops.insert(id);
            }
        }
        SpoolId { file: key, batch: id }
    }

    /// Appends batches to the own file, synced, with its pending removals. A file that turns out to be
    /// corrupt or gone is replaced by a new one.
    pub(super) fn commit_own(
        &mut self,
        batches: &[Batch<S::Body>],
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> Result<(u32, Vec<i64>), SpoolFailure> {
        let mut failure = None;
        // The second attempt is on a new file.
        for _ in 0..2 {
            let key = self.own_key()?;
            let Some(own) = self.files.get_mut(&key) else {
                break;
            };
            let removing: Vec<i64> = own.removing.iter().copied().collect();
            match self.store.commit(&mut own.file, batches, &removing) {
                Ok(committed) => {
                    own.committed(&removing, committed.removed);
                    own.newest = committed.ids.last().copied().unwrap_or(own.newest);
                    own.usage.batches += batches.len() as u64;
                    own.usage.bytes += batches.iter().map(|batch| batch.bytes).sum::<u64>();
                    return Ok((key, committed.ids));
                }
                Err(error) => {
                    let name = own.name.clone();
                    let loss = self
                        .prove_loss(key, error)
                        .map_err(|error| SpoolFailure::Io(format!("{name}: {error}")))?;
                    failure = Some(SpoolFailure::Damaged(format!("{name}: {}", loss.reason())));
                    self.begin_salvage(key, loss, now, replies);
                }
            }
        }
        Err(failure.unwrap_or_else(|| SpoolFailure::Damaged("the spool has no file".to_owned())))
    }

    /// The key of the own file, which is created if there is none.
    fn own_key(&mut self) -> Result<u32, SpoolFailure> {
        if let Some(key) = self.own {
            return Ok(key);
        }
        self.create_own().map_err(|error| {
            let message = error.to_string();
            if self.salvages.is_empty() {
                SpoolFailure::Io(message)
            } else {
                SpoolFailure::Damaged(message)
            }
        })
    }

    pub(super) fn create_own(&mut self) -> Result<u32, StoreError> {
        let (name, file) = self.store.create(&self.config.target)?;
        let key = self.next_key();
        self.files
            .insert(key, OpenFile::new(name, file, Usage::default()));
        self.own = Some(key);
        Ok(key)
    }

    fn own_bytes(&self) -> u64 {
        self.own
            .and_then(|key| self.files.get(&key))
            .map_or(0, |own| own.usage.bytes)
    }

    pub(super) fn next_key(&mut self) -> u32 {
        self.last_key += 1;
        self.last_key
    }

    /// Removals that are not committed.
    pub(crate) fn pending_removals(&self) -> usize {
        self.files.values().map(|open| open.removing.len()).sum()
    }

    /// Those of files whose removals did not fail.
    pub(crate) fn working_removals(&self) -> usize {
        let working = self.files.values().filter(|open| !open.is_removal_failing);
        working.map(|open| open.removing.len()).sum()
    }

    /// Commits the pending removals once there are many. Those that fail are repeated by time alone.
    pub(super) fn flush_many_removals(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        let are_many = self.working_removals() >= self.config.max_pending_removals;
        if are_many && !planted!(RemovalsNotFlushedByCount) {
            self.flush_removals(now, replies);
        }
    }

    /// Commits all pending removals.
    pub(super) fn flush_removals(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        let pending = self.files.iter().filter(|(_, open)| !open.removing.is_empty());
        self.commit_removals(pending.map(|(key, _)| *key).collect(), now, replies);
    }

    /// Commits the pending removals of these files; an adopted file that is empty then is removed.
    pub(super) fn commit_removals(&mut self, keys: Vec<u32>, now: Time, replies: &mut Replies<S::Row>) {
        self.flush_at = Time::NEVER;
        for key in keys {
            let Some(open) = self.files.get_mut(&key) else {
                continue;
            };
            let removing: Vec<i64> = open.removing.iter().copied().collect();
            match self.store.commit(&mut open.file, &[], &removing) {
                Ok(committed) => {
                    open.committed(&removing, committed.removed);
                    self.remove_if_empty(key, now, replies);
                }
                Err(error) => self.removal_failed(key, error, now, replies),
            }
        }
    }

    fn removal_failed(&mut self, key: u32, error: StoreError, now: Time, replies: &mut Replies<S::Row>) {
        let reason = match self.prove_loss(key, error) {
            Ok(loss) => return self.begin_salvage(key, loss, now, replies),
            Err(error) => error.to_string(),
        };
        if self.remove_done(key) {
            return;
        }
        let Some(open) = self.files.get_mut(&key) else {
            return;
        };
        self.flush_at = self.flush_at.min(now + self.config.retry_delay);
        if !std::mem::replace(&mut open.is_removal_failing, true) {
            let file = open.name.clone();
            replies.push(SpoolReply::Notice(SpoolNotice::RemovalFailed { file, reason }));
        }
    }

    /// Removes a file all of whose batches are to be removed, without a change to it: a full disk takes none,
    /// and would stay full. The writer's file is created again with the next append. True if it did.
    fn remove_done(&mut self, key: u32) -> bool {
        let Some(open) = self.files.get_mut(&key) else {
            return false;
        };
        let done: Vec<i64> = open.removing.iter().copied().collect();
        if (done.len() as u64) < open.usage.batches
            || !self.store.remove_if_done(&mut open.file, &done).unwrap_or(false)
        {
            return false;
        }
        self.forget_removed(key);
        true
    }

    fn forget_removed(&mut self, key: u32) {
        self.files.remove(&key);
        if self.own == Some(key) {
            self.own = None;
            return;
        }
        self.removed += 1;
    }

    /// Removes an adopted file that holds nothing. One that was used meanwhile is read again.
    pub(super) fn remove_if_empty(&mut self, key: u32, now: Time, replies: &mut Replies<S::Row>) {
        let Some(open) = self.files.get_mut(&key) else {
            return;
        };
        if self.own == Some(key) || open.usage.batches > 0 {
            return;
        }
        let usage = match self.store.remove_if_done(&mut open.file, &[]) {
            Ok(true) => return self.forget_removed(key),
            Ok(false) => self.store.check(&mut open.file),
            Err(error) => Err(error),
        };
        match usage {
            Ok(usage) => {
                open.usage = usage;
                open.read_again_from(i64::MIN);
                replies.push(SpoolReply::Adopted);
            }
            Err(error) => {
                if let Ok(loss) = self.prove_loss(key, error) {
                    self.begin_salvage(key, loss, now, replies);
                }
            }
        }
    }
}
