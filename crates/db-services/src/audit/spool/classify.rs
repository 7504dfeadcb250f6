//! Classifies the errors of SQLite and of the file system.

use audit_core::spool::StoreError;
use diesel::result::Error;

/// True for an error that a full disk may have caused: SQLite calls a lack of space for the index an I/O error.
pub(super) fn may_lack_space(error: &StoreError) -> bool {
    match error {
        StoreError::DiskFull(_) => true,
        StoreError::Transient(text) => {
            text.contains("disk I/O error") || text.contains("Disk quota exceeded")
        }
        StoreError::Corrupt(_) | StoreError::Gone(_) => false,
    }
}

/// What an error of SQLite or of the file system means for a file. SQLite's driver passes on the text alone.
pub(super) fn classify(error: &(dyn std::error::Error + 'static)) -> StoreError {
    let text = crate::client::describe(error);
    let has = |known: &[&str]| known.iter().any(|known| text.contains(known));
    let is_impossible = matches!(error.downcast_ref(), Some(Error::DeserializationError(_)));
    if is_impossible
        || has(&[
            "database disk image is malformed",
            "malformed database schema",
            "file is not a database",
        ])
        || has(&["no such table", "no such column"])
    {
        StoreError::Corrupt(text)
    } else if has(&["database or disk is full", "No space left on device"]) {
        StoreError::DiskFull(text)
    } else if has(&["disk I/O error"]) {
        StoreError::Transient(format!("{text} (is there free space on its disk?)"))
    } else {
        StoreError::Transient(text)
    }
}
