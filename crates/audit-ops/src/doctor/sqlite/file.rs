//! Permissions and journal mode of an SQLite file.

use std::io::Read;
use std::path::Path;

use super::{Finding, Severity, SqliteFile};

/// How SQLite makes commits durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalMode {
    Wal,
    Rollback,
}

/// Reads the journal mode from byte 18 of the header (<https://www.sqlite.org/fileformat2.html>), without
/// opening the database.
pub(super) fn journal_mode(path: &Path) -> std::io::Result<JournalMode> {
    let mut header = [0; 20];
    std::fs::File::open(path)?.read_exact(&mut header)?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "not an SQLite database",
        ));
    }
    Ok(if header[18] == 2 {
        JournalMode::Wal
    } else {
        JournalMode::Rollback
    })
}

/// Checks the permissions of the file and of its directory.
#[cfg(unix)]
pub(super) fn examine(path: &Path) -> Vec<Finding> {
    use std::os::unix::fs::MetadataExt;

    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (file, directory) = match (std::fs::metadata(path), std::fs::metadata(directory)) {
        (Ok(file), Ok(directory)) => (file, directory),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::unchecked(SqliteFile, error.to_string())],
    };
    let mut findings = Vec::new();
    let mode = file.mode() & 0o777;
    if mode & 0o022 != 0 {
        findings.push(Finding::new(
            SqliteFile,
            Severity::Critical,
            format!("others may write the file (mode {mode:03o}), and change any row"),
            "chmod 600 FILE",
        ));
    } else if mode & 0o044 != 0 {
        findings.push(Finding::new(
            SqliteFile,
            Severity::Warning,
            format!("others may read the file (mode {mode:03o}), and so every tenant's rows"),
            "chmod 600 FILE",
        ));
    }
    // In a directory with the sticky bit, only a file's owner may replace it.
    if directory.mode() & 0o022 != 0 && directory.mode() & 0o1000 == 0 {
        findings.push(Finding::new(
            SqliteFile,
            Severity::Critical,
            format!(
                "others may replace the file: they may write its directory (mode {:03o})",
                directory.mode() & 0o777
            ),
            "chmod 700 DIRECTORY",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            SqliteFile,
            format!("only its owner (mode {mode:03o})"),
        ));
    }
    findings
}

#[cfg(not(unix))]
pub(super) fn examine(_path: &Path) -> Vec<Finding> {
    vec![Finding::unchecked(
        SqliteFile,
        "permissions are checked on Unix only",
    )]
}
