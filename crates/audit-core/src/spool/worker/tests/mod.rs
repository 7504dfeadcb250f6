//! Tests of the worker on a disk in memory, one file for each part of it.

mod looks;
mod proof;
mod read;
mod salvage;
mod scan;
mod store;
mod write;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::spool::{CopyId, SpoolNotice, StoreError, Ticket};
use store::{DiskFile, MemoryStore, TestRow};

fn row(seq: u64) -> TestRow {
    TestRow {
        seq,
        is_stop: false,
        is_damaged: false,
    }
}

fn stop(seq: u64) -> TestRow {
    TestRow {
        is_stop: true,
        ..row(seq)
    }
}

fn full() -> StoreError {
    StoreError::DiskFull("full".to_owned())
}

fn passing() -> StoreError {
    StoreError::Transient("no file descriptor".to_owned())
}

/// A worker, its disk, and a clock that moves by milliseconds.
struct World {
    store: MemoryStore,
    worker: SpoolWorker<MemoryStore>,
    now: Time,
    replies: Vec<SpoolReply<TestRow>>,
    notices: Vec<SpoolNotice>,
    copies: u64,
}

impl World {
    fn new(files: impl IntoIterator<Item = (&'static str, DiskFile)>) -> Self {
        Self::with(files, |_| {})
    }

    fn with(
        files: impl IntoIterator<Item = (&'static str, DiskFile)>,
        configure: impl FnOnce(&mut SpoolConfig),
    ) -> Self {
        let store = MemoryStore::default();
        for (name, file) in files {
            store.0.borrow_mut().files.insert(name.to_owned(), file);
        }
        let mut config = SpoolConfig::new("here", 1_000_000);
        config.max_read_batches = 4;
        config.writer = Some(uuid::Uuid::nil());
        configure(&mut config);
        let worker = SpoolWorker::open(store.clone(), config, Time::START).unwrap();
        let (replies, notices) = (Vec::new(), Vec::new());
        Self {
            store,
            worker,
            now: Time::START,
            replies,
            notices,
            copies: 0,
        }
    }

    fn ask(&mut self, requests: Vec<SpoolRequest<TestRow>>) {
        self.now = self.now + Duration::from_millis(1);
        let mut replies = Vec::new();
        self.worker.handle(requests, self.now, &mut replies);
        self.hear(replies);
    }

    fn hear(&mut self, replies: Vec<SpoolReply<TestRow>>) {
        for reply in replies {
            match reply {
                SpoolReply::Notice(notice) => self.notices.push(notice),
                other => self.replies.push(other),
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut replies = Vec::new();
        self.worker.tick(self.now, &mut replies);
        self.hear(replies);
    }

    fn append(&mut self, batches: &[Vec<TestRow>]) -> Vec<Result<SpoolId, SpoolFailure>> {
        let requests = batches.iter().map(|rows| {
            self.copies += 1;
            SpoolRequest::Append {
                copy: CopyId(self.copies),
                rows: Arc::new(rows.clone()),
            }
        });
        let requests = requests.collect();
        self.ask(requests);
        let results = self
            .replies
            .extract_if(.., |reply| matches!(reply, SpoolReply::Appended { .. }));
        results
            .filter_map(|reply| match reply {
                SpoolReply::Appended { result, .. } => Some(result),
                _ => None,
            })
            .collect()
    }

    fn read(&mut self) -> Option<(Vec<SpoolId>, Vec<u64>)> {
        self.ask(vec![SpoolRequest::Read]);
        self.answer()
    }

    /// The answer to a read; none for the end, and while it is not known.
    fn answer(&mut self) -> Option<(Vec<SpoolId>, Vec<u64>)> {
        match self
            .replies
            .extract_if(.., |reply| matches!(reply, SpoolReply::Read(_)))
            .last()?
        {
            SpoolReply::Read(batch) => {
                batch.map(|batch| (batch.ids, batch.rows.iter().map(|row| row.seq).collect()))
            }
            _ => None,
        }
    }

    /// Reads and removes until nothing is left.
    fn drain(&mut self) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some((ids, rows)) = self.read() {
            all.extend(rows);
            self.ask(vec![SpoolRequest::Remove(ids)]);
        }
        all
    }

    fn give_back(&mut self, batches: Vec<SpoolId>, again: Again) {
        self.ask(vec![SpoolRequest::Return { batches, again }]);
    }

    fn fail(&mut self, what: &'static str, error: StoreError) {
        self.store.0.borrow_mut().failing.insert(what, error);
    }

    fn recover(&mut self) {
        self.store.0.borrow_mut().failing.clear();
    }

    fn did(&self, what: &str) -> usize {
        self.store
            .0
            .borrow()
            .log
            .iter()
            .filter(|done| done.starts_with(what))
            .count()
    }

    fn names(&self) -> Vec<String> {
        self.store.0.borrow().files.keys().cloned().collect()
    }
}

fn singles(seqs: impl IntoIterator<Item = u64>) -> Vec<Vec<TestRow>> {
    seqs.into_iter().map(|seq| vec![row(seq)]).collect()
}

const SCAN: Duration = Duration::from_secs(30);
