//! Archives: a month's rows as a file, written before the month is dropped, checked, and restored.
//!
//! An archive of a month is two files in a directory:
//!
//! - `audit_logs_2024-01.4f1d….ndjson.gz`: gzip of lines, one per row, in the order of `(created_at, id)`.
//!   Each is the row as JSON with the columns' names, as PostgreSQL prints it: metadata is the database's
//!   exact text, times are in UTC. The name contains the start of the rows' digest, so that an archive never
//!   replaces one with different rows.
//! - `audit_logs_2024-01.4f1d….manifest.json`: a [`Manifest`] with the other file's counts and digests. It
//!   is written last: an archive without it is incomplete.
//!
//! Each file is written under a temporary name, synced, and renamed; then the directory is synced. Only the
//! user who writes the files may read them (mode 0600).
//!
//! | to check | do |
//! | --- | --- |
//! | the file | `sha256sum` prints the manifest's `file_sha256` |
//! | its lines | `zcat … \| sha256sum` prints `sha256`, `zcat … \| wc -l` prints `rows` |
//! | against the ledger | `digest` equals the ledger's, and that of the lines ([`retention`](crate::retention)) |
//!
//! [`check`] does all of this. [`restore`] inserts the rows exactly as they were, including `recorded_at` and
//! `tx_id`, which are evidence too (when the database stored the row, and in which transaction). Therefore
//! only the owner of the table can restore. The ledger records it.

mod digest;
mod read;
mod restore;
mod write;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use read::{check, manifests};
pub use restore::{RestoreReport, restore};
pub use write::write;

/// The only version of the format.
const FORMAT: &str = "auditlog-archive/1";

/// How the names of manifests end.
const MANIFEST_SUFFIX: &str = ".manifest.json";

/// How the names of the files with lines end.
const LINES_SUFFIX: &str = ".ndjson.gz";

/// The description of an archive: its range, and the counts and digests of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// `auditlog-archive/1`.
    pub format: String,
    /// The month, as `2024-01`.
    pub month: String,
    /// The first `created_at` of its range.
    pub from_time: String,
    /// The first `created_at` after its range.
    pub to_time: String,
    /// The number of rows.
    pub rows: u64,
    /// Their digest, in hexadecimal digits.
    pub digest: String,
    /// The size of the lines in bytes, with their newlines.
    pub bytes: u64,
    /// The SHA-256 of the lines.
    pub sha256: String,
    /// The name of the file with the lines.
    pub file: String,
    /// The size of that file in bytes.
    pub file_bytes: u64,
    /// Its SHA-256.
    pub file_sha256: String,
    /// When it was written, by the clock of the machine that wrote it.
    pub made_at: String,
}

/// An archive that was just written, or whose file was found to match its manifest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedArchive {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's file.
    pub manifest_path: PathBuf,
    /// The file with the lines.
    pub path: PathBuf,
    pub(crate) digest: [u8; 32],
    pub(crate) file_sha256: [u8; 32],
}
