use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::audit::AuditEntry;
use crate::audit::spool::codec;

fn body(tag: usize, rows: usize) -> Vec<u8> {
    let rows: Vec<_> = (0..rows)
        .map(|n| AuditEntry::new(format!("batch.{tag}")).resource("row", n.to_string()).into())
        .collect();
    codec::encode(&rows)
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

fn all(file: &mut SpoolFile) -> Vec<Stored> {
    let mut seen = Vec::new();
    loop {
        let next = file.oldest(&seen.iter().map(|s: &Stored| s.id).collect::<Vec<_>>()).unwrap();
        if next.is_empty() {
            return seen;
        }
        seen.extend(next);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Appends so many batches, and removes the nth of those there, in one commit.
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
    fn it_does_what_a_map_does_and_survives_being_killed(steps in steps()) {
        let mut dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), "model", "there").unwrap();
        let mut model: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        let mut tag = 0;
        for step in steps {
            match step {
                Step::Change(add, remove) => {
                    let add: Vec<_> = (0..add).map(|_| { tag += 1; (3, body(tag, 3)) }).collect();
                    let remove: Vec<i64> = remove.and_then(|nth| model.keys().nth(nth).copied()).into_iter().collect();
                    let ids = file.change(&add, &remove).unwrap();
                    remove.iter().for_each(|id| drop(model.remove(id)));
                    model.extend(ids.into_iter().zip(add.into_iter().map(|(_, body)| body)));
                }
                Step::Kill => {
                    let (copy, path) = as_if_killed(file.path());
                    file = SpoolFile::adopt(&path).unwrap().unwrap();
                    dir = copy;
                }
            }
            let bytes: usize = model.values().map(Vec::len).sum();
            prop_assert_eq!((file.batches(), file.bytes()), (model.len() as u64, bytes as u64));
        }
        prop_assert_eq!(file.target().unwrap(), "there");
        let expected: Vec<Stored> = model.into_iter().map(|(id, body)| Stored { id, body }).collect();
        prop_assert_eq!(all(&mut file), expected);
        file.remove();
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Cut off or with a flipped bit, in the file or in its log: what is read is what was written, or
    /// nothing.
    #[test]
    fn what_is_read_of_a_damaged_file_was_written(log in any::<bool>(), cut in any::<bool>(), at in 0..1_000_000_usize, bit in 0..8_u32) {
        let dir = TempDir::new().unwrap();
        let mut file = SpoolFile::create(dir.path(), "damage", "there").unwrap();
        let add: Vec<_> = (0..20).map(|tag| (20, body(tag, 20))).collect();
        file.change(&add, &[]).unwrap();
        let (copy, path) = as_if_killed(file.path());
        let hurt = path.with_extension(if log { "spool-wal" } else { "spool" });
        let mut bytes = fs::read(&hurt).unwrap();
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        fs::write(&hurt, bytes).unwrap();
        if let Ok(Some(mut found)) = SpoolFile::adopt(&path) {
            let sound = found.is_sound();
            for stored in found.salvage() {
                let (rows, _) = codec::decode(&stored.body);
                let (written, _) = codec::decode(&add.iter().flat_map(|(_, body)| body.clone()).collect::<Vec<_>>());
                prop_assert!(rows.iter().all(|row| written.contains(row)), "sound: {}", sound);
            }
        }
        drop(copy);
    }
}

#[test]
fn a_file_in_use_is_not_adopted_and_one_that_is_gone_is_not_made() {
    let dir = TempDir::new().unwrap();
    let file = SpoolFile::create(dir.path(), "used", "there").unwrap();
    let path = file.path().to_owned();
    assert!(SpoolFile::adopt(&path).unwrap().is_none());
    assert!(glance(&path).unwrap().in_use);
    file.remove();
    assert!(SpoolFile::adopt(&path).unwrap().is_none());
    assert!(glance(&path).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "private", "there").unwrap();
    file.change(&[(1, body(1, 1))], &[]).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn an_emptied_file_gives_its_space_back() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "large", "there").unwrap();
    let ids = file.change(&[(1, vec![b'x'; 24 << 20])], &[]).unwrap();
    let size = || {
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    assert!(size() > 24 << 20);
    file.change(&[], &ids).unwrap();
    assert!(size() < 1 << 20, "{}", size());
}

#[test]
fn batches_that_fit_one_statement_are_read_together() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "together", "there").unwrap();
    let rows = BATCH_ROWS as i64;
    let large = vec![b'x'; BATCH_BYTES + 1];
    let small = || b"x".to_vec();
    let add =
        [(rows - 1, small()), (1, small()), (1, small()), (1, large), (rows + 1, small()), (1, small())];
    let ids = file.change(&add, &[]).unwrap();
    let mut read = 0;
    for expected in [2, 1, 1, 1, 1] {
        let found: Vec<i64> = file.oldest(&ids[..read]).unwrap().iter().map(|stored| stored.id).collect();
        assert_eq!(found, ids[read..read + expected]);
        read += expected;
    }
    assert!(file.oldest(&ids).unwrap().is_empty());
}

/// Found by the fuzzer: SQLite gave the same batches for ever, until the memory was used up.
#[test]
fn a_tree_that_leads_in_circles_is_read_once() {
    let dir = TempDir::new().unwrap();
    let mut file = SpoolFile::create(dir.path(), "circle", "there").unwrap();
    let bodies = [*b"aaaaaa", *b"bbbbbb", *b"cccccc", *b"dddddd", *b"eeeeee"];
    file.change(&bodies.map(|body| (7, body.to_vec())), &[]).unwrap();
    let path = file.path().to_owned();
    drop(file);
    // The last cell: 11 bytes, number 5, a header of 4 bytes with its types, 7 entries, the body.
    let mut bytes = fs::read(&path).unwrap();
    let cell = b"\x0b\x05\x04\x00\x01\x18\x07eeeeee";
    let at = bytes.windows(cell.len()).position(|found| found == cell).unwrap();
    bytes[at + 1] = 1;
    fs::write(&path, bytes).unwrap();
    assert!(glance(&path).is_err());
    let mut file = SpoolFile::adopt(&path).unwrap().unwrap();
    assert!(!file.is_sound());
    let ids: Vec<i64> = file.salvage().iter().map(|stored| stored.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}
