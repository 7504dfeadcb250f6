//! A spool directory in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use uuid::Uuid;

use crate::Row;
use crate::spool::{
    Adoption, Batch, BatchSize, Committed, SalvageFrom, SalvagedBatch, Store, StoreError, StoredBatch, Usage,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TestRow {
    pub(super) seq: u64,
    pub(super) is_stop: bool,
    /// True if it cannot be read back.
    pub(super) is_damaged: bool,
}

impl Row for TestRow {
    fn number(&self) -> Option<(Uuid, u64)> {
        Some((Uuid::nil(), self.seq))
    }

    fn stopped_writer(&self) -> Option<Uuid> {
        self.is_stop.then(Uuid::nil)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DiskFile {
    pub(super) target: String,
    pub(super) batches: BTreeMap<i64, Vec<TestRow>>,
    pub(super) last: i64,
    pub(super) is_locked: bool,
    /// Every read of this batch and what is between it and the other end fails.
    pub(super) damaged_at: Option<i64>,
    pub(super) version: i64,
}

impl DiskFile {
    pub(super) fn new(target: &str, batches: impl IntoIterator<Item = Vec<TestRow>>) -> Self {
        let batches: BTreeMap<i64, Vec<TestRow>> = (1..).zip(batches).collect();
        let last = batches.len() as i64;
        Self {
            target: target.to_owned(),
            batches,
            last,
            version: 1,
            ..Self::default()
        }
    }
}

/// The directory, and what goes wrong in it.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, DiskFile>,
    pub(super) created: u64,
    /// What was done, in its order.
    pub(super) log: Vec<String>,
    /// Operations that fail, by name.
    pub(super) failing: BTreeMap<&'static str, StoreError>,
    pub(super) quarantined: usize,
    /// The file that is removed once something was appended to it.
    pub(super) removed_after_append: Option<&'static str>,
    /// A batch that another process appends to a file that is to be removed.
    pub(super) appended_at_delete: Option<Vec<TestRow>>,
    /// The most batches that one call took or returned.
    pub(super) largest_call: usize,
    /// The most bytes that one commit appended.
    pub(super) largest_commit: u64,
}

#[derive(Clone, Default)]
pub(super) struct MemoryStore(pub(super) Rc<RefCell<Disk>>);

/// A locked file: what is open of it outlives its name.
pub(super) struct Handle {
    name: String,
    open: DiskFile,
    disk: Rc<RefCell<Disk>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(file) = self.disk.borrow_mut().files.get_mut(&self.name) {
            file.is_locked = false;
        }
    }
}

impl MemoryStore {
    fn begin(&self, what: &'static str, name: &str) -> Result<(), StoreError> {
        let mut disk = self.0.borrow_mut();
        disk.log.push(format!("{what} {name}"));
        disk.failing.get(what).map_or(Ok(()), |error| Err(error.clone()))
    }

    fn handle(&self, name: &str) -> Handle {
        let mut disk = self.0.borrow_mut();
        let file = disk.files.get_mut(name).unwrap();
        file.is_locked = true;
        Handle {
            name: name.to_owned(),
            open: file.clone(),
            disk: Rc::clone(&self.0),
        }
    }

    fn damage(file: &DiskFile) -> Result<(), StoreError> {
        match file.damaged_at {
            Some(at) => Err(StoreError::Corrupt(format!("batch {at}"))),
            None => Ok(()),
        }
    }

    fn count(&self, calls: usize) {
        let mut disk = self.0.borrow_mut();
        disk.largest_call = disk.largest_call.max(calls);
    }
}

pub(super) fn encoded(rows: &[TestRow]) -> Batch<Vec<TestRow>> {
    Batch {
        rows: rows.len() as u64,
        bytes: 10 * rows.len() as u64,
        body: rows.to_vec(),
    }
}

impl Store for MemoryStore {
    type Row = TestRow;
    type File = Handle;
    type Body = Vec<TestRow>;

    fn encode(&self, rows: &[TestRow]) -> Batch<Vec<TestRow>> {
        encoded(rows)
    }

    fn list(&mut self) -> Result<Vec<String>, StoreError> {
        self.begin("list", "")?;
        let disk = self.0.borrow();
        Ok(disk
            .files
            .keys()
            .filter(|name| !name.ends_with(".damaged"))
            .cloned()
            .collect())
    }

    fn create(&mut self, target: &str) -> Result<(String, Handle), StoreError> {
        self.begin("create", "")?;
        let name = {
            let mut disk = self.0.borrow_mut();
            disk.created += 1;
            let name = format!("own{}", disk.created);
            disk.files.insert(name.clone(), DiskFile::new(target, []));
            name
        };
        Ok((name.clone(), self.handle(&name)))
    }

    fn adopt(&mut self, name: &str, target: Option<&str>) -> Result<Adoption<Handle>, StoreError> {
        let found = self.0.borrow().files.get(name).cloned();
        let Some(file) = found else {
            return Ok(Adoption::Missing);
        };
        if file.is_locked {
            return Ok(Adoption::InUse);
        }
        self.begin("adopt", name)?;
        if file.version > 1 {
            return Ok(Adoption::NewerVersion(file.version));
        }
        match target {
            Some(target) if target != file.target => Ok(Adoption::OtherTarget),
            _ => Ok(Adoption::Adopted(self.handle(name))),
        }
    }

    fn check(&mut self, file: &mut Handle) -> Result<Usage, StoreError> {
        self.begin("check", &file.name)?;
        if !self.0.borrow().files.contains_key(&file.name) {
            return Err(StoreError::Gone("removed".to_owned()));
        }
        Self::damage(&file.open)?;
        let rows: usize = file.open.batches.values().map(Vec::len).sum();
        Ok(Usage {
            batches: file.open.batches.len() as u64,
            bytes: 10 * rows as u64,
        })
    }

    fn verify_readable(&mut self, file: &mut Handle) -> Result<(), StoreError> {
        self.begin("verify_readable", &file.name)
    }

    fn sizes(&mut self, file: &mut Handle, after: i64, limit: usize) -> Result<Vec<BatchSize>, StoreError> {
        self.begin("sizes", &file.name)?;
        Self::damage(&file.open)?;
        self.count(limit);
        let later = file.open.batches.range(after.saturating_add(1)..).take(limit);
        let size = |(id, rows): (&i64, &Vec<TestRow>)| {
            let Batch { rows, bytes, .. } = encoded(rows);
            BatchSize { id: *id, rows, bytes }
        };
        Ok(later.map(size).collect())
    }

    fn read(&mut self, file: &mut Handle, ids: &[i64]) -> Result<Vec<StoredBatch<TestRow>>, StoreError> {
        self.begin("read", &file.name)?;
        self.count(ids.len());
        let read = |id: &i64| {
            let (damaged, rows): (Vec<TestRow>, Vec<TestRow>) = file
                .open
                .batches
                .get(id)?
                .iter()
                .copied()
                .partition(|row| row.is_damaged);
            Some(StoredBatch {
                id: *id,
                rows,
                damaged: damaged.iter().map(|_| b"x".to_vec()).collect(),
            })
        };
        Ok(ids.iter().filter_map(read).collect())
    }

    fn commit(
        &mut self,
        file: &mut Handle,
        append: &[Batch<Vec<TestRow>>],
        remove: &[i64],
    ) -> Result<Committed, StoreError> {
        if !self.0.borrow().files.contains_key(&file.name) {
            return Err(StoreError::Gone("removed".to_owned()));
        }
        if append.is_empty() && remove.is_empty() {
            return Ok(Committed::default());
        }
        self.begin(if append.is_empty() { "remove" } else { "append" }, &file.name)?;
        Self::damage(&file.open)?;
        self.count(remove.len());
        let mut committed = Committed::default();
        for id in remove {
            if let Some(rows) = file.open.batches.remove(id) {
                committed.removed.batches += 1;
                committed.removed.bytes += encoded(&rows).bytes;
            }
        }
        let mut disk = self.0.borrow_mut();
        for batch in append {
            file.open.last += 1;
            file.open.batches.insert(file.open.last, batch.body.clone());
            committed.ids.push(file.open.last);
        }
        disk.largest_commit = disk
            .largest_commit
            .max(append.iter().map(|batch| batch.bytes).sum());
        disk.files.insert(file.name.clone(), file.open.clone());
        if !append.is_empty() && disk.removed_after_append == Some(&*file.name) {
            disk.files.remove(&file.name);
        }
        Ok(committed)
    }

    fn salvage(
        &mut self,
        file: &mut Handle,
        next: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<Vec<TestRow>>>, StoreError> {
        let batches = &file.open.batches;
        let found = match next {
            SalvageFrom::Above(last) => batches.range(last.saturating_add(1)..).next(),
            SalvageFrom::Between { floor, ceiling } => {
                batches.range(floor.saturating_add(1)..ceiling).next_back()
            }
        };
        match found {
            Some((id, _)) if file.open.damaged_at == Some(*id) => Err(StoreError::Corrupt("here".to_owned())),
            Some((id, rows)) => Ok(Some(SalvagedBatch {
                id: *id,
                batch: encoded(rows),
            })),
            None => Ok(None),
        }
    }

    fn mark_damaged(&mut self, file: &mut Handle) -> Result<String, StoreError> {
        self.begin("mark_damaged", &file.name)?;
        let mut disk = self.0.borrow_mut();
        let found = disk.files.remove(&file.name).unwrap();
        let renamed = format!("{}.damaged", file.name);
        disk.files.insert(renamed.clone(), found);
        Ok(renamed)
    }

    fn remove_if_done(&mut self, file: &mut Handle, done: &[i64]) -> Result<bool, StoreError> {
        self.begin("delete", &file.name)?;
        if let Some(rows) = self.0.borrow_mut().appended_at_delete.take() {
            file.open.last += 1;
            file.open.batches.insert(file.open.last, rows);
        }
        let is_done = file.open.batches.keys().all(|id| done.contains(id));
        if is_done {
            self.0.borrow_mut().files.remove(&file.name);
        }
        Ok(is_done)
    }

    fn quarantine(&mut self, rows: &[TestRow], _: &str, _: Option<&str>) -> Result<(), StoreError> {
        self.begin("quarantine", "")?;
        self.0.borrow_mut().quarantined += rows.len();
        Ok(())
    }

    fn quarantine_lines(&mut self, lines: &[Vec<u8>]) -> Result<(), StoreError> {
        self.begin("quarantine", "")?;
        self.0.borrow_mut().quarantined += lines.len();
        Ok(())
    }
}
