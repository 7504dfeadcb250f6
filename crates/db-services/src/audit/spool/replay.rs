//! Replay of a spool directory by an operator, without the application.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use audit_core::spool::{
    Closed, SpoolConfig, SpoolFailure, SpoolNotice, SpoolReply, SpoolRequest, SpoolWorker, SpooledBatch,
    Ticket,
};
use audit_core::writer::{Attempt, Record, SinkErrorKind};
use audit_core::{Row, Time};
use uuid::Uuid;

use super::classify::classify;
use super::file::SpoolFile;
use super::inspect::Header;
use super::lock::{Lock, is_present};
use super::store::Directory;
use super::{ReplayScope, SpoolError, StoreError, file_name, log_notice, lone_damaged_logs, ours, paths};
use crate::audit::records::Records;
use crate::audit::row::LogRow;
use crate::audit::sink::{PostgresSink, Sink, SinkError, SqliteSink};
use crate::audit::{RetryPolicy, StartError};
use crate::client::{Database, Kind};

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Files that were emptied and removed.
    pub files: u64,
    /// Entries that are in the database now; some may have been there before.
    pub entries: u64,
    /// Entries that the database rejects, and lines that cannot be read: now in the quarantine.
    pub quarantined: u64,
    /// Files that were left alone: another process uses them, they are for another database, a newer version
    /// wrote them, or they could not be opened now.
    pub left: u64,
    /// Damaged files: what can be read of them was written, and they were renamed to `.damaged`.
    pub damaged: u64,
    /// Why it ended early: the database accepts no more.
    pub failure: Option<String>,
}

/// Writes the entries of orphaned spool files to a database, the oldest file first. Files for another
/// database are left alone unless `scope` says otherwise; those in use always are. Each batch is removed once
/// it is committed: repeating a replay that was cut short loses and doubles nothing. Of a damaged file
/// what can be read is written. A rejected entry goes to the quarantine and is declared in the trail.
///
/// `progress` is called with the number of entries after each batch.
///
/// # Errors
/// When the directory cannot be read or a file in it not changed. That the database accepts no entries is in
/// [`Replayed::failure`].
///
/// # Cancel safety
/// Dropping the future leaves the rest in the spool.
pub async fn replay(
    dir: &Path,
    database: &Database,
    scope: ReplayScope,
    progress: impl FnMut(u64),
) -> Result<Replayed, StartError> {
    let limit = RetryPolicy::default().attempt_timeout;
    let mut config = SpoolConfig::new(database.spool_target(), u64::MAX);
    config.any_target = scope == ReplayScope::AnyDatabase;
    // No request waits meanwhile.
    config.max_looks = usize::MAX;
    match database.kind() {
        Kind::Postgres { route, .. } => {
            let sink = PostgresSink::new((**route).clone(), limit);
            Ok(Replay::new(dir, sink, progress, config).run().await?)
        }
        Kind::Sqlite { location, .. } => {
            let sink = SqliteSink::start(location.clone())?;
            Ok(Replay::new(dir, sink, progress, config).run().await?)
        }
    }
}

/// Renames `.damaged` files back, so that the next [`replay`] reads them again: an older version may have
/// renamed them for a passing error. Those for another database are left alone unless `scope` says
/// otherwise. One that cannot be looked at or renamed now is logged and left as it is. Returns how many were
/// renamed.
///
/// # Errors
/// When the directory cannot be read.
pub fn restore_damaged(dir: &Path, database: &Database, scope: ReplayScope) -> Result<u64, SpoolError> {
    let any_target = scope == ReplayScope::AnyDatabase;
    let target = database.spool_target();
    let is_wanted = |header| match header {
        Ok(Header::Target(found)) => any_target || found == target,
        Ok(Header::Newer(_)) => false,
        Ok(Header::Unfinished) | Err(_) => any_target,
    };
    let paths = paths(dir)?;
    let files = ours(&paths, "damaged").map(|path| (path, restore_file(path, &is_wanted)));
    // The target is in the file.
    let logs = lone_damaged_logs(&paths)
        .filter(|_| any_target)
        .map(|path| (path, restore_log(path)));
    let mut restored = 0;
    for (path, result) in files.chain(logs) {
        match result {
            Ok(is_restored) => restored += u64::from(is_restored),
            Err(error) => log_notice(&SpoolNotice::AdoptionFailed {
                file: file_name(path),
                reason: error.to_string(),
            }),
        }
    }
    Ok(restored)
}

fn restore_file(
    path: &Path,
    is_wanted: &dyn Fn(Result<Header, StoreError>) -> bool,
) -> Result<bool, StoreError> {
    let failed = |error| classify(&error);
    let Some(lock) = Lock::try_take(path).map_err(failed)? else {
        return Ok(false);
    };
    let (file, header) = SpoolFile::look(path, lock)?;
    if !is_wanted(header) || is_name_taken(path).map_err(failed)? {
        return Ok(false);
    }
    file.restore().map_err(failed)?;
    Ok(true)
}

/// A process was killed while it renamed a damaged file: its log was renamed, and it was not.
fn restore_log(path: &Path) -> Result<bool, StoreError> {
    let failed = |error| classify(&error);
    let Some(lock) = Lock::try_take(path).map_err(failed)? else {
        return Ok(false);
    };
    if is_name_taken(path).map_err(failed)? {
        return Ok(false);
    }
    let renamed = std::fs::rename(path, path.with_extension("spool-wal"));
    drop(lock);
    renamed.map(|()| true).map_err(failed)
}

/// True if there is a spool file of this name, or what is left of one.
fn is_name_taken(path: &Path) -> std::io::Result<bool> {
    Ok(is_present(&path.with_extension("spool"))? || is_present(&path.with_extension("spool-wal"))?)
}

struct Replay<'a, S, P> {
    dir: &'a Path,
    sink: S,
    progress: P,
    worker: SpoolWorker<Directory>,
    started: Instant,
    done: Replayed,
    /// Whether the row is in the quarantine that was sent there.
    quarantine_result: Option<Result<(), SpoolFailure>>,
    /// What went wrong on the disk.
    disk_failure: Option<String>,
    /// Files whose removals failed, and why. They may be removed as a whole later.
    unremoved: BTreeMap<String, String>,
}

impl<'a, S: Sink, P: FnMut(u64)> Replay<'a, S, P> {
    fn new(dir: &'a Path, sink: S, progress: P, config: SpoolConfig) -> Self {
        let directory = Directory::new(dir, None).for_target(&config.target);
        Self {
            dir,
            sink,
            progress,
            worker: SpoolWorker::new(directory, config, Time::START),
            started: Instant::now(),
            done: Replayed::default(),
            quarantine_result: None,
            disk_failure: None,
            unremoved: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> Result<Replayed, SpoolError> {
        // Adopts files.
        self.ask(Vec::new());
        let mut request = vec![SpoolRequest::Read];
        while let Some(SpooledBatch { ids, rows }) = self.ask(request) {
            if let Err(error) = self.write(rows).await? {
                self.done.failure = Some(error.reason);
                break;
            }
            (self.progress)(self.done.entries);
            request = vec![SpoolRequest::Remove(ids), SpoolRequest::Read];
        }
        // Removes what is still to be removed.
        Closed {
            left: self.done.left,
            removed: self.done.files,
        } = self.worker.close();
        let dir = self.dir;
        let unremoved = self
            .unremoved
            .into_iter()
            .find(|(file, _)| is_present(&dir.join(file)).unwrap_or(true));
        match self.disk_failure.or(unremoved.map(|(_, failure)| failure)) {
            Some(failure) => Err(SpoolError::at(self.dir, StoreError::Transient(failure))),
            None => Ok(self.done),
        }
    }

    /// Asks the worker, and counts what it reports. Returns what it read.
    fn ask(&mut self, requests: Vec<SpoolRequest<LogRow>>) -> Option<SpooledBatch<LogRow>> {
        let (mut replies, mut read) = (Vec::new(), None);
        self.worker
            .handle(requests, Time::after(self.started.elapsed()), &mut replies);
        for reply in replies {
            match reply {
                SpoolReply::Read(batch) => read = batch,
                SpoolReply::Quarantined { result, .. } => self.quarantine_result = Some(result),
                SpoolReply::Notice(notice) => self.note(&notice),
                _ => {}
            }
        }
        read
    }

    fn note(&mut self, notice: &SpoolNotice) {
        match notice {
            SpoolNotice::LinesQuarantined { lines, .. } => self.done.quarantined += lines,
            SpoolNotice::Salvaged { renamed: Some(_), .. } => self.done.damaged += 1,
            SpoolNotice::SalvageFailed { .. }
            | SpoolNotice::LinesNotQuarantined { .. }
            | SpoolNotice::ReadFailed { .. }
            | SpoolNotice::ScanFailed { .. } => self.disk_failure = Some(notice.to_string()),
            SpoolNotice::RemovalFailed { file, .. } => {
                self.unremoved.insert(file.clone(), notice.to_string());
                return;
            }
            // The command reports how many files it replayed.
            SpoolNotice::Adopted { .. } => return,
            _ => {}
        }
        log_notice(notice);
    }

    /// Writes rows; those that are rejected go to the quarantine, alone.
    async fn write(&mut self, rows: Vec<LogRow>) -> Result<Result<(), SinkError>, SpoolError> {
        let mut parts = VecDeque::from([rows]);
        while let Some(mut part) = parts.pop_front().filter(|part| !part.is_empty()) {
            let written = match self.send(&part).await {
                Ok(duplicates) => self.declare_duplicates(duplicates).await,
                Err(error) if error.kind != SinkErrorKind::RowRejected => Err(error),
                Err(error) if part.len() == 1 => self.quarantine(&part[0], error).await?,
                Err(_) => {
                    let second = part.split_off(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(part);
                    continue;
                }
            };
            if let Err(error) = written {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Keeps a rejected row and declares it: otherwise its number would be missing in the trail.
    async fn quarantine(
        &mut self,
        row: &LogRow,
        error: SinkError,
    ) -> Result<Result<(), SinkError>, SpoolError> {
        self.ask(vec![SpoolRequest::Quarantine {
            ticket: Ticket(0),
            rows: Arc::new(vec![row.clone()]),
            reason: error.reason,
            sqlstate: error.sqlstate.clone(),
        }]);
        if let Some(Err(failure)) = self.quarantine_result.take() {
            return Err(SpoolError::at(
                self.dir,
                StoreError::Transient(failure.to_string()),
            ));
        }
        self.done.quarantined += 1;
        if row.number().is_none() {
            return Ok(Ok(()));
        }
        Ok(self
            .declare(Record::Quarantined {
                row: row.clone(),
                sqlstate: error.sqlstate,
            })
            .await)
    }

    /// Declares numbers that have no row, since the id and time of their entries are stored under others.
    async fn declare_duplicates(&mut self, numbers: Vec<(Uuid, u64)>) -> Result<(), SinkError> {
        for record in Record::duplicates(numbers) {
            self.declare(record).await?;
        }
        Ok(())
    }

    async fn declare(&mut self, record: Record<LogRow>) -> Result<(), SinkError> {
        let row = Records::operator().row(record);
        self.sink
            .write(Arc::new(vec![row]), Attempt::First)
            .await
            .map(drop)
    }

    /// Sends entries; returns the numbers of those that are stored under others.
    async fn send(&mut self, rows: &[LogRow]) -> Result<Vec<(Uuid, u64)>, SinkError> {
        let written = self.sink.write(Arc::new(rows.to_vec()), Attempt::Retry).await?;
        self.done.entries += rows.iter().filter(|row| row.number().is_some()).count() as u64;
        Ok(written
            .duplicates
            .into_iter()
            .filter_map(|row| rows.get(row)?.number())
            .collect())
    }
}
