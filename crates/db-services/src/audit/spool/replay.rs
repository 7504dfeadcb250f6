//! How does an operator write what lies in a spool directory, without the application?

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use db_schema::NewAuditLog;

use super::file::{self, SpoolFile, Stored};
use super::{Quarantine, SpoolError, codec, files};
use crate::audit::row::LogRow;
use crate::audit::sink::{Attempt, PostgresSink, Sink, SinkError, SinkErrorKind, SqliteSink};
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
    /// Entries that the database refuses, and lines that cannot be read: now in the quarantine.
    pub quarantined: u64,
    /// Files that another process uses, or that are for another database.
    pub left: u64,
    /// Damaged files: what can be read of them was written, and they were set aside as `.damaged`.
    pub damaged: u64,
    /// Why it ended early: the database took no more.
    pub failure: Option<String>,
}

/// Writes the entries of orphaned spool files to a database, the oldest file first. Files for another
/// database are left alone unless `any_target`; those in use always are. Each batch is removed once
/// it is committed: repeating a replay that was cut short loses and doubles nothing. Of a damaged file
/// what can be read is written.
///
/// `progress` is called with the number of entries after each batch.
///
/// # Errors
/// When the directory cannot be read or a file in it not changed. A database that takes no entries is
/// told in [`Replayed::failure`].
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
    match database.kind() {
        Kind::Postgres { route, .. } => {
            let sink = PostgresSink::new((**route).clone(), limit);
            Replay::new(dir, sink, progress).run(database, any_target).await
        }
        Kind::Sqlite { location, .. } => {
            let sink = SqliteSink::start(location.clone())?;
            Replay::new(dir, sink, progress).run(database, any_target).await
        }
    }
}

struct Replay<'a, S, P> {
    dir: &'a Path,
    sink: S,
    progress: P,
    done: Replayed,
}

impl<'a, S: Sink, P: FnMut(u64)> Replay<'a, S, P> {
    fn new(dir: &'a Path, sink: S, progress: P) -> Self {
        Self { dir, sink, progress, done: Replayed::default() }
    }

    async fn run(mut self, database: &Database, any_target: bool) -> Result<Replayed, StartError> {
        let target = (!any_target).then(|| database.to_string());
        for path in files(self.dir, "spool")? {
            let written = match SpoolFile::adopt(&path) {
                Ok(Some(file)) => self.file(file, target.as_deref()).await?,
                Ok(None) => {
                    self.done.left += 1;
                    continue;
                }
                Err(error) => {
                    self.is_damaged(&error.detail, &file::set_aside(&path));
                    continue;
                }
            };
            if let Err(error) = written {
                self.done.failure = Some(error.reason);
                break;
            }
        }
        Ok(self.done)
    }

    async fn file(
        &mut self,
        mut file: SpoolFile,
        wanted: Option<&str>,
    ) -> Result<Result<(), SinkError>, SpoolError> {
        let sound = file.is_sound();
        match (wanted, file.target()) {
            (Some(wanted), Ok(target)) if target != wanted => {
                self.done.left += 1;
                return Ok(Ok(()));
            }
            // Whose it is cannot be read: as likely this database's as any.
            (_, Err(error)) if sound => return Err(SpoolError::at(file.path(), error)),
            _ => {}
        }
        // Until nothing is left, or the damage is met.
        while let Some(Ok(found)) = sound.then(|| file.oldest(&[])) {
            if found.is_empty() {
                file.remove();
                self.done.files += 1;
                return Ok(Ok(()));
            }
            if let Err(error) = self.write(&found).await? {
                return Ok(Err(error));
            }
            let ids: Vec<i64> = found.iter().map(|stored| stored.id).collect();
            file.change(&[], &ids).map_err(|error| SpoolError::at(file.path(), error))?;
            (self.progress)(self.done.entries);
        }
        for stored in file.salvage() {
            if let Err(error) = self.write(&[stored]).await? {
                // It stays as it is, for the next try.
                return Ok(Err(error));
            }
            (self.progress)(self.done.entries);
        }
        self.is_damaged("what can be read of it was written", &file.set_aside());
        Ok(Ok(()))
    }

    fn is_damaged(&mut self, detail: &str, aside: &Path) {
        log::error!("audit: a damaged spool file was set aside as {}: {detail}", aside.display());
        self.done.damaged += 1;
    }

    /// Writes batches together; what is refused or cannot be read goes into the quarantine.
    async fn write(&mut self, batches: &[Stored]) -> Result<Result<(), SinkError>, SpoolError> {
        let (rows, damaged) = codec::decode_all(batches.iter().map(|stored| &stored.body[..]));
        for line in damaged {
            Quarantine::open(self.dir)?.keep_line(&line, "damaged in the spool", None)?;
            self.done.quarantined += 1;
        }
        let mut parts: VecDeque<Arc<Vec<NewAuditLog>>> = VecDeque::from([Arc::new(rows)]);
        while let Some(part) = parts.pop_front().filter(|part| !part.is_empty()) {
            let rows = Arc::new(part.iter().cloned().map(LogRow::from).collect());
            match self.sink.write(rows, Attempt::Retry).await {
                Ok(_) => {
                    self.done.entries += part.iter().filter(|row| row.writer_seq.is_some()).count() as u64
                }
                Err(error) if error.kind != SinkErrorKind::RowRejected => return Ok(Err(error)),
                Err(error) => match &part[..] {
                    [row] => {
                        Quarantine::open(self.dir)?.keep(row, &error.reason, error.sqlstate.as_deref())?;
                        self.done.quarantined += 1;
                    }
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        parts.push_front(Arc::new(second.to_vec()));
                        parts.push_front(Arc::new(first.to_vec()));
                    }
                },
            }
        }
        Ok(Ok(()))
    }
}
