use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use audit_core::spool::{Adoption, Batch, SalvageFrom, SalvagedBatch, Store};
use proptest::prelude::*;
use tempfile::TempDir;

use diesel::result::Error;

use super::*;
use crate::audit::row::LogRow;
use crate::audit::spool::codec;
use crate::audit::spool::inspect::{Look, look};
use crate::audit::spool::store::Directory;
use crate::audit::spool::table::SCHEMA;
use crate::audit::{AuditEntry, NewAuditLog};
use crate::files::create_for_owner;

fn body(tag: usize, rows: usize) -> Batch<Vec<u8>> {
    let rows: Vec<NewAuditLog> = (0..rows)
        .map(|n| {
            AuditEntry::new(format!("batch.{tag}"))
                .resource("row", n.to_string())
                .into()
        })
        .collect();
    batch(codec::encode(rows.iter()))
}

/// Adopts the file for its target, as the next writer does; none if it is left alone.
fn adopt(path: &Path) -> Option<SpoolFile> {
    let name = path.file_name().unwrap().to_str().unwrap();
    match Directory::new(path.parent().unwrap(), None)
        .adopt(name, None)
        .unwrap()
    {
        Adoption::Adopted(file) => Some(file),
        _ => None,
    }
}

fn salvage_all(file: &mut SpoolFile) -> Vec<SalvagedBatch<Vec<u8>>> {
    let mut found: Vec<SalvagedBatch<Vec<u8>>> = Vec::new();
    let mut last = i64::MIN;
    while let Ok(Some(batch)) = file.salvage(SalvageFrom::Above(last))
        && batch.id > last
    {
        last = batch.id;
        found.push(batch);
    }
    let mut ceiling = i64::MAX;
    while let Ok(Some(batch)) = file.salvage(SalvageFrom::Between { floor: last, ceiling })
        && last < batch.id
        && batch.id < ceiling
    {
        ceiling = batch.id;
        found.push(batch);
    }
    found
}

/// The files as a killed process would leave them: copied while they are open.
fn as_if_killed(from: &Path) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    for extension in ["spool", "spool-wal"] {
        let source = from.with_extension(extension);
        if source.exists() {
            fs::copy(&source, dir.path().join(source.file_name().unwrap())).unwrap();
        }
    }
    let path = dir.path().join(from.file_name().unwrap());
    (dir, path)
}

fn all(file: &mut SpoolFile) -> Vec<(i64, Vec<LogRow>)> {
    let ids: Vec<i64> = file
        .sizes(i64::MIN, usize::MAX)
        .unwrap()
        .iter()
        .map(|size| size.id)
        .collect();
    file.read(&ids)
        .unwrap()
        .into_iter()
        .map(|stored| (stored.id, stored.rows))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Appends this number of batches, and removes the nth of those there, in one commit.
    Change(usize, Option<usize>),
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change =
        (0..4_usize, prop::option::of(0..8_usize)).prop_map(|(add, remove)| Step::Change(add, remove));
    prop::collection::vec(prop_oneof![4 => change, 1 => Just(Step::Kill)], 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against the obvious model: a map from id to body. Killed at any step, nothing synced is gone and
    /// nothing removed comes back.
    #[test]
    fn a_file_does_what_a_map_does_and_survives_being_killed(steps in steps()) {
        let mut dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), "model", "there").unwrap();
        let mut model: BTreeMap<i64, Batch<Vec<u8>>> = BTreeMap::new();
        let mut tag = 0;
        for step in steps {
            match step {
                Step::Change(add, remove) => {
                    let add: Vec<_> = (0..add).map(|_| { tag += 1; body(tag, 3) }).collect();
                    let remove: Vec<i64> = remove.and_then(|nth| model.keys().nth(nth).copied()).into_iter().collect();
                    let committed = file.commit(&add, &remove).unwrap();
                    let freed: u64 = remove.iter().filter_map(|id| model.remove(id)).map(|batch| batch.bytes).sum();
                    prop_assert_eq!(committed.removed, Usage { batches: remove.len() as u64, bytes: freed });
                    model.extend(committed.ids.into_iter().zip(add));
                }
                Step::Kill => {
                    let (copy, path) = as_if_killed(&file.path);
                    file = adopt(&path).unwrap();
                    let usage = file.check().unwrap();
                    let bytes = model.values().map(|batch| batch.bytes).sum();
                    prop_assert_eq!(usage, Usage { batches: model.len() as u64, bytes });
                    dir = copy;
                }
            }
        }
        let expected: Vec<_> = model.iter().map(|(id, batch)| (*id, codec::decode(&batch.body).rows)).collect();
        prop_assert_eq!(all(&mut file), expected);
        let ids: Vec<i64> = model.into_keys().collect();
        prop_assert_eq!(file.remove_if_done(&[]).unwrap(), ids.is_empty());
        if !ids.is_empty() {
            file.commit(&[], &ids).unwrap();
            prop_assert!(file.remove_if_done(&[]).unwrap());
        }
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Cut off or with a flipped bit, in the file or in its log: what is read is what was written, or
    /// nothing.
    #[test]
    fn each_row_read_from_a_damaged_file_was_written(log in any::<bool>(), cut in any::<bool>(), at in 0..1_000_000_usize, bit in 0..8_u32) {
        let dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), "damage", "there").unwrap();
        let add: Vec<_> = (0..20).map(|tag| body(tag, 20)).collect();
        file.commit(&add, &[]).unwrap();
        let (copy, path) = as_if_killed(&file.path);
        let hurt = path.with_extension(if log { "spool-wal" } else { "spool" });
        let mut bytes = fs::read(&hurt).unwrap();
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        fs::write(&hurt, bytes).unwrap();
        if let Some(mut found) = adopt(&path) {
            let result = found.check();
            let written: Vec<LogRow> = add.iter().flat_map(|batch| codec::decode(&batch.body).rows).collect();
            for salvaged in salvage_all(&mut found) {
                let rows = codec::decode(&salvaged.batch.body).rows;
                prop_assert!(rows.iter().all(|row| written.contains(row)), "{:?}", result);
            }
        }
        drop(copy);
    }

    /// A damaged log never goes unnoticed: what was committed is all there, or the file counts as damaged.
    #[test]
    fn a_flipped_bit_in_the_log_loses_nothing_silently(at in 0..1_000_000_usize, bit in 0..8_u32) {
        let dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), "log", "there").unwrap();
        for tag in 0..6 {
            file.commit(&[body(tag, 3)], &[]).unwrap();
        }
        let (copy, path) = as_if_killed(&file.path);
        let log = path.with_extension("spool-wal");
        let mut bytes = fs::read(&log).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        fs::write(&log, bytes).unwrap();
        let mut found = adopt(&path).unwrap();
        match found.check() {
            Ok(usage) => prop_assert_eq!(usage.batches, 6, "byte {} of the log", at),
            Err(error) => prop_assert!(matches!(error, StoreError::Corrupt(_)), "{:?}", error),
        }
        drop(copy);
    }
}

#[test]
fn a_file_in_use_is_not_adopted_and_one_that_is_gone_is_not_created() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "used", "there").unwrap();
    let path = file.path.clone();
    assert!(adopt(&path).is_none());
    assert!(matches!(look(&path), Look::Whole(glance) if glance.in_use && glance.target == "there"));
    assert!(file.remove_if_done(&[]).unwrap());
    assert!(adopt(&path).is_none());
    assert!(matches!(look(&path), Look::Unreadable(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "private", "there").unwrap();
    file.commit(&[body(1, 1)], &[]).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn an_emptied_file_returns_its_space() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "large", "there").unwrap();
    let ids = file.commit(&[batch(vec![b'x'; 24 << 20])], &[]).unwrap().ids;
    let size = || {
        fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    assert!(size() > 24 << 20);
    file.commit(&[], &ids).unwrap();
    assert!(size() < 1 << 20, "{}", size());
}

/// Found by the fuzzer: SQLite returned the same batches endlessly, until the memory was used up.
#[test]
fn a_tree_that_leads_in_circles_is_read_once() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "circle", "there").unwrap();
    let bodies = [*b"aaaaaa", *b"bbbbbb", *b"cccccc", *b"dddddd", *b"eeeeee"];
    file.commit(
        &bodies.map(|body| Batch {
            rows: 7,
            bytes: 6,
            body: body.to_vec(),
        }),
        &[],
    )
    .unwrap();
    let path = file.path.clone();
    drop(file);
    // The last cell: 11 bytes, number 5, a header of 4 bytes with its types, 7 entries, the body.
    let mut bytes = fs::read(&path).unwrap();
    let cell = b"\x0b\x05\x04\x00\x01\x18\x07eeeeee";
    let at = bytes.windows(cell.len()).position(|found| found == cell).unwrap();
    bytes[at + 1] = 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(look(&path), Look::Unreadable(_)));
    let mut file = adopt(&path).unwrap();
    assert!(matches!(file.check(), Err(StoreError::Corrupt(_))));
    let ids: Vec<i64> = salvage_all(&mut file).iter().map(|batch| batch.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn looking_at_a_file_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "seen", "there").unwrap();
    file.commit(&[body(1, 3)], &[]).unwrap();
    let (killed, path) = as_if_killed(&file.path);
    drop(file);
    let contents = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        // SQLite keeps the index of a log beside it; it holds nothing.
        let paths = paths.filter(|path| path.extension().unwrap() != "spool-shm");
        paths
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    };
    for dir in [dir.path(), killed.path()] {
        let before = contents(dir);
        assert!(matches!(look(&dir.join("seen.spool")), Look::Whole(glance) if glance.content.entries == 3));
        let for_another = Directory::new(dir, None)
            .adopt("seen.spool", Some("elsewhere"))
            .unwrap();
        assert!(matches!(for_another, Adoption::OtherTarget));
        let mut after = contents(dir);
        // The lock, which a killed process leaves beside its file.
        after.remove(&path.with_extension("lock"));
        after.remove(&dir.join("seen.lock"));
        let before: BTreeMap<_, _> = before
            .into_iter()
            .filter(|(path, _)| path.extension().unwrap() != "lock")
            .collect();
        assert_eq!(after, before);
    }
}

#[test]
fn a_file_that_was_removed_acknowledges_nothing_and_can_still_be_read() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "gone", "there").unwrap();
    file.commit(&[body(1, 3)], &[]).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(matches!(
        file.commit(&[body(2, 3)], &[]),
        Err(StoreError::Gone(_))
    ));
    assert!(
        matches!(file.commit(&[], &[]), Err(StoreError::Gone(_))),
        "also without a change"
    );
    assert_eq!(salvage_all(&mut file).len(), 1);
}

#[test]
fn a_lock_that_was_removed_is_created_again_and_one_that_was_taken_is_noticed() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "cleaned", "there").unwrap();
    let (path, lock) = (file.path.clone(), file.path.with_extension("lock"));
    file.commit(&[body(1, 3)], &[]).unwrap();
    fs::remove_file(&lock).unwrap();
    file.commit(&[body(2, 3)], &[]).unwrap();
    assert!(adopt(&path).is_none(), "it is locked again");
    fs::remove_file(&lock).unwrap();
    let mut adopted = adopt(&path).unwrap();
    assert_eq!(adopted.check().unwrap().batches, 2);
    assert!(matches!(
        file.commit(&[body(3, 3)], &[]),
        Err(StoreError::Gone(_))
    ));
}

/// Between the adopter's last look and its removal the owner, whose lock was removed, may append.
#[test]
fn a_file_with_batches_is_not_removed_though_its_adopter_emptied_it() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "shared", "there").unwrap();
    let ids = file.commit(&[body(1, 3)], &[]).unwrap().ids;
    fs::remove_file(file.path.with_extension("lock")).unwrap();
    let mut adopted = adopt(&file.path).unwrap();
    adopted.check().unwrap();
    adopted.commit(&[], &ids).unwrap();
    // The owner's statement was under way when its lock was taken.
    let conn = file.conn.as_mut().unwrap();
    let late = (batches::entries.eq(1), batches::body.eq(body(2, 1).body));
    diesel::insert_into(batches::table)
        .values(late)
        .execute(conn)
        .unwrap();
    assert!(!adopted.remove_if_done(&[]).unwrap());
    assert_eq!(all(&mut adopted).len(), 1);
}

#[test]
fn a_lock_is_taken_by_its_name_and_not_by_a_removed_file() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("x.spool");
    let first = Lock::try_take(&data).unwrap().unwrap();
    assert!(Lock::try_take(&data).unwrap().is_none());
    fs::remove_file(data.with_extension("lock")).unwrap();
    let second = Lock::try_take(&data).unwrap().unwrap();
    first.remove();
    assert!(
        data.with_extension("lock").exists(),
        "the first one removes only what is its own"
    );
    assert!(Lock::is_held(&data).unwrap());
    drop(second);
    assert!(!Lock::is_held(&data).unwrap());
}

#[test]
fn an_unfinished_file_that_a_crash_left_is_removed() {
    let name = |n: u32, extension: &str| format!("018f4a5e-0000-7000-8000-00000000000{n}.{extension}");
    let dir = TempDir::new().unwrap();
    let create = |name: &str, statements: &str| {
        let path = dir.path().join(name);
        create_for_owner(&path).unwrap();
        let mut conn = open(&path, SHARED).unwrap();
        conn.batch_execute(statements).unwrap();
        // Killed: nothing is closed. The connection is closed with the test.
        conn
    };
    let conns = [
        create(&name(1, "unfinished"), SCHEMA),
        // As older versions left them.
        create(&name(2, "spool"), ""),
        create(&name(3, "spool"), "PRAGMA application_id = 1096109127"),
        create(&name(4, "spool"), SCHEMA),
    ];
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    drop(conns);
    fs::write(copy.path().join(name(5, "lock")), "").unwrap();
    let mut whole = SpoolFile::create(copy.path(), &name(6, "spool")[..36], "there").unwrap();
    whole.commit(&[body(1, 1)], &[]).unwrap();
    drop(whole);
    let mut directory = Directory::new(copy.path(), None);
    directory.sweep().unwrap();
    let names = directory.list().unwrap();
    assert_eq!(names, [2, 3, 4, 6].map(|n| name(n, "spool")));
    for name in &names[..3] {
        assert!(
            matches!(directory.adopt(name, Some("there")).unwrap(), Adoption::Missing),
            "{name}"
        );
    }
    let mut left: Vec<_> = fs::read_dir(copy.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [name(6, "lock").as_str(), name(6, "spool").as_str()]);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "newer", "there").unwrap();
    file.commit(&[body(1, 3)], &[]).unwrap();
    file.conn
        .as_mut()
        .unwrap()
        .batch_execute("PRAGMA user_version = 2")
        .unwrap();
    let path = file.path.clone();
    drop(file);
    let before = fs::read(&path).unwrap();
    for target in [Some("there"), None] {
        let adoption = Directory::new(dir.path(), None)
            .adopt("newer.spool", target)
            .unwrap();
        assert!(matches!(adoption, Adoption::NewerVersion(2)));
    }
    assert!(matches!(look(&path), Look::Newer(2)));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn only_what_sqlite_proves_is_damage() {
    let error = |text: &str| {
        let text: Box<dyn diesel::result::DatabaseErrorInformation + Send + Sync> = Box::new(text.to_owned());
        classify(&Error::DatabaseError(
            diesel::result::DatabaseErrorKind::Unknown,
            text,
        ))
    };
    for text in [
        "database is locked",
        "unable to open database file",
        "disk I/O error",
        "too many SQL variables",
    ] {
        assert!(matches!(error(text), StoreError::Transient(_)), "{text}");
    }
    for text in ["database disk image is malformed", "file is not a database"] {
        assert!(matches!(error(text), StoreError::Corrupt(_)), "{text}");
    }
    assert!(matches!(
        error("database or disk is full"),
        StoreError::DiskFull(_)
    ));
}

#[test]
fn a_file_is_removed_only_if_every_batch_in_it_is_done() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "done", "there").unwrap();
    let ids = file
        .commit(&[body(1, 2), body(2, 2), body(3, 2)], &[])
        .unwrap()
        .ids;
    assert!(!file.remove_if_done(&ids[1..]).unwrap());
    assert_eq!(all(&mut file).len(), 3);
    file.commit(&[], &ids[..1]).unwrap();
    assert!(
        file.remove_if_done(&ids).unwrap(),
        "one of them is removed already"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_new_file_takes_another_name_if_its_lock_is_taken() {
    let dir = TempDir::new().unwrap();
    let writer = uuid::Uuid::now_v7();
    let sweeper = Lock::try_take(&dir.path().join(format!("{writer}.spool")))
        .unwrap()
        .unwrap();
    let (name, file) = Directory::new(dir.path(), Some(writer)).create("there").unwrap();
    assert_ne!(name, format!("{writer}.spool"));
    assert!(file.path().exists());
    drop(sweeper);
}
