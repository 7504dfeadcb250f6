//! The readable batches of a file that is corrupt or gone are copied into the own file.
//!
//! They are copied and synced first; then the file is renamed. A failure leaves the file as it is.
//!
//! SQLite reports an I/O error as damage at times, and an I/O error proves nothing. So a file is believed to be
//! corrupt, a batch to be unreadable, and a file is renamed, only while every byte of the file can be read.

use std::collections::BTreeSet;

use super::{Replies, SpoolWorker};
use crate::Time;
use crate::spool::{
    Batch, SalvageFrom, SalvagedBatch, SpoolId, SpoolNotice, SpoolReply, Store, StoreError, Usage,
};

/// Why a file is no longer appended to and read.
pub(super) enum FileLoss {
    Corrupt(String),
    Gone(String),
}

impl FileLoss {
    /// The loss that an error means; the error if it may pass by itself.
    pub(super) fn of(error: StoreError) -> Result<Self, StoreError> {
        match error {
            StoreError::Corrupt(reason) => Ok(Self::Corrupt(reason)),
            StoreError::Gone(reason) => Ok(Self::Gone(reason)),
            StoreError::Transient(reason) if planted!(PassingErrorTakenForDamage) => {
                Ok(Self::Corrupt(reason))
            }
            error @ (StoreError::Transient(_) | StoreError::DiskFull(_)) => Err(error),
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Corrupt(reason) | Self::Gone(reason) => reason,
        }
    }
}

/// Checks a file, twice if it looks corrupt.
pub(super) fn check<S: Store>(store: &mut S, file: &mut S::File) -> Result<Usage, StoreError> {
    match store.check(file) {
        Err(StoreError::Corrupt(_)) if !planted!(FalseDamageBelieved) => check_again(store, file),
        checked => checked,
    }
}

/// Checks a file that an operation found corrupt: it is only if that is found again, and every byte can be read
/// before as well as after.
fn check_again<S: Store>(store: &mut S, file: &mut S::File) -> Result<Usage, StoreError> {
    store.verify_readable(file)?;
    let checked = store.check(file);
    if matches!(checked, Err(StoreError::Corrupt(_))) {
        store.verify_readable(file)?;
    }
    checked
}

/// A file that is copied.
pub(super) struct Salvage<F> {
    pub(super) name: String,
    file: F,
    /// Where it is read on; none once everything is copied.
    next: Option<SalvageFrom>,
    /// The batches that were copied.
    copied: Vec<i64>,
    /// The files that they were copied to.
    copied_to: BTreeSet<u32>,
    /// True if it is renamed at the end: it is still in the directory.
    is_renamed: bool,
    /// Batches that the writer holds.
    held: BTreeSet<i64>,
    /// Batches that are not copied.
    removed: BTreeSet<i64>,
    /// True after a notice about a failure.
    is_failing: bool,
}

/// Batches that are copied with one sync.
struct Part<B> {
    ids: Vec<i64>,
    batches: Vec<Batch<B>>,
    /// Where to read on.
    next: Option<SalvageFrom>,
}

impl<F> Salvage<F> {
    /// True if it is lost with this process.
    pub(super) fn is_gone(&self) -> bool {
        !self.is_renamed
    }

    pub(super) fn remove(&mut self, id: i64) {
        self.held.remove(&id);
        self.removed.insert(id);
    }

    pub(super) fn put_back(&mut self, id: i64) {
        self.held.remove(&id);
    }
}

impl SalvageFrom {
    /// True for a number that is in the part that is not read yet. A corrupt tree can lead in circles.
    fn admits(self, id: i64) -> bool {
        match self {
            Self::Above(last) => id > last,
            Self::Between { floor, ceiling } => floor < id && id < ceiling,
        }
    }

    /// Where to read on after this batch.
    fn after(self, id: i64) -> Self {
        match self {
            Self::Above(_) => Self::Above(id),
            Self::Between { floor, .. } => Self::Between { floor, ceiling: id },
        }
    }

    /// Where to read on when nothing more can be read from here.
    fn at_damage(self) -> Option<Self> {
        match self {
            Self::Above(floor) => Some(Self::Between {
                floor,
                ceiling: i64::MAX,
            }),
            Self::Between { .. } => None,
        }
    }
}

impl<S: Store> SpoolWorker<S> {
    /// The loss that an error of an operation on a file proves; an error that may pass by itself if none.
    pub(super) fn prove_loss(&mut self, key: u32, error: StoreError) -> Result<FileLoss, StoreError> {
        let (error, open) = match (error, self.files.get_mut(&key)) {
            (StoreError::Corrupt(reason), Some(open)) if !planted!(FalseDamageBelieved) => (reason, open),
            (error, _) => return FileLoss::of(error),
        };
        match check_again(&mut self.store, &mut open.file) {
            Ok(usage) => {
                open.usage = usage;
                // The second time its batches are copied: the damage may be where no check looks. It is not
                // renamed then.
                if std::mem::replace(&mut open.is_doubtful, true) {
                    Ok(FileLoss::Corrupt(error))
                } else {
                    Err(StoreError::Transient(error))
                }
            }
            Err(error) => FileLoss::of(error),
        }
    }

    /// True if a file of this name is to be copied.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_copying(&self, name: &str) -> bool {
        self.salvages.values().any(|salvage| salvage.name == name)
    }

    /// Closes a file to appends and reads; it is copied at the next scan, which is due now.
    pub(super) fn begin_salvage(
        &mut self,
        key: u32,
        loss: FileLoss,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) {
        let Some(open) = self.files.remove(&key) else {
            return;
        };
        if self.own == Some(key) {
            self.own = None;
        }
        let (file, is_renamed) = (open.name.clone(), matches!(loss, FileLoss::Corrupt(_)));
        replies.push(SpoolReply::Notice(match loss {
            FileLoss::Corrupt(reason) => SpoolNotice::Damaged { file, reason },
            FileLoss::Gone(reason) => SpoolNotice::Gone { file, reason },
        }));
        let salvage = Salvage {
            name: open.name,
            file: open.file,
            next: Some(SalvageFrom::Above(i64::MIN)),
            copied: Vec::new(),
            copied_to: BTreeSet::new(),
            is_renamed,
            held: open.held,
            removed: open.removing,
            is_failing: false,
        };
        self.salvages.insert(key, salvage);
        self.before_stops = None;
        self.next_scan = self.next_scan.min(now);
    }

    /// Copies what is to be copied; what fails is tried again at the next scan. True if another file is to be
    /// copied since.
    pub(super) fn run_salvages(&mut self, now: Time, replies: &mut Replies<S::Row>) -> bool {
        let due = std::mem::take(&mut self.salvages);
        let keys: BTreeSet<u32> = due.keys().copied().collect();
        for (key, mut salvage) in due {
            let before = salvage.copied.len();
            let result = self.run_salvage(key, &mut salvage, now, replies);
            // A stop record waits for the end of it, too.
            if salvage.copied.len() > before || result.is_ok() {
                replies.push(SpoolReply::Adopted);
            }
            match result {
                Ok(renamed) => {
                    let notice = SpoolNotice::Salvaged {
                        file: salvage.name,
                        renamed,
                        batches: salvage.copied.len() as u64,
                    };
                    replies.push(SpoolReply::Notice(notice));
                }
                Err(reason) => {
                    if !std::mem::replace(&mut salvage.is_failing, true) {
                        let file = salvage.name.clone();
                        replies.push(SpoolReply::Notice(SpoolNotice::SalvageFailed { file, reason }));
                    }
                    self.salvages.insert(key, salvage);
                }
            }
        }
        self.salvages.keys().any(|key| !keys.contains(key))
    }

    /// Copies a file into the own one, a part at a time, then renames it. Its new name, if it has one.
    fn run_salvage(
        &mut self,
        key: u32,
        salvage: &mut Salvage<S::File>,
        now: Time,
        replies: &mut Replies<S::Row>,
    ) -> Result<Option<String>, String> {
        if planted!(RenamedBeforeCopied) && salvage.is_renamed {
            let _ = self.store.mark_damaged(&mut salvage.file);
        }
        while let Some(from) = salvage.next {
            let Part { ids, batches, next } =
                self.read_part(salvage, from).map_err(|error| error.to_string())?;
            if !ids.is_empty() {
                let (own, copies) = self
                    .commit_own(&batches, now, replies)
                    .map_err(|failure| failure.to_string())?;
                salvage.copied.extend(&ids);
                salvage.copied_to.insert(own);
                for (id, copy) in ids.into_iter().zip(copies) {
                    self.note_copy(
                        SpoolId { file: key, batch: id },
                        SpoolId {
                            file: own,
                            batch: copy,
                        },
                        salvage,
                    );
                }
            }
            salvage.next = next;
        }
        if !salvage.is_renamed {
            return Ok(None);
        }
        let renamed = match self.check_before_renaming(salvage) {
            Err(StoreError::Corrupt(_)) => self.store.mark_damaged(&mut salvage.file).map(Some),
            Ok(_) => {
                // It is whole. If it stays, it is adopted, and its batches are found stored. It does if a file with
                // copies was lost since.
                if salvage.copied_to.iter().all(|key| self.files.contains_key(key)) {
                    let mut done = salvage.copied.clone();
                    done.extend(&salvage.removed);
                    done.sort_unstable();
                    let _ = self.store.remove_if_done(&mut salvage.file, &done);
                }
                Ok(None)
            }
            // Somebody removed it meanwhile.
            Err(StoreError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        };
        renamed.map_err(|error| error.to_string())
    }

    fn check_before_renaming(&mut self, salvage: &mut Salvage<S::File>) -> Result<Usage, StoreError> {
        if [
            planted!(FalseDamageBelieved),
            planted!(PassingErrorTakenForDamage),
        ]
        .contains(&true)
        {
            return Err(StoreError::Corrupt(String::new()));
        }
        check(&mut self.store, &mut salvage.file)
    }

    /// The next batch of a file; none if it cannot be read though every byte of the file can.
    fn read_next(
        &mut self,
        file: &mut S::File,
        from: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<S::Body>>, StoreError> {
        let mut read = self.store.salvage(file, from);
        if matches!(read, Err(StoreError::Corrupt(_))) && !planted!(EdgeOfDamageBelieved) {
            self.store.verify_readable(file)?;
            read = self.store.salvage(file, from);
            if matches!(read, Err(StoreError::Corrupt(_))) {
                self.store.verify_readable(file)?;
            }
        }
        match read {
            Err(StoreError::Corrupt(_)) => Ok(None),
            read => read,
        }
    }

    /// The next batches that can be read, as many as fit into memory together, and where to read on.
    fn read_part(
        &mut self,
        salvage: &mut Salvage<S::File>,
        from: SalvageFrom,
    ) -> Result<Part<S::Body>, StoreError> {
        let (mut bytes, mut part) = (
            0,
            Part {
                ids: Vec::new(),
                batches: Vec::new(),
                next: Some(from),
            },
        );
        while let Some(from) = part.next.filter(|_| bytes < self.config.max_group_bytes) {
            let found = self.read_next(&mut salvage.file, from)?;
            part.next = match found {
                Some(SalvagedBatch { id, batch }) if from.admits(id) => {
                    if !salvage.removed.contains(&id) {
                        bytes += batch.bytes;
                        part.ids.push(id);
                        part.batches.push(batch);
                    }
                    Some(from.after(id))
                }
                _ => from.at_damage(),
            };
        }
        Ok(part)
    }

    /// A batch that the writer holds is held in the own file from now on.
    fn note_copy(&mut self, from: SpoolId, to: SpoolId, salvage: &mut Salvage<S::File>) {
        if salvage.held.remove(&from.batch) {
            self.aliases.insert(from, to);
            if let Some(own) = self.files.get_mut(&to.file) {
                own.held.insert(to.batch);
            }
        }
    }
}
