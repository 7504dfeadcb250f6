//! Where do rows go before they are dropped, and how do they come back?
//!
//! An archive is two files in a directory, for one month each:
//!
//! - `audit_logs_2024-01.4f1d….ndjson.gz`: gzip of lines, one a row, in the order of `(created_at, id)`. Each
//!   is the row as JSON with the columns' names, as PostgreSQL writes it: metadata is the database's exact
//!   text, times are in UTC. The name carries the beginning of the rows' digest, so that an archive never
//!   takes the place of another one with different rows.
//! - `audit_logs_2024-01.4f1d….manifest.json`: a [`Manifest`] with the counts and sums of the other file. It
//!   is written last: an archive without it is not finished.
//!
//! Each is written under another name, synced, and renamed; the directory is synced. Only the user who
//! writes them may read them (mode 0600).
//!
//! | to check | do |
//! | --- | --- |
//! | the file | `sha256sum` gives the manifest's `file_sha256` |
//! | its lines | `zcat … \| sha256sum` gives `sha256`, `zcat … \| wc -l` gives `rows` |
//! | against the ledger | `digest` is the ledger's, and that of the lines ([`retention`](crate::retention)) |
//!
//! [`check`] does all that. [`restore`] puts the rows back exactly as they were, with `recorded_at` and
//! `tx_id`, which are evidence too (when the database took the row, and in which transaction of which
//! order): so only the owner of the table can do it. The ledger gets an entry.

mod read;
mod restore;
mod sums;
mod write;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use read::{check, manifests};
pub use restore::{Restored, restore};
pub use write::write;

/// The only version of the format.
const FORMAT: &str = "auditlog-archive/1";

/// What the ending of a manifest's name is.
const MANIFEST: &str = ".manifest.json";

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// `auditlog-archive/1`.
    pub format: String,
    /// The month, as `2024-01`.
    pub month: String,
    /// The first `created_at` that belongs in it.
    pub from_time: String,
    /// The first that no longer does.
    pub to_time: String,
    /// How many rows there are.
    pub rows: u64,
    /// Their digest, in hexadecimal digits.
    pub digest: String,
    /// How many bytes the lines have, with their ends.
    pub bytes: u64,
    /// The SHA-256 of the lines.
    pub sha256: String,
    /// The name of the file with the lines.
    pub file: String,
    /// How many bytes that file has.
    pub file_bytes: u64,
    /// Its SHA-256.
    pub file_sha256: String,
    /// When it was made, by the clock of who made it.
    pub made_at: String,
}

/// An archive whose files were just written, or read and found to be what the manifest says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Archived {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's file.
    pub manifest_path: PathBuf,
    /// The file with the lines.
    pub path: PathBuf,
    pub(crate) digest: [u8; 32],
    pub(crate) file_sha256: [u8; 32],
}
