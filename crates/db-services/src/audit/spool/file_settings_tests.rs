//! The settings of SQLite for a spool file.

use audit_core::spool::{Adoption, Batch, Store};
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use tempfile::TempDir;

use super::*;
use crate::audit::AuditEntry;
use crate::audit::spool::codec;
use crate::audit::spool::store::Directory;

fn single() -> Batch<Vec<u8>> {
    let row = AuditEntry::new("single").into();
    batch(codec::encode(std::iter::once(&row)))
}

#[test]
fn each_commit_of_a_spool_file_is_synced() {
    let dir = TempDir::new().unwrap();
    let settings = |file: &mut SpoolFile| {
        let synchronous = sql::<BigInt>("SELECT synchronous FROM pragma_synchronous");
        let journal = sql::<diesel::sql_types::Text>("SELECT journal_mode FROM pragma_journal_mode");
        let conn = file.conn().unwrap();
        (
            synchronous.get_result::<i64>(conn).unwrap(),
            journal.get_result::<String>(conn).unwrap(),
        )
    };
    // FULL.
    let wanted = (2, "wal".to_owned());
    let mut file = SpoolFile::create(dir.path(), "file", "here").unwrap();
    assert_eq!(settings(&mut file), wanted);
    file.commit(&[single()], &[]).unwrap();
    drop(file);
    let adoption = Directory::new(dir.path(), None).adopt("file.spool", Some("here"));
    let Ok(Adoption::Adopted(mut file)) = adoption else {
        panic!("not adopted");
    };
    file.check().unwrap();
    assert_eq!(settings(&mut file), wanted);
    drop(file);
    let path = dir.path().join("file.spool");
    let lock = Lock::try_take(&path).unwrap().unwrap();
    let (mut file, _) = SpoolFile::look(&path, lock).unwrap();
    file.open_alone().unwrap();
    assert_eq!(settings(&mut file), wanted);
}

/// If the process is killed between the removals, a log with frames would be taken for one that lost its file.
#[test]
fn the_log_of_a_file_is_empty_when_the_file_is_removed() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "file", "here").unwrap();
    let ids = file.commit(&[single()], &[]).unwrap().ids;
    // A second name for the log shows what the removal leaves in it.
    let (log, second) = (dir.path().join("file.spool-wal"), dir.path().join("second"));
    std::fs::hard_link(&log, &second).unwrap();
    assert!(std::fs::metadata(&second).unwrap().len() > 0);
    assert!(file.remove_if_done(&ids).unwrap());
    assert!(!log.exists());
    assert_eq!(std::fs::metadata(&second).unwrap().len(), 0);
}
