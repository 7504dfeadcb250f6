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

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: "auditlog-archive/2".to_owned(),
            month: "2024-01".to_owned(),
            from_time: "2024-01-01T00:00:00Z".to_owned(),
            to_time: "2024-02-01T00:00:00Z".to_owned(),
            rows: 3,
            digest: "ab".repeat(32),
            bytes: 1,
            sha256: "cd".repeat(32),
            file: "audit_logs_2024-01.ndjson.gz".to_owned(),
            file_bytes: 1,
            file_sha256: "ef".repeat(32),
            made_at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn entry(event: LedgerEvent) -> LedgerEntry {
        let manifest = manifest();
        LedgerEntry {
            id: 7,
            event,
            month: manifest.month,
            from_time: manifest.from_time,
            to_time: manifest.to_time,
            row_count: 3,
            digest: manifest.digest,
            writers: 0,
            archive: None,
            archive_sha256: Some(manifest.file_sha256),
            keep_months: None,
            overrides: Vec::new(),
            reason: String::new(),
            done_by: String::new(),
            done_at: String::new(),
        }
    }

    #[test]
    fn each_figure_of_the_ledger_is_compared() {
        let same = entry(LedgerEvent::Dropped);
        let verdict = compare_with_ledger(&manifest(), std::slice::from_ref(&same));
        assert!(matches!(
            verdict,
            LedgerVerdict::Same {
                is_same_file: true,
                ..
            }
        ));
        type Change = fn(&mut LedgerEntry);
        let changes: [(&str, Change); 5] = [
            ("month", |e| e.month = "2024-02".to_owned()),
            ("from_time", |e| e.from_time = "2024-01-02T00:00:00Z".to_owned()),
            ("to_time", |e| e.to_time = "2024-02-02T00:00:00Z".to_owned()),
            ("rows", |e| e.row_count = 4),
            ("digest", |e| e.digest = "00".repeat(32)),
        ];
        for (name, change) in changes {
            let mut other = same.clone();
            change(&mut other);
            match compare_with_ledger(&manifest(), &[other]) {
                LedgerVerdict::Different { figure, .. } => assert_eq!(figure, name),
                verdict => panic!("{name}: {verdict:?}"),
            }
        }
    }

    /// An archive that was accepted by an operator has such an entry, whatever its rows are.
    #[test]
    fn an_entry_about_a_restore_proves_nothing() {
        let restored = entry(LedgerEvent::Restored);
        assert_eq!(
            compare_with_ledger(&manifest(), &[restored]),
            LedgerVerdict::Absent
        );
    }
}
