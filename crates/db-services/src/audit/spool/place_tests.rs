//! A file or a log that is no longer what it was in the directory, and names that are something else than files.

use std::fs;
use std::path::{Path, PathBuf};

use audit_core::spool::{Adoption, Batch, SalvageFrom, Store};
use tempfile::TempDir;

use super::*;
use crate::audit::spool::codec;
use crate::audit::spool::inspect::{Look, look};
use crate::audit::spool::store::{Directory, remove_rest};
use crate::audit::spool::table::SCHEMA;
use crate::audit::spool::{ReplayScope, SpoolState, file_name, restore_damaged, status, wal};
use crate::audit::{AuditEntry, NewAuditLog};
use crate::client::Database;
use crate::files::create_for_owner;

const NAME: &str = "018f4a5e-0000-7000-8000-000000000001";

diesel::define_sql_function! {
    fn intervene(row: diesel::sql_types::BigInt) -> diesel::sql_types::BigInt;
}

fn body(tag: i64) -> Batch<Vec<u8>> {
    let row: NewAuditLog = AuditEntry::new(format!("batch.{tag}")).into();
    batch(codec::encode(std::iter::once(&row)))
}

fn target() -> String {
    Database::from_url("sqlite:///there.db").unwrap().spool_target()
}

/// A file of this many batches, in use, with all of them in its log.
fn used(batches: i64) -> (TempDir, SpoolFile) {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), NAME, &target()).unwrap();
    for tag in 0..batches {
        file.commit(&[body(tag)], &[]).unwrap();
    }
    (dir, file)
}

fn salvaged(file: &mut SpoolFile) -> Vec<i64> {
    let (mut ids, mut last) = (Vec::new(), i64::MIN);
    while let Ok(Some(found)) = file.salvage(SalvageFrom::Above(last)) {
        last = found.id;
        ids.push(last);
    }
    ids
}

fn adopt(dir: &Path) -> Result<Adoption<SpoolFile>, StoreError> {
    Directory::new(dir, None).adopt(&format!("{NAME}.spool"), Some(&target()))
}

fn only_batches(adoption: Result<Adoption<SpoolFile>, StoreError>) -> u64 {
    match adoption {
        Ok(Adoption::Adopted(mut file)) => file.check().unwrap().batches,
        _ => panic!("it is left alone"),
    }
}

/// Does this while the next commit is under way.
fn within_the_next_commit(file: &mut SpoolFile, act: impl Fn() + Send + 'static + std::panic::UnwindSafe) {
    let conn = file.conn.as_mut().unwrap();
    let act = std::sync::Mutex::new(act);
    intervene_utils::register_impl(conn, move |row: i64| {
        (act.lock().unwrap())();
        row
    })
    .unwrap();
    conn.batch_execute(
        "CREATE TEMP TRIGGER intervene AFTER INSERT ON main.batches BEGIN SELECT intervene(NEW.id); END",
    )
    .unwrap();
}

#[test]
fn a_commit_into_a_log_that_was_removed_is_not_acknowledged_and_everything_can_still_be_read() {
    let (dir, mut file) = used(3);
    fs::remove_file(log_of(file.path())).unwrap();
    let gone = |result| matches!(result, Err(StoreError::Gone(text)) if text.contains("log was removed"));
    assert!(gone(file.commit(&[body(3)], &[])));
    assert!(gone(file.commit(&[], &[])), "also without a change");
    assert_eq!(salvaged(&mut file), [1, 2, 3]);
    drop(file);
    assert_eq!(only_batches(adopt(dir.path())), 3);
}

#[test]
fn a_commit_is_not_acknowledged_if_the_file_or_its_log_is_removed_or_replaced_during_it() {
    type Act = fn(&Path);
    let acts: [(Act, &str); 4] = [
        (|path| fs::remove_file(path).unwrap(), "it was removed"),
        (|path| fs::remove_file(log_of(path)).unwrap(), "log was removed"),
        (
            |path| fs::rename(log_of(path), path.with_extension("x")).unwrap(),
            "log was removed",
        ),
        (
            |path| {
                fs::remove_file(log_of(path)).unwrap();
                fs::write(log_of(path), vec![0; 100_000]).unwrap();
            },
            "another file took the name of its write-ahead log",
        ),
    ];
    for (act, text) in acts {
        let (_dir, mut file) = used(3);
        let path = file.path().to_owned();
        within_the_next_commit(&mut file, move || act(&path));
        match file.commit(&[body(3)], &[]) {
            Err(StoreError::Gone(found)) => assert!(found.contains(text), "{found}"),
            other => panic!("{text}: {other:?}"),
        }
        let found = salvaged(&mut file);
        assert_eq!(found[..3], [1, 2, 3], "{text}");
    }
}

#[test]
fn a_log_that_was_cut_off_is_noticed_and_what_is_left_is_read() {
    for length in [0, 100, 5_000] {
        let (dir, mut file) = used(3);
        let log = fs::File::options().write(true).open(log_of(file.path())).unwrap();
        log.set_len(length).unwrap();
        let result = file.commit(&[body(3)], &[]);
        assert!(matches!(result, Err(StoreError::Gone(_))), "{result:?}");
        // What SQLite has in memory still can be read. Without that, the error is none that may pass: a salvage
        // would never end.
        file.conn
            .as_mut()
            .unwrap()
            .batch_execute("PRAGMA shrink_memory")
            .unwrap();
        let mut last = SalvageFrom::Above(i64::MIN);
        loop {
            match file.salvage(last) {
                Ok(Some(found)) => last = SalvageFrom::Above(found.id),
                Ok(None) | Err(StoreError::Corrupt(_)) => break,
                Err(error) => panic!("{length}: {error}"),
            }
        }
        drop(file);
        assert!(dir.path().join(format!("{NAME}.spool")).exists());
    }
}

#[test]
fn a_file_that_was_emptied_under_its_writer_is_noticed() {
    let (_dir, mut file) = used(3);
    fs::File::options()
        .write(true)
        .open(file.path())
        .unwrap()
        .set_len(0)
        .unwrap();
    assert!(matches!(file.commit(&[body(3)], &[]), Err(StoreError::Gone(_))));
}

#[test]
fn a_file_that_this_process_makes_smaller_is_what_it_was() {
    let (_dir, mut file) = used(0);
    let ids = file.commit(&[batch(vec![b'x'; 24 << 20])], &[]).unwrap().ids;
    file.commit(&[], &ids).unwrap();
    assert!(fs::metadata(log_of(file.path())).unwrap().len() < 1 << 20);
    let ids = file.commit(&[body(1)], &[]).unwrap().ids;
    assert!(!file.remove_if_done(&[]).unwrap());
    file.commit(&[body(2)], &[]).unwrap();
    assert_eq!(ids.len(), 1);
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_left_alone_and_reported() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (killed, file) = used(3);
    let name = format!("{NAME}.spool");
    let (link, moved) = (dir.path().join(&name), elsewhere.path().join(&name));
    fs::copy(killed.path().join(&name), &moved).unwrap();
    fs::copy(log_of(file.path()), log_of(&link)).unwrap();
    drop(file);
    for exists in [true, false] {
        if !exists {
            fs::remove_file(&moved).unwrap();
        }
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&moved, &link).unwrap();
        let before = fs::read(log_of(&link)).unwrap();
        let mut directory = Directory::new(dir.path(), None);
        assert_eq!(directory.list().unwrap(), std::slice::from_ref(&name));
        assert!(
            matches!(adopt(dir.path()), Err(StoreError::Transient(text)) if text.contains("symbolic link"))
        );
        let unreadable = |state: &SpoolState| matches!(state, SpoolState::Unreadable(text) if text.contains("symbolic link"));
        let found = status(dir.path()).unwrap();
        assert!(found.len() == 1 && unreadable(&found[0].state), "{found:?}");
        assert_eq!(fs::read(log_of(&link)).unwrap(), before);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_with_the_name_of_a_log_or_a_lock_is_not_waited_for() {
    for extension in ["spool-wal", "lock"] {
        let (dir, file) = used(3);
        let path = file.path().to_owned();
        drop(file);
        let pipe = path.with_extension(extension);
        let _ = fs::remove_file(&pipe);
        let created = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(created.success());
        assert!(matches!(look(&path), Look::Unreadable(text) if text.contains("not a regular file")));
        assert!(
            matches!(adopt(dir.path()), Err(StoreError::Transient(_))),
            "{extension}"
        );
        assert!(wal::find_damage(&pipe).is_err());
        Directory::new(dir.path(), None).list().unwrap();
        assert!(fs::symlink_metadata(&pipe).is_ok());
    }
}

/// A directory that may not be searched: its names can be listed, and each `stat` fails.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_looked_at_is_not_taken_for_a_missing_one() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, file) = used(3);
    let path = file.path().to_owned();
    drop(file);
    let allow = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o600);
    // Root may look at everything; then the next part is all that is shown.
    let refused = fs::symlink_metadata(&path).is_err();
    let missing = is_present(&path);
    let adoption = adopt(dir.path());
    allow(0o700);
    if refused {
        assert!(missing.is_err());
        assert!(matches!(adoption, Err(StoreError::Transient(_))));
    }
    // The name goes on where a file is: neither exists, and neither is missing.
    let within = path.join("x.spool");
    assert!(is_present(&within).is_err());
    assert!(wal::has_frames(&within).is_err());
    assert!(inspect::is_unfinished(&within).is_err());
}

#[test]
fn a_sweep_leaves_a_file_alone_that_was_created_since_the_directory_was_listed() {
    let (_dir, file) = used(0);
    let path = file.path().to_owned();
    drop(file);
    let before = fs::read(&path).unwrap();
    remove_rest(&path.with_extension("lock")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(path.with_extension("lock").exists());
}

#[test]
fn a_file_whose_log_cannot_be_renamed_keeps_its_name() {
    let (_dir, file) = used(3);
    let (copy, path) = copied(&file);
    fs::create_dir(copy.path().join(format!("{NAME}.damaged-wal"))).unwrap();
    fs::write(copy.path().join(format!("{NAME}.damaged-wal/x")), "").unwrap();
    assert!(rename(&path, "damaged").is_err());
    assert!(path.exists() && log_of(&path).exists());
    assert!(!path.with_extension("damaged").exists());
}

/// The file and its log as a killed process leaves them.
fn copied(file: &SpoolFile) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(format!("{NAME}.spool"));
    fs::copy(file.path(), &path).unwrap();
    fs::copy(log_of(file.path()), log_of(&path)).unwrap();
    (dir, path)
}

/// As older versions created it: its tables first, then in the log its target and its batches.
#[test]
fn a_file_that_looks_unfinished_since_its_log_is_damaged_is_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(format!("{NAME}.spool"));
    create_for_owner(&path).unwrap();
    let mut conn = open(&path, SHARED).unwrap();
    conn.batch_execute(SCHEMA).unwrap();
    drop(conn);
    let mut conn = open(&path, SHARED).unwrap();
    conn.batch_execute("INSERT INTO about VALUES ('target', 'there')")
        .unwrap();
    for tag in 0..3 {
        let row = (batches::entries.eq(1), batches::body.eq(body(tag).body));
        diesel::insert_into(batches::table)
            .values(row)
            .execute(&mut conn)
            .unwrap();
    }
    let mut log = fs::read(log_of(&path)).unwrap();
    log[32 + 24 + 100] ^= 1;
    let copy = TempDir::new().unwrap();
    let killed = copy.path().join(format!("{NAME}.spool"));
    fs::copy(&path, &killed).unwrap();
    fs::write(log_of(&killed), &log).unwrap();
    drop(conn);
    let adoption = Directory::new(copy.path(), None).adopt(&format!("{NAME}.spool"), Some("there"));
    assert!(matches!(adoption, Ok(Adoption::UnknownTarget(_))));
    assert_eq!(fs::read(log_of(&killed)).unwrap(), log);
}

#[test]
fn a_damaged_header_of_a_log_is_damage() {
    let (_dir, file) = used(3);
    for at in [0, 5, 9, 17, 25] {
        let (copy, path) = copied(&file);
        let mut log = fs::read(log_of(&path)).unwrap();
        log[at] ^= 0x10;
        fs::write(log_of(&path), &log).unwrap();
        assert!(wal::find_damage(&log_of(&path)).unwrap().is_some(), "byte {at}");
        let Ok(Adoption::Adopted(mut found)) = adopt(copy.path()) else {
            panic!("byte {at}")
        };
        assert!(matches!(found.check(), Err(StoreError::Corrupt(_))), "byte {at}");
    }
}

#[test]
fn a_damaged_file_takes_no_name_that_another_damaged_file_or_its_log_has() {
    for taken in ["damaged", "damaged-wal", "damaged-shm"] {
        let (_dir, file) = used(3);
        let (copy, path) = copied(&file);
        let other = path.with_extension(taken);
        fs::write(&other, "of an earlier damage").unwrap();
        let Ok(Adoption::Adopted(mut found)) = adopt(copy.path()) else {
            panic!("{taken}")
        };
        let log = fs::read(log_of(&path)).unwrap();
        let renamed = found.mark_damaged().unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"of an earlier damage");
        assert_ne!(renamed, path.with_extension("damaged"));
        assert_eq!(fs::read(log_of(&renamed)).unwrap(), log);
        drop(found);
        let named: Vec<PathBuf> = status(copy.path())
            .unwrap()
            .into_iter()
            .map(|found| found.path)
            .collect();
        assert!(named.contains(&renamed), "{named:?}");
    }
}

#[test]
fn a_log_that_was_renamed_without_its_file_is_listed_and_can_be_read_again() {
    let (_dir, file) = used(3);
    let (copy, path) = copied(&file);
    fs::rename(log_of(&path), path.with_extension("damaged-wal")).unwrap();
    fs::remove_file(&path).unwrap();
    let found = status(copy.path()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, path.with_extension("damaged-wal"));
    assert_eq!(found[0].state, SpoolState::Damaged);
    let database = Database::from_url("sqlite:///there.db").unwrap();
    assert_eq!(
        restore_damaged(copy.path(), &database, ReplayScope::SameDatabase).unwrap(),
        0
    );
    assert_eq!(
        restore_damaged(copy.path(), &database, ReplayScope::AnyDatabase).unwrap(),
        1
    );
    let mut directory = Directory::new(copy.path(), None);
    let names = directory.list().unwrap();
    let Ok(Adoption::Adopted(mut found)) = directory.adopt(&names[0], None) else {
        panic!("it is left alone")
    };
    assert!(matches!(found.check(), Err(StoreError::Corrupt(_))));
    assert_eq!(salvaged(&mut found), [1, 2, 3]);
}

#[test]
fn damaged_files_are_restored_though_one_of_them_cannot_be() {
    let dir = TempDir::new().unwrap();
    let name = |n: u32, extension: &str| {
        dir.path()
            .join(format!("018f4a5e-0000-7000-8000-00000000000{n}.{extension}"))
    };
    for n in 1..=3 {
        drop(SpoolFile::create(dir.path(), &file_name(&name(n, "x"))[..36], &target()).unwrap());
        fs::rename(name(n, "spool"), name(n, "damaged")).unwrap();
        fs::remove_file(name(n, "lock")).unwrap();
    }
    // Its lock cannot be opened.
    fs::create_dir(name(1, "lock")).unwrap();
    let database = Database::from_url("sqlite:///there.db").unwrap();
    assert_eq!(
        restore_damaged(dir.path(), &database, ReplayScope::SameDatabase).unwrap(),
        2
    );
    assert!(name(1, "damaged").exists());
    assert!(name(2, "spool").exists() && name(3, "spool").exists());
}

#[test]
fn a_damaged_file_is_not_restored_over_a_spool_file_or_its_log() {
    for taken in ["spool", "spool-wal"] {
        let (dir, file) = used(1);
        let path = file.path().to_owned();
        drop(file);
        fs::rename(&path, path.with_extension("damaged")).unwrap();
        let other = path.with_extension(taken);
        fs::write(&other, "of a newer writer").unwrap();
        let database = Database::from_url("sqlite:///there.db").unwrap();
        assert_eq!(
            restore_damaged(dir.path(), &database, ReplayScope::AnyDatabase).unwrap(),
            0
        );
        assert_eq!(fs::read(&other).unwrap(), b"of a newer writer");
        assert!(path.with_extension("damaged").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_directory_may_begin_with_two_slashes() {
    let dir = TempDir::new().unwrap();
    let twice = PathBuf::from(format!("/{}", dir.path().display()));
    let mut file = SpoolFile::create(&twice, NAME, "there").unwrap();
    file.commit(&[body(1)], &[]).unwrap();
    drop(file);
    assert!(dir.path().join(format!("{NAME}.spool")).exists());
}
