//! A spool directory of SQLite files, as the spool's worker uses it.

use std::path::{Path, PathBuf};

use audit_core::spool::{
    Adoption, Batch, BatchSize, Committed, SalvageFrom, SalvagedBatch, Store, StoreError, StoredBatch, Usage,
};
use uuid::Uuid;

use super::classify::classify;
use super::file::{SpoolFile, UNFINISHED, batch};
use super::inspect::{self, Header};
use super::lock::{Lock, is_present, remove_files, remove_files_beside, verify_regular};
use super::{Quarantine, SpoolError, codec, file_name, ours, paths, wal};
use crate::audit::row::LogRow;
use crate::files::create_private_dir;

/// A spool directory.
pub(super) struct Directory {
    path: PathBuf,
    /// The name of the next file, if it is not to be a new one.
    name: Option<Uuid>,
    /// Open from the first row that is kept, until it fails.
    quarantine: Option<Quarantine>,
    /// The database that quarantined rows are for.
    target: Option<String>,
}

impl Directory {
    /// The directory of this path; the first file that is created is named like its writer.
    pub(super) fn new(path: &Path, writer: Option<Uuid>) -> Self {
        Self {
            path: path.to_owned(),
            name: writer,
            quarantine: None,
            target: None,
        }
    }

    /// Notes the database that the rows are for which the quarantine keeps.
    pub(super) fn for_target(self, target: &str) -> Self {
        let target = Some(target.to_owned());
        Self { target, ..self }
    }

    /// Keeps something in the quarantine, which is created again if it was removed. An error if it is removed
    /// before the end.
    fn keep(
        &mut self,
        mut keep: impl FnMut(&mut Quarantine) -> Result<(), SpoolError>,
    ) -> Result<(), StoreError> {
        let mut keep_once = || {
            let mut open = match self.quarantine.take().filter(|open| open.verify_place().is_ok()) {
                Some(open) => open,
                None => {
                    create_private_dir(&self.path).map_err(|error| SpoolError::at(&self.path, error))?;
                    Quarantine::open_for(&self.path, self.target.as_deref())?
                }
            };
            keep(&mut open)?;
            open.verify_place()?;
            self.quarantine = Some(open);
            Ok(())
        };
        keep_once().map_err(|error: SpoolError| StoreError::Transient(error.to_string()))
    }

    fn paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        paths(&self.path).map_err(|error| StoreError::Transient(error.to_string()))
    }

    /// Removes what a crash left of files that were never whole, and locks without a file.
    #[cfg(test)]
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        sweep(&self.paths()?);
        Ok(())
    }
}

impl Store for Directory {
    type Row = LogRow;
    type File = SpoolFile;
    type Body = Vec<u8>;

    fn encode(&self, rows: &[LogRow]) -> Batch<Vec<u8>> {
        batch(codec::encode(rows.iter().map(|row| &**row)))
    }

    fn list(&mut self) -> Result<Vec<String>, StoreError> {
        let paths = self.paths()?;
        sweep(&paths);
        // A log with frames is all that is left of a file, which is written again when it is adopted.
        let lone = ours(&paths, "spool-wal").filter(|log| wal::has_frames(log).unwrap_or(false));
        let lone = lone.map(|log| log.with_extension("spool"));
        let mut names: Vec<String> = ours(&paths, "spool")
            .cloned()
            .chain(lone)
            .map(|path| file_name(&path))
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn create(&mut self, target: &str) -> Result<(String, SpoolFile), StoreError> {
        create_private_dir(&self.path).map_err(|error| classify(&error))?;
        let mut name = self.name.take().unwrap_or_else(Uuid::now_v7);
        loop {
            let path = self.path.join(format!("{name}.spool"));
            if let Some(lock) = Lock::try_take(&path).map_err(|error| classify(&error))? {
                let file = SpoolFile::create_locked(path, lock, target)?;
                return Ok((file_name(file.path()), file));
            }
            // Another process sweeps the directory at this moment, and took the lock for a forgotten one.
            name = Uuid::now_v7();
        }
    }

    fn adopt(&mut self, name: &str, target: Option<&str>) -> Result<Adoption<SpoolFile>, StoreError> {
        let path = self.path.join(name);
        let Some(lock) = Lock::try_take(&path).map_err(|error| classify(&error))? else {
            return Ok(Adoption::InUse);
        };
        if is_missing(&path).map_err(|error| classify(&error))? {
            // Its last owner removed it between the listing and the lock.
            lock.remove();
            return Ok(Adoption::Missing);
        }
        let (file, header) = SpoolFile::look(&path, lock)?;
        let damage = match header {
            Ok(Header::Newer(version)) => return Ok(Adoption::NewerVersion(version)),
            Ok(Header::Target(found)) => {
                let is_other = target.is_some_and(|target| target != found);
                return Ok(if is_other {
                    Adoption::OtherTarget
                } else {
                    Adoption::Adopted(file)
                });
            }
            Ok(Header::Unfinished) => match file.remove_unfinished()? {
                None => return Ok(Adoption::Missing),
                Some(damaged) => (damaged, "it looks unfinished".to_owned()),
            },
            Err(StoreError::Corrupt(damage)) => (file, damage),
            Err(error) => return Err(error),
        };
        match (target, damage) {
            (Some(_), (_, damage)) => Ok(Adoption::UnknownTarget(damage)),
            (None, (file, _)) => Ok(Adoption::Adopted(file)),
        }
    }

    fn check(&mut self, file: &mut SpoolFile) -> Result<Usage, StoreError> {
        file.check()
    }

    fn verify_readable(&mut self, file: &mut SpoolFile) -> Result<(), StoreError> {
        file.verify_readable()
    }

    fn sizes(
        &mut self,
        file: &mut SpoolFile,
        after: i64,
        limit: usize,
    ) -> Result<Vec<BatchSize>, StoreError> {
        file.sizes(after, limit)
    }

    fn read(&mut self, file: &mut SpoolFile, ids: &[i64]) -> Result<Vec<StoredBatch<LogRow>>, StoreError> {
        file.read(ids)
    }

    fn commit(
        &mut self,
        file: &mut SpoolFile,
        append: &[Batch<Vec<u8>>],
        remove: &[i64],
    ) -> Result<Committed, StoreError> {
        file.commit(append, remove)
    }

    fn salvage(
        &mut self,
        file: &mut SpoolFile,
        next: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<Vec<u8>>>, StoreError> {
        file.salvage(next)
    }

    fn mark_damaged(&mut self, file: &mut SpoolFile) -> Result<String, StoreError> {
        file.mark_damaged().map(|path| file_name(&path))
    }

    fn remove_if_done(&mut self, file: &mut SpoolFile, done: &[i64]) -> Result<bool, StoreError> {
        file.remove_if_done(done)
    }

    fn quarantine(
        &mut self,
        rows: &[LogRow],
        reason: &str,
        sqlstate: Option<&str>,
    ) -> Result<(), StoreError> {
        self.keep(|quarantine| {
            rows.iter()
                .try_for_each(|row| quarantine.keep(row, reason, sqlstate))
        })
    }

    fn quarantine_lines(&mut self, lines: &[Vec<u8>]) -> Result<(), StoreError> {
        let reason = "damaged in the spool";
        self.keep(|quarantine| {
            lines
                .iter()
                .try_for_each(|line| quarantine.keep_line(line, reason, None))
        })
    }
}

/// True if neither a file nor a log of it with frames exists.
fn is_missing(path: &Path) -> std::io::Result<bool> {
    Ok(!is_present(path)? && !wal::has_frames(&path.with_extension("spool-wal"))?)
}

/// Removes what a crash left of files that were never whole, and locks without a file.
fn sweep(paths: &[PathBuf]) {
    for extension in [UNFINISHED, "spool-wal", "spool-shm", "lock"] {
        for path in ours(paths, extension) {
            let is_listed = |kind| paths.binary_search(&path.with_extension(kind)).is_ok();
            if !(is_listed("spool") || is_listed("damaged")) {
                // What cannot be looked at now stays.
                let _ = remove_rest(path);
            }
        }
    }
}

/// Removes what a process left beside a spool file that does not exist, and that never held a batch. One that is
/// locked belongs to a file that is created at this moment, or was since the directory was listed.
pub(super) fn remove_rest(path: &Path) -> std::io::Result<()> {
    verify_regular(path)?;
    let Some(lock) = Lock::try_take(path)? else {
        return Ok(());
    };
    let spool = path.with_extension("spool");
    if !is_missing(&spool)? || is_present(&path.with_extension("damaged"))? {
        return Ok(());
    }
    let unfinished = path.with_extension(UNFINISHED);
    if inspect::is_unfinished(&unfinished)? {
        remove_files(&unfinished);
    }
    remove_files_beside(&spool);
    lock.remove();
    Ok(())
}
