//! The disk as the spool's worker sees it: a directory of files, each a list of batches.

use std::fmt;

use crate::Row;

/// A spool directory. Each operation is one step: it happens as a whole, fails, or is cut by a crash, after
/// which it happened or did not. What returned `Ok` survives a crash.
///
/// Implemented by the SQLite files of `db-services`, and by the disk of the simulation.
pub trait Store {
    /// The rows that are kept.
    type Row: Row;
    /// A file that this store has locked: no other store adopts it until it is dropped.
    type File;
    /// Encoded rows.
    type Body: Clone;

    /// Encodes rows.
    fn encode(&self, rows: &[Self::Row]) -> Batch<Self::Body>;

    /// The names of the files, the oldest first; those that are in use included. Before that, what a crash left
    /// of files that were never whole is removed, and locks without a file.
    fn list(&mut self) -> Result<Vec<String>, StoreError>;

    /// Creates and locks an empty file, as a whole or not at all.
    fn create(&mut self, target: &str) -> Result<(String, Self::File), StoreError>;

    /// Locks a file that nobody uses and that is for this target, or for any if none is given. Nothing of
    /// the file is changed, and no more of it is read than that takes.
    fn adopt(&mut self, name: &str, target: Option<&str>) -> Result<Adoption<Self::File>, StoreError>;

    /// Opens a file afresh and reads it from end to end: what it holds, or [`StoreError::Corrupt`]. Asked of
    /// an adopted file before it is read or changed, and of each file that an operation finds corrupt. After
    /// `Corrupt` it is only salvaged and renamed, and stays as it is.
    fn check(&mut self, file: &mut Self::File) -> Result<Usage, StoreError>;

    /// Reads the bytes of a file from end to end, whatever they mean. An error if a read fails: what an
    /// operation takes for damage then may be an I/O error, which proves nothing.
    fn verify_readable(&mut self, file: &mut Self::File) -> Result<(), StoreError>;

    /// The batches after this number, in ascending order, at most `limit`.
    fn sizes(
        &mut self,
        file: &mut Self::File,
        after: i64,
        limit: usize,
    ) -> Result<Vec<BatchSize>, StoreError>;

    /// The rows of these batches, in ascending order. One that is no longer there is left out.
    fn read(&mut self, file: &mut Self::File, ids: &[i64])
    -> Result<Vec<StoredBatch<Self::Row>>, StoreError>;

    /// Appends batches and removes others with one sync. The new numbers are higher than all that the file
    /// held before.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if the file is no longer what it was in the directory, or no longer locked, after the
    /// sync as well as before it: what was appended is not to be relied on.
    fn commit(
        &mut self,
        file: &mut Self::File,
        append: &[Batch<Self::Body>],
        remove: &[i64],
    ) -> Result<Committed, StoreError>;

    /// The next batch that can be read of a file that is corrupt or gone. None at the first that cannot.
    fn salvage(
        &mut self,
        file: &mut Self::File,
        next: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<Self::Body>>, StoreError>;

    /// Renames a corrupt file, for an operator to look at: it is not listed again. Its new name.
    fn mark_damaged(&mut self, file: &mut Self::File) -> Result<String, StoreError>;

    /// Removes a file from the directory if it holds no batch but these, in ascending order. True if it did.
    /// Does not need space on the disk.
    fn remove_if_done(&mut self, file: &mut Self::File, done: &[i64]) -> Result<bool, StoreError>;

    /// Keeps rejected rows in the quarantine, synced. One that is kept already stays as it is.
    fn quarantine(
        &mut self,
        rows: &[Self::Row],
        reason: &str,
        sqlstate: Option<&str>,
    ) -> Result<(), StoreError>;

    /// Keeps damaged lines in the quarantine, synced.
    fn quarantine_lines(&mut self, lines: &[Vec<u8>]) -> Result<(), StoreError>;
}

/// An encoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<B> {
    /// How many rows.
    pub rows: u64,
    /// How large it is in the file, in bytes.
    pub bytes: u64,
    /// The encoded rows.
    pub body: B,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many batches.
    pub batches: u64,
    /// How large they are, in bytes.
    pub bytes: u64,
}

/// A batch without its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Its number in the file.
    pub id: i64,
    /// How many rows.
    pub rows: u64,
    /// How large it is, in bytes.
    pub bytes: u64,
}

/// A batch as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch<R> {
    /// Its number in the file.
    pub id: i64,
    /// Its rows, except for those that are damaged.
    pub rows: Vec<R>,
    /// The encoded rows that are damaged.
    pub damaged: Vec<Vec<u8>>,
}

/// A batch of a file that is corrupt or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedBatch<B> {
    /// Its number in the file.
    pub id: i64,
    /// The batch.
    pub batch: Batch<B>,
}

/// What a commit changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The numbers of the batches that were appended, in their order.
    pub ids: Vec<i64>,
    /// What was removed.
    pub removed: Usage,
}

/// Where a salvage reads on. It goes from the first batch up to the damage, then from the last one down to
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SalvageFrom {
    /// The lowest number above this one.
    Above(i64),
    /// The highest number between these two.
    Between {
        /// The last one that was read on the way up.
        floor: i64,
        /// The one that was read before.
        ceiling: i64,
    },
}

/// Whether a file was adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption<F> {
    /// It is locked now.
    Adopted(F),
    /// Another writer uses it.
    InUse,
    /// It is for another database.
    OtherTarget,
    /// A newer version of this program wrote it.
    NewerVersion(i64),
    /// It is damaged, and the database that it is for cannot be read. Why not.
    UnknownTarget(String),
    /// It is no longer in the directory.
    Missing,
}

/// Why an operation of a store failed. Nothing of it happened, unless [`Store::commit`] says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// An I/O error, a lock of another process, no file descriptor: it may pass by itself.
    Transient(String),
    /// The disk is full.
    DiskFull(String),
    /// The file looks corrupt. It is if [`Store::check`] says so again and each byte of it can be read.
    Corrupt(String),
    /// The file is no longer what it was in the directory, or its lock was taken. The batches that
    /// the open file still holds can be salvaged.
    Gone(String),
}

impl std::error::Error for StoreError {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient(message) | Self::Corrupt(message) | Self::Gone(message) => f.write_str(message),
            Self::DiskFull(message) => write!(f, "{message} (free space on its disk)"),
        }
    }
}
