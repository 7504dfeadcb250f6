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
//! A value whose text has more than 65,536 bytes is not in the line of its row. The line has its length and SHA-256
//! instead, and ends with `"_long":[…]`, the names of these columns; the text follows in lines `{"_piece":"…"}`. So no
//! line is long, and neither the server nor the client holds more than one long value, or 64 KiB of one. A value that
//! PostgreSQL cannot turn into text (because that has more than 1 GB) is replaced by the error's SQLSTATE, and the line
//! ends with `"_unreadable":[…]`: such a month is dropped only on request. Long JSON that is nested more than 6,000 levels deep is
//! named there too, as PostgreSQL may not be able to parse it again; its text follows in pieces.
//!
//! [`write()`] reads what it wrote, as [`check`] does, and lets PostgreSQL make rows of the lines, which must be those of
//! the trail, bit by bit. So an archive that is returned can be restored, with two reservations: long values are
//! compared by their SHA-256 only, and nothing is said about the disk afterwards.
//!
//! | to check | do |
//! | --- | --- |
//! | the file | `sha256sum` prints the manifest's `file_sha256` |
//! | its lines | `zcat … \| sha256sum` prints `sha256`, `zcat … \| grep -Evc '^\{"_piece":"([^"\\]\|\\.)*"\}$'` prints `rows` |
//! | against the ledger | `digest` equals the ledger's, and that of the lines ([`retention`](crate::retention)) |
//!
//! [`check`] does the first two, [`check_ledger`] the third. A user who can write the files can write a manifest
//! that matches them; only the ledger of the database that dropped the month shows that they are unchanged. So [`restore`]
//! refuses an archive that the ledger does not know, unless an operator gives a reason. It inserts the rows exactly as they were, including `recorded_at` and
//! `tx_id`, which are evidence too (when the database stored the row, and in which transaction). Therefore
//! only the owner of the table can restore. The ledger records it.

mod compare;
mod digest;
mod prove;
mod read;
mod restore;
mod rows;
mod stored;
mod trust;
mod write;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use compare::{LedgerVerdict, compare_with_ledger};
pub use read::{check, manifests};
pub use restore::{RestoreReport, restore};
pub use trust::{Trust, check_ledger, check_restorable};
pub use write::write;

/// The only version of the format.
const FORMAT: &str = "auditlog-archive/2";

/// How the names of manifests end.
const MANIFEST_SUFFIX: &str = ".manifest.json";

/// How the names of the files with lines end.
const LINES_SUFFIX: &str = ".ndjson.gz";

/// The description of an archive: its range, and the counts and digests of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// `auditlog-archive/2`.
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

/// An archive that was just written and read again, or whose file was found to match its manifest.
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
    /// The columns of its rows, which are the same for all; none if it has no rows.
    pub(crate) columns: Vec<String>,
}
