//! What a spool's worker sees of the disk.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::disk::{
    Body, Disk, Effect, FileState, Line, Power, SharedDisk, TARGET, VERSION, name_of, transient,
};
use super::plan::{DiskState, LockTarget};
use super::row::SimRow;
use crate::spool::{
    Adoption, Batch, BatchSize, Committed, SalvageFrom, SalvagedBatch, Store, StoreError, StoredBatch, Usage,
};

/// The bytes of a batch without its rows.
const BATCH_BYTES: u64 = 20;

/// One process's access to the disk.
pub(super) struct SimStore {
    disk: SharedDisk,
    id: u32,
}

/// A locked file. The lock ends when it is dropped, as with the process.
pub(super) struct SimFile {
    disk: SharedDisk,
    number: u32,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.borrow_mut().release(self.number);
    }
}

impl SimStore {
    pub(super) fn new(disk: &SharedDisk) -> Self {
        let mut shared = disk.borrow_mut();
        shared.stores.push(Power::On);
        Self {
            disk: Rc::clone(disk),
            id: shared.stores.len() as u32 - 1,
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Does one operation: it happens as a whole, fails, or is cut by a crash.
    fn step<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let disk = &mut *self.disk.borrow_mut();
        let result = self.try_step(disk, work);
        disk.operations += 1;
        disk.failures += u64::from(result.is_err());
        result
    }

    fn try_step<T>(
        &self,
        disk: &mut Disk,
        work: impl FnOnce(&mut Disk) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let power = &mut disk.stores[self.id as usize];
        match *power {
            Power::Off => return Err(transient("the process is dead")),
            Power::FailsAfter(0) => {
                *power = Power::Off;
                if disk.random.coin() {
                    let _ = work(disk);
                }
                return Err(transient("the process is dead"));
            }
            Power::FailsAfter(operations) => *power = Power::FailsAfter(operations - 1),
            Power::On => {}
        }
        let rate = disk.error_rate;
        if disk.state == DiskState::Fails || disk.random.chance(rate) {
            return Err(transient("input/output error"));
        }
        work(disk)
    }

    /// Does one operation that reads a file. A read that fails is reported as damage at times.
    fn on_reading<T>(
        &self,
        file: &SimFile,
        work: impl FnOnce(&mut FileState, &mut Vec<Effect>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.disk.borrow_mut().misreads() {
            return self.step(|_| Err(malformed()));
        }
        self.on_file(file, work)
    }

    /// Does one operation on a file.
    fn on_file<T>(
        &self,
        file: &SimFile,
        work: impl FnOnce(&mut FileState, &mut Vec<Effect>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.step(|disk| {
            let is_locked = disk.is_locked(LockTarget::Files);
            let Disk { files, effects, .. } = disk;
            let Some(state) = files.get_mut(&file.number) else {
                return Err(transient("no such file"));
            };
            if is_locked {
                return Err(transient("database is locked"));
            }
            work(state, effects)
        })
    }
}

fn malformed() -> StoreError {
    StoreError::Corrupt("database disk image is malformed".to_owned())
}

fn corrupt(file: &mut FileState) -> StoreError {
    file.is_damage_known = true;
    malformed()
}

fn gone() -> StoreError {
    StoreError::Gone("it is no longer in its directory".to_owned())
}

fn full(disk: &Disk) -> Result<(), StoreError> {
    match disk.state {
        DiskState::IsFull => Err(StoreError::DiskFull("database or disk is full".to_owned())),
        DiskState::Works | DiskState::Fails => Ok(()),
    }
}

fn bytes_of(body: &Body) -> u64 {
    BATCH_BYTES + body.iter().map(|line| u64::from(line.row.bytes)).sum::<u64>()
}

fn batch_of(body: &Body) -> Batch<Body> {
    Batch {
        rows: body.len() as u64,
        bytes: bytes_of(body),
        body: Rc::clone(body),
    }
}

/// The undamaged rows.
fn rows_of(body: &Body) -> impl Iterator<Item = u32> {
    body.iter()
        .filter(|line| !line.is_damaged)
        .map(|line| line.row.key)
}

/// The damaged lines, by the rows that they were.
fn lines_of(body: &Body) -> impl Iterator<Item = u32> {
    body.iter()
        .filter(|line| line.is_damaged)
        .map(|line| line.row.key)
}

fn usage_of(file: &FileState) -> Usage {
    Usage {
        batches: file.batches.len() as u64,
        bytes: file.batches.values().map(bytes_of).sum(),
    }
}

impl Store for SimStore {
    type Row = SimRow;
    type File = SimFile;
    type Body = Body;

    fn encode(&self, rows: &[SimRow]) -> Batch<Body> {
        batch_of(&Rc::new(
            rows.iter()
                .map(|row| Line {
                    row: row.clone(),
                    is_damaged: false,
                })
                .collect(),
        ))
    }

    fn list(&mut self) -> Result<Vec<String>, StoreError> {
        self.step(|disk| {
            let listed = disk
                .files
                .iter()
                .filter(|(_, file)| file.is_linked && !file.is_marked_damaged);
            Ok(listed.map(|(number, _)| name_of(*number)).collect())
        })
    }

    fn create(&mut self, _target: &str) -> Result<(String, SimFile), StoreError> {
        let id = self.id;
        let number = self.step(|disk| {
            full(disk)?;
            disk.last_file += 1;
            let file = FileState {
                holder: Some(id),
                held_since: disk.now,
                ..FileState::new(TARGET)
            };
            disk.files.insert(disk.last_file, file);
            Ok(disk.last_file)
        })?;
        Ok((
            name_of(number),
            SimFile {
                disk: Rc::clone(&self.disk),
                number,
            },
        ))
    }

    fn adopt(&mut self, name: &str, target: Option<&str>) -> Result<Adoption<SimFile>, StoreError> {
        let id = self.id;
        let number = self.step(|disk| {
            let now = disk.now;
            let found = disk
                .files
                .iter_mut()
                .find(|(number, file)| file.is_linked && name_of(**number) == name);
            let Some((&number, file)) = found else {
                return Ok(Err(Adoption::Missing));
            };
            if file.holder.is_some() {
                return Ok(Err(Adoption::InUse));
            }
            if file.version > VERSION {
                return Ok(Err(Adoption::NewerVersion(file.version)));
            }
            if target.is_some_and(|target| target != file.target) {
                return Ok(Err(Adoption::OtherTarget));
            }
            file.holder = Some(id);
            file.held_since = now;
            Ok(Ok(number))
        })?;
        Ok(match number {
            Ok(number) => Adoption::Adopted(SimFile {
                disk: Rc::clone(&self.disk),
                number,
            }),
            Err(adoption) => adoption,
        })
    }

    fn check(&mut self, file: &mut SimFile) -> Result<Usage, StoreError> {
        self.on_reading(file, |file, _| match file.damage {
            _ if !file.is_linked => Err(gone()),
            Some(_) => Err(corrupt(file)),
            None => Ok(usage_of(file)),
        })
    }

    fn verify_readable(&mut self, _: &mut SimFile) -> Result<(), StoreError> {
        self.step(|disk| {
            if disk.misreads() {
                return Err(transient("input/output error"));
            }
            Ok(())
        })
    }

    fn sizes(&mut self, file: &mut SimFile, after: i64, limit: usize) -> Result<Vec<BatchSize>, StoreError> {
        self.on_reading(file, |file, _| {
            let from = after.saturating_add(1);
            let size = |(id, body): (&i64, &Body)| BatchSize {
                id: *id,
                rows: body.len() as u64,
                bytes: bytes_of(body),
            };
            let sizes: Vec<BatchSize> = file.batches.range(from..).take(limit).map(size).collect();
            let last = if sizes.len() < limit {
                i64::MAX
            } else {
                sizes.last().map_or(i64::MAX, |size| size.id)
            };
            if file.is_damaged_between(from, last) {
                Err(corrupt(file))
            } else {
                Ok(sizes)
            }
        })
    }

    fn read(&mut self, file: &mut SimFile, ids: &[i64]) -> Result<Vec<StoredBatch<SimRow>>, StoreError> {
        self.on_reading(file, |file, _| {
            if ids.iter().any(|id| file.is_damaged_between(*id, *id)) {
                return Err(corrupt(file));
            }
            let stored = ids.iter().filter_map(|id| Some((*id, file.batches.get(id)?)));
            let read = stored.map(|(id, body)| StoredBatch {
                id,
                rows: body
                    .iter()
                    .filter(|line| !line.is_damaged)
                    .map(|line| line.row.clone())
                    .collect(),
                damaged: lines_of(body).map(|key| key.to_le_bytes().to_vec()).collect(),
            });
            Ok(read.collect())
        })
    }

    fn commit(
        &mut self,
        file: &mut SimFile,
        append: &[Batch<Body>],
        remove: &[i64],
    ) -> Result<Committed, StoreError> {
        let number = file.number;
        self.step(|disk| {
            let is_locked = disk.is_locked(LockTarget::Files);
            let finds_damage = disk.random.coin();
            if disk.misreads() {
                return Err(malformed());
            }
            if !(append.is_empty() && remove.is_empty()) {
                // A removal is written to the log as well.
                full(disk)?;
            }
            let Disk {
                files,
                effects,
                limit_bytes,
                was_salvaged,
                ..
            } = disk;
            let Some(file) = files.get_mut(&number) else {
                return Err(transient("no such file"));
            };
            if is_locked {
                return Err(transient("database is locked"));
            }
            if !file.is_linked {
                return Err(gone());
            }
            if file.damage.is_some() && (file.is_damage_known || finds_damage) {
                return Err(corrupt(file));
            }
            let mut committed = Committed::default();
            for id in remove {
                if let Some(body) = file.batches.remove(id) {
                    committed.removed.batches += 1;
                    committed.removed.bytes += bytes_of(&body);
                    effects.extend(rows_of(&body).map(Effect::Removed));
                    effects.extend(lines_of(&body).map(Effect::LineRemoved));
                }
            }
            for batch in append {
                if file.is_damaged_between(file.next, file.next) {
                    file.next = file.damage.map_or(file.next, |(_, last)| last + 1);
                }
                file.batches.insert(file.next, Rc::clone(&batch.body));
                committed.ids.push(file.next);
                file.next += 1;
                effects.extend(rows_of(&batch.body).map(Effect::Appended));
            }
            if !(append.is_empty() || *was_salvaged) && usage_of(file).bytes > *limit_bytes {
                effects.push(Effect::Broken("a spool file is within its limit", number));
            }
            Ok(committed)
        })
    }

    fn salvage(
        &mut self,
        file: &mut SimFile,
        next: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<Body>>, StoreError> {
        self.disk.borrow_mut().was_salvaged = true;
        self.on_reading(file, |file, _| {
            let found = match next {
                SalvageFrom::Above(last) => file.batches.range(last.saturating_add(1)..).next(),
                SalvageFrom::Between { floor, ceiling } => {
                    file.batches.range(floor.saturating_add(1)..ceiling).next_back()
                }
            };
            let found = found.map(|(id, body)| SalvagedBatch {
                id: *id,
                batch: batch_of(body),
            });
            let passed = match (next, &found) {
                (SalvageFrom::Above(last), Some(found)) => (last.saturating_add(1), found.id),
                (SalvageFrom::Above(last), None) => (last.saturating_add(1), i64::MAX),
                (SalvageFrom::Between { ceiling, .. }, Some(found)) => (found.id, ceiling.saturating_sub(1)),
                (SalvageFrom::Between { floor, ceiling }, None) => {
                    (floor.saturating_add(1), ceiling.saturating_sub(1))
                }
            };
            if file.is_damaged_between(passed.0, passed.1) {
                Err(corrupt(file))
            } else {
                Ok(found)
            }
        })
    }

    fn mark_damaged(&mut self, file: &mut SimFile) -> Result<String, StoreError> {
        let number = file.number;
        self.on_file(file, |file, effects| {
            if file.damage.is_none() {
                effects.push(Effect::Broken("only a damaged file is renamed", number));
            }
            file.is_marked_damaged = true;
            // Nobody reads it again: what is in it must be elsewhere.
            effects.extend(file.batches.values().flat_map(rows_of).map(Effect::Removed));
            file.batches.clear();
            Ok(format!("{}.damaged", name_of(number)))
        })
    }

    fn remove_if_done(&mut self, file: &mut SimFile, done: &[i64]) -> Result<bool, StoreError> {
        let number = file.number;
        self.step(|disk| {
            let Disk { files, effects, .. } = disk;
            let Some(file) = files.get(&number) else {
                return Ok(true);
            };
            let is_done = file.damage.is_none() && file.batches.keys().all(|id| done.contains(id));
            if is_done && let Some(file) = files.remove(&number) {
                // A copy keeps what was in a line that is damaged now.
                let copies = files.values().flat_map(|file| file.batches.values());
                let copies: BTreeSet<u32> = copies
                    .flat_map(|body| body.iter().map(|line| line.row.key))
                    .collect();
                for body in file.batches.values() {
                    effects.extend(rows_of(body).map(Effect::Removed));
                    let removed = lines_of(body).filter(|key| !copies.contains(key));
                    effects.extend(removed.map(Effect::LineRemoved));
                }
            }
            Ok(is_done)
        })
    }

    fn quarantine(&mut self, rows: &[SimRow], _: &str, _: Option<&str>) -> Result<(), StoreError> {
        self.step(|disk| {
            full(disk)?;
            if disk.is_locked(LockTarget::Quarantine) {
                return Err(transient("database is locked"));
            }
            disk.effects
                .extend(rows.iter().map(|row| Effect::Quarantined(row.key)));
            Ok(())
        })
    }

    fn quarantine_lines(&mut self, lines: &[Vec<u8>]) -> Result<(), StoreError> {
        self.step(|disk| {
            full(disk)?;
            if disk.is_locked(LockTarget::Quarantine) {
                return Err(transient("database is locked"));
            }
            let key = |line: &Vec<u8>| line.as_slice().try_into().ok().map(u32::from_le_bytes);
            disk.effects
                .extend(lines.iter().filter_map(key).map(Effect::LineKept));
            Ok(())
        })
    }
}
