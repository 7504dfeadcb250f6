//! Batches are handed out, the oldest first.

use super::file::OpenFile;
use super::{Replies, SpoolWorker};
use crate::spool::{SpoolId, SpoolNotice, SpoolReply, SpooledBatch, Store, StoreError, StoredBatch};
use crate::{Row, Time};

impl<S: Store> SpoolWorker<S> {
    /// Answers a read, once it is known whether there is something to read: a writer that hears of nothing
    /// takes the spool for drained. So the answer waits for a file that cannot be read or copied now, for
    /// files that are not adopted yet, and for the batches before a stop record.
    pub(super) fn answer_read(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        let mut batch = self.read(now, replies);
        while batch.is_none() && self.has_unadopted() && self.make_room(now, replies) {
            self.adopt_waiting(now, replies);
            batch = self.read(now, replies);
        }
        let is_unknown = (self.reread_at != Time::NEVER && !planted!(FailedReadTakenForTheEnd))
            || !self.salvages.is_empty()
            || self.has_unadopted()
            || self
                .files
                .iter()
                .any(|(key, open)| open.has_waiting_stop() && self.may_hand_out_stops(*key));
        self.is_read_waiting = batch.is_none() && is_unknown;
        if !self.is_read_waiting {
            replies.push(SpoolReply::Read(batch));
        }
    }

    /// The next batches of this pass, or of another one. What the writer returned to be handed out after
    /// others may have come back since the pass went by, and the writer may not ask again.
    fn read(&mut self, now: Time, replies: &mut Replies<S::Row>) -> Option<SpooledBatch<S::Row>> {
        let batch = self.read_on(now, replies);
        if batch.is_none() && self.rewind() {
            self.read_on(now, replies)
        } else {
            batch
        }
    }

    /// The next batches of this pass, of one file: adopted files first, they are older. Stop records after
    /// everything else.
    fn read_on(&mut self, now: Time, replies: &mut Replies<S::Row>) -> Option<SpooledBatch<S::Row>> {
        let adopted = self.files.keys().copied().filter(|key| self.own != Some(*key));
        let keys: Vec<u32> = adopted.chain(self.own).collect();
        for part in [Self::read_file, Self::read_stop] {
            for key in &keys {
                match part(self, *key, now, replies) {
                    Ok(None) => {}
                    Ok(Some(batch)) => return Some(batch),
                    Err(error) => self.read_failed(*key, error, now, replies),
                }
            }
        }
        None
    }

    fn read_file(
        &mut self,
        key: u32,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> Result<Option<SpooledBatch<S::Row>>, StoreError> {
        loop {
            let Some(open) = self.files.get_mut(&key) else {
                return Ok(None);
            };
            let before = open.cursor();
            let sizes = self
                .store
                .sizes(&mut open.file, before, self.config.max_read_batches)?;
            if sizes.is_empty() {
                open.is_read_failing = false;
                return Ok(None);
            }
            let chosen = open.choose(&sizes, &self.config);
            if chosen.is_empty() {
                continue;
            }
            let stored = self.store.read(&mut open.file, &chosen).inspect_err(|_| {
                // Those that were not read are in the next pass.
                open.read_again_from(before.saturating_add(1));
            })?;
            open.is_read_failing = false;
            let batch = self.hand_out(key, stored, now, replies);
            if !batch.ids.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    /// Takes what the writer may have of these batches; it holds them from now on.
    fn hand_out(
        &mut self,
        key: u32,
        stored: Vec<StoredBatch<S::Row>>,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> SpooledBatch<S::Row> {
        let mut batch = SpooledBatch {
            ids: Vec::new(),
            rows: Vec::new(),
        };
        if self.own != Some(key) {
            self.before_stops = None;
        }
        for StoredBatch { id, rows, damaged } in stored {
            let are_safe = self.quarantine_lines(key, &damaged, now, replies);
            let Some(open) = self.files.get_mut(&key) else {
                break;
            };
            if !are_safe {
                // To remove it would lose them.
                open.skip(id);
            } else if rows.is_empty() {
                open.remove(id);
                self.flush_at = self.flush_at.min(now + self.config.removal_delay);
            } else if rows.iter().any(Row::is_stop_record) && !planted!(StopRecordHandedOutEarly) {
                open.stops.insert(id);
            } else {
                open.held.insert(id);
                batch.ids.push(SpoolId { file: key, batch: id });
                batch.rows.extend(rows);
            }
        }
        batch
    }

    /// A batch with a stop record, alone, once everything that it attests is stored: nothing else of its file
    /// is left or held, and nothing of other files that came before it. Rows of its writer may be in those, and
    /// the declarations of numbers that have none.
    fn read_stop(
        &mut self,
        key: u32,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> Result<Option<SpooledBatch<S::Row>>, StoreError> {
        let stops = self
            .files
            .get(&key)
            .map_or_else(Vec::new, OpenFile::waiting_stops);
        if stops.is_empty() || !self.may_hand_out_stops(key) {
            return Ok(None);
        }
        let adopted: Vec<u32> = self
            .files
            .keys()
            .copied()
            .filter(|key| self.own != Some(*key))
            .collect();
        for key in adopted {
            if !self.has_only_stops(key, i64::MAX, now, replies) {
                return Ok(None);
            }
        }
        if let Some(own) = self.own {
            let through = if own == key {
                i64::MAX
            } else {
                self.own_before_stops()
            };
            if !self.has_only_stops(own, through, now, replies) {
                return Ok(None);
            }
        }
        for stop in stops {
            let batch = self.read_stop_batch(key, stop, now, replies)?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    /// One of these batches. A salvage copies the stop records of other writers to this writer's file: they
    /// wait for every file of the directory, as in the file that they come from.
    fn read_stop_batch(
        &mut self,
        key: u32,
        stop: i64,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> Result<Option<SpooledBatch<S::Row>>, StoreError> {
        let is_every_file_known = self.is_every_file_known();
        let Some(open) = self.files.get_mut(&key) else {
            return Ok(None);
        };
        let Some(stored) = self.store.read(&mut open.file, &[stop])?.pop() else {
            open.stops.remove(&stop);
            return Ok(None);
        };
        let is_foreign =
            |row: &S::Row| row.stopped_writer().is_some() && row.stopped_writer() != self.config.writer;
        if !is_every_file_known && stored.rows.iter().any(is_foreign) {
            return Ok(None);
        }
        if !self.quarantine_lines(key, &stored.damaged, now, replies) {
            return Ok(None);
        }
        let Some(open) = self.files.get_mut(&key) else {
            return Ok(None);
        };
        if stored.rows.is_empty() {
            open.remove(stop);
            self.flush_at = self.flush_at.min(now + self.config.removal_delay);
            return Ok(None);
        }
        open.held.insert(stop);
        Ok(Some(SpooledBatch {
            ids: vec![SpoolId {
                file: key,
                batch: stop,
            }],
            rows: stored.rows,
        }))
    }

    /// False while what a stop record of this file attests may be in a file that could not be copied or
    /// adopted yet.
    pub(super) fn may_hand_out_stops(&self, key: u32) -> bool {
        self.salvages.is_empty() && (self.own == Some(key) || self.is_every_file_known())
    }

    fn is_every_file_known(&self) -> bool {
        self.failing.is_empty() && !self.is_scan_failing && self.unadopted.is_empty()
    }

    /// True if nothing but stop records is left or held of a file, up to this number; false if that is not
    /// known.
    fn has_only_stops(&mut self, key: u32, through: i64, now: Time, replies: &mut Replies<S::Row>) -> bool {
        let mut after = i64::MIN;
        loop {
            let Some(open) = self.files.get_mut(&key) else {
                return true;
            };
            let sizes = match self
                .store
                .sizes(&mut open.file, after, self.config.max_read_batches)
            {
                Ok(sizes) => sizes,
                Err(error) => {
                    self.read_failed(key, error, now, replies);
                    return false;
                }
            };
            let Some(last) = sizes.last() else { return true };
            if !sizes
                .iter()
                .take_while(|size| size.id <= through)
                .all(|size| open.is_done_or_stop(size.id))
            {
                return false;
            }
            if last.id >= through {
                return true;
            }
            after = last.id;
        }
    }

    /// The newest batch of the own file at the time when nothing but stop records was left of the adopted
    /// ones. Later ones have nothing of theirs, and in a busy writer do not end.
    fn own_before_stops(&mut self) -> i64 {
        let newest = self
            .own
            .and_then(|key| self.files.get(&key))
            .map_or(i64::MIN, |own| own.newest);
        *self.before_stops.get_or_insert(newest)
    }

    fn read_failed(&mut self, key: u32, error: StoreError, now: Time, replies: &mut Replies<S::Row>) {
        let reason = match self.prove_loss(key, error) {
            Ok(loss) => return self.begin_salvage(key, loss, now, replies),
            Err(error) => error.to_string(),
        };
        let Some(open) = self.files.get_mut(&key) else {
            return;
        };
        self.reread_at = self.reread_at.min(now + self.config.retry_delay);
        if !std::mem::replace(&mut open.is_read_failing, true) {
            let file = open.name.clone();
            replies.push(SpoolReply::Notice(SpoolNotice::ReadFailed { file, reason }));
        }
    }

    /// Keeps damaged lines; false if that failed.
    fn quarantine_lines(
        &mut self,
        key: u32,
        lines: &[Vec<u8>],
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> bool {
        if lines.is_empty() {
            return true;
        }
        let file = self
            .files
            .get(&key)
            .map(|open| open.name.clone())
            .unwrap_or_default();
        if planted!(DamagedLinesDropped) {
            return true;
        }
        let result = self.store.quarantine_lines(lines);
        let is_safe = result.is_ok();
        replies.push(SpoolReply::Notice(match result {
            Ok(()) => SpoolNotice::LinesQuarantined {
                file,
                lines: lines.len() as u64,
            },
            Err(error) => {
                self.reread_at = self.reread_at.min(now + self.config.scan_interval);
                SpoolNotice::LinesNotQuarantined {
                    file,
                    reason: error.to_string(),
                }
            }
        }));
        is_safe
    }
}
