//! Replay of a spool directory by an operator, without the application.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use audit_core::spool::{
    Closed, SpoolConfig, SpoolNotice, SpoolReply, SpoolRequest, SpoolWorker, SpooledBatch,
};
use audit_core::{Row, Time};
use chrono::{DateTime, Utc};
use compact_str::format_compact;
use db_schema::{JsonText, NewAuditLog};
use serde_json::json;
use uuid::Uuid;

use super::file::{SpoolFile, classify};
use super::inspect::Header;
use super::lock::Lock;
use super::store::Directory;
use super::{Quarantine, SpoolError, files, log_notice};
use crate::audit::row::LogRow;
use crate::audit::sink::{Fault, OnRepeat, PostgresSink, Sink, SinkError, SqliteSink};
use crate::audit::writers::action;
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
/// database are left alone unless `any_target`; those in use always are. Each batch is removed once
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
    any_target: bool,
    progress: impl FnMut(u64),
) -> Result<Replayed, StartError> {
    let limit = RetryPolicy::default().attempt_timeout;
    let mut config = SpoolConfig::new(database.spool_target(), u64::MAX);
    config.any_target = any_target;
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
/// renamed them for a passing error. Those for another database are left alone unless `any_target`. Returns
/// how many were renamed.
///
/// # Errors
/// When the directory cannot be read or a file not be renamed.
pub fn restore_damaged(dir: &Path, database: &Database, any_target: bool) -> Result<u64, SpoolError> {
    let target = database.spool_target();
    let mut restored = 0;
    for path in files(dir, "damaged")? {
        let failed = |error| SpoolError::at(&path, classify(&error));
        let Some(lock) = Lock::try_take(&path).map_err(failed)? else { continue };
        let (file, header) = SpoolFile::look(&path, lock).map_err(|error| SpoolError::at(&path, error))?;
        let is_wanted = match header {
            Ok(Header::Target(found)) => any_target || found == target,
            Ok(Header::Newer(_)) => false,
            Ok(Header::Unfinished) | Err(_) => any_target,
        };
        if is_wanted && !path.with_extension("spool").exists() {
            file.restore().map_err(failed)?;
            restored += 1;
        }
    }
    Ok(restored)
}

struct Replay<'a, S, P> {
    dir: &'a Path,
    sink: S,
    progress: P,
    worker: SpoolWorker<Directory>,
    started: Instant,
    done: Replayed,
    /// What went wrong on the disk.
    disk_failure: Option<String>,
}

impl<'a, S: Sink, P: FnMut(u64)> Replay<'a, S, P> {
    fn new(dir: &'a Path, sink: S, progress: P, config: SpoolConfig) -> Self {
        Self {
            dir,
            sink,
            progress,
            worker: SpoolWorker::new(Directory::new(dir, None), config, Time::START),
            started: Instant::now(),
            done: Replayed::default(),
            disk_failure: None,
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
        Closed { left: self.done.left, removed: self.done.files } = self.worker.close();
        match self.disk_failure {
            Some(failure) => Err(SpoolError::at(self.dir, failure)),
            None => Ok(self.done),
        }
    }

    /// Asks the worker, and counts what it reports. Returns what it read.
    fn ask(&mut self, requests: Vec<SpoolRequest<LogRow>>) -> Option<SpooledBatch<LogRow>> {
        let (mut replies, mut read) = (Vec::new(), None);
        self.worker.handle(requests, Time::after(self.started.elapsed()), &mut replies);
        for reply in replies {
            match reply {
                SpoolReply::Read(batch) => read = batch,
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
            | SpoolNotice::RemovalFailed { .. }
            | SpoolNotice::ScanFailed { .. } => self.disk_failure = Some(notice.to_string()),
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
            match self.send(&part).await {
                Ok(()) => {
                    self.done.entries += part.iter().filter(|row| row.number().is_some()).count() as u64
                }
                Err(error) if error.fault != Fault::Row => return Ok(Err(error)),
                Err(error) => match &part[..] {
                    [row] => {
                        if let Err(error) = self.quarantine(row, &error).await? {
                            return Ok(Err(error));
                        }
                    }
                    _ => {
                        let second = part.split_off(part.len() / 2);
                        parts.push_front(second);
                        parts.push_front(part);
                    }
                },
            }
        }
        Ok(Ok(()))
    }

    /// Keeps a rejected row and declares it: otherwise its number would be missing in the trail.
    async fn quarantine(
        &mut self,
        row: &LogRow,
        why: &SinkError,
    ) -> Result<Result<(), SinkError>, SpoolError> {
        Quarantine::open(self.dir)?.keep(row, &why.reason, why.sqlstate.as_deref())?;
        self.done.quarantined += 1;
        match declaration(row, why.sqlstate.as_deref()) {
            Some(record) => Ok(self.send(&[record]).await),
            None => Ok(Ok(())),
        }
    }

    /// The only use of the sink.
    async fn send(&mut self, rows: &[LogRow]) -> Result<(), SinkError> {
        let rows = rows.iter().map(|row| row.0.clone()).collect();
        self.sink.write(Arc::new(rows), OnRepeat::Skip).await
    }
}

/// The record that a rejected row is in the quarantine, in the name of the writer that numbered it. None for a
/// row without a number.
fn declaration(row: &LogRow, sqlstate: Option<&str>) -> Option<LogRow> {
    let (writer, seq) = row.number()?;
    let rejected = json!({
        "seq": seq,
        "sqlstate": sqlstate,
        "id": row.id,
        "created_at": row.created_at.to_rfc3339(),
    });
    Some(LogRow(NewAuditLog {
        id: Uuid::now_v7(),
        created_at: DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap_or_default(),
        tenant_id: None,
        actor_id: Some("auditlog".into()),
        actor_type: Some("system".into()),
        on_behalf_of: None,
        action: action::QUARANTINED.into(),
        outcome: "success".into(),
        resource_type: Some("audit_writer".into()),
        resource_id: Some(format_compact!("{writer}")),
        ip_address: None,
        user_agent: None,
        request_id: None,
        trace_id: None,
        operation_id: None,
        metadata: JsonText::from_text(rejected.to_string()),
        writer_id: Some(writer),
        writer_seq: None,
    }))
}
