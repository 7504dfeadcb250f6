//! Compares an archive with the ledger of dropped months. Pure.

use super::Manifest;
use crate::retention::{LedgerEntry, LedgerEvent};

/// What a ledger says about an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerVerdict {
    /// An entry has the same month, range, number of rows and digest.
    Same {
        /// The entry.
        entry: i64,
        /// Whether the entry names this very file by its SHA-256. If not, the same rows were archived again.
        is_same_file: bool,
    },
    /// No entry is about the archive's month, its range or its digest: nothing could be compared.
    Absent,
    /// Entries are about them, and none has the same figures.
    Different {
        /// The newest of these entries.
        entry: i64,
        /// The figure that differs.
        figure: &'static str,
        /// The archive's figure.
        found: String,
        /// The ledger's figure.
        expected: String,
    },
}

/// Compares an archive with the entries about dropped months.
pub fn compare_with_ledger(manifest: &Manifest, ledger: &[LedgerEntry]) -> LedgerVerdict {
    let mut verdict = LedgerVerdict::Absent;
    let dropped = ledger.iter().filter(|entry| entry.event == LedgerEvent::Dropped);
    for entry in dropped {
        let figures = figures(manifest, entry);
        // The number of rows alone says nothing.
        if figures
            .iter()
            .all(|(name, found, expected)| *name == "rows" || found != expected)
        {
            continue;
        }
        let different = figures.into_iter().find(|(_, found, expected)| found != expected);
        match different {
            None => {
                return LedgerVerdict::Same {
                    entry: entry.id,
                    is_same_file: entry.archive_sha256.as_ref() == Some(&manifest.file_sha256),
                };
            }
            Some((figure, found, expected)) => {
                verdict = LedgerVerdict::Different {
                    entry: entry.id,
                    figure,
                    found,
                    expected,
                }
            }
        }
    }
    verdict
}

fn figures(manifest: &Manifest, entry: &LedgerEntry) -> [(&'static str, String, String); 5] {
    [
        ("month", manifest.month.clone(), entry.month.clone()),
        ("from_time", manifest.from_time.clone(), entry.from_time.clone()),
        ("to_time", manifest.to_time.clone(), entry.to_time.clone()),
        ("rows", manifest.rows.to_string(), entry.row_count.to_string()),
        ("digest", manifest.digest.clone(), entry.digest.clone()),
    ]
}
