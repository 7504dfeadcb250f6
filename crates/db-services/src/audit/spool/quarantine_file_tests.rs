//! The file of the quarantine loses no row that it has kept, whatever happens to it.

use std::fs;

use audit_core::spool::Store;
use tempfile::TempDir;

use super::tests::{actions, row};
use super::*;
use crate::audit::spool::store::Directory;

const FILE: &str = "quarantine.sqlite";

/// What older versions executed when they opened the file.
const FORMER: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     CREATE TABLE IF NOT EXISTS quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, set_aside_at INTEGER NOT NULL, \
     reason TEXT NOT NULL, sqlstate TEXT, line BLOB NOT NULL, UNIQUE (line));";

/// The files of a directory with this in their names, and what is in them.
fn contents(dir: &Path, part: &str) -> BTreeMap<String, Vec<u8>> {
    names(dir)
        .unwrap()
        .into_iter()
        .filter(|name| name.contains(part) && !name.ends_with("-shm"))
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

/// The files as a killed process leaves them.
fn as_if_killed(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for (name, bytes) in contents(dir, FILE) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

/// The files of a process of an older version that was killed: six rows, all of them in the log.
fn former() -> TempDir {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let mut conn = SqliteConnection::establish(&path.display().to_string()).unwrap();
    conn.batch_execute(FORMER).unwrap();
    for n in 1..=6 {
        let body = codec::encode(std::iter::once(&*row(&format!("former.{n}"))));
        diesel::insert_into(quarantine::table)
            .values((
                quarantine::quarantined_at.eq(n),
                quarantine::reason.eq("rude"),
                quarantine::line.eq(body.trim_ascii_end()),
            ))
            .execute(&mut conn)
            .unwrap();
    }
    as_if_killed(dir.path())
}

/// A new file takes the place of the damaged one, which is renamed as it is.
fn assert_renamed(dir: &Path) {
    let before = contents(dir, FILE);
    for opened in Quarantine::open_all(dir).unwrap() {
        let error = opened.unwrap_err();
        assert!(
            matches!(error.source, SpoolErrorKind::Store(StoreError::Corrupt(_))),
            "{error}"
        );
    }
    assert!(contents(dir, FILE) == before, "looking changes nothing");
    let mut directory = Directory::new(dir, None);
    directory.quarantine(&[row("later")], "rude", None).unwrap();
    assert_eq!(actions(dir), ["later"]);
    let damaged = contents(dir, ".damaged");
    assert!(damaged.values().eq(before.values()), "it is renamed as it is");
    let renamed = Quarantine::damaged(dir).unwrap();
    assert_eq!(renamed.len(), 1);
    assert!(
        damaged
            .keys()
            .all(|name| name.starts_with(&file_name(&renamed[0])))
    );
}

#[test]
fn each_commit_of_the_quarantine_is_synced_to_the_file_itself() {
    let dir = TempDir::new().unwrap();
    let mut quarantine = Quarantine::open(dir.path()).unwrap();
    let synchronous = sql::<BigInt>("SELECT synchronous FROM pragma_synchronous");
    assert_eq!(
        synchronous.get_result::<i64>(&mut quarantine.conn),
        Ok(3),
        "EXTRA"
    );
    for action in ["first", "second"] {
        quarantine.keep(&row(action), "rude", None).unwrap();
        assert_eq!(names(dir.path()).unwrap(), [FILE]);
        assert_eq!(actions(as_if_killed(dir.path()).path()).last().unwrap(), action);
    }
}

/// As a program that cleans directories does.
#[test]
fn a_row_is_kept_although_the_files_beside_the_quarantine_are_removed_or_truncated() {
    for is_removed in [true, false] {
        let dir = TempDir::new().unwrap();
        let mut directory = Directory::new(dir.path(), None);
        for n in 0..4 {
            directory
                .quarantine(&[row(&format!("row.{n}"))], "rude", None)
                .unwrap();
            for name in names(dir.path()).unwrap() {
                let path = dir.path().join(&name);
                match name == FILE {
                    true => {}
                    false if is_removed => fs::remove_file(path).unwrap(),
                    false => drop(fs::File::create(path).unwrap()),
                }
            }
        }
        let killed = as_if_killed(dir.path());
        assert_eq!(actions(killed.path()), ["row.0", "row.1", "row.2", "row.3"]);
    }
}

#[test]
fn a_quarantine_of_an_older_version_is_brought_up_to_date() {
    let dir = former();
    let mut quarantine = Quarantine::open_for(dir.path(), Some("sqlite:///here")).unwrap();
    let kept = quarantine.list().unwrap();
    assert_eq!(
        kept.iter().map(|kept| kept.id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    assert!(
        kept.iter()
            .all(|kept| kept.target.is_none() && kept.reason == "rude")
    );
    quarantine.keep(&row("new"), "rude", Some("23514")).unwrap();
    let last = quarantine.list().unwrap().pop().unwrap();
    assert_eq!((last.id, last.target.as_deref()), (7, Some("sqlite:///here")));
    drop(quarantine);
    assert_eq!(names(dir.path()).unwrap(), [FILE], "no log is left");
    assert_eq!(actions(dir.path()).len(), 7);
}

/// It does not know of targets, and its table is found again by its name.
#[test]
fn a_process_of_an_older_version_keeps_rows_in_a_new_quarantine() {
    let dir = TempDir::new().unwrap();
    drop(Quarantine::open(dir.path()).unwrap());
    let path = dir.path().join(FILE).display().to_string();
    let mut older = SqliteConnection::establish(&path).unwrap();
    let insert = "INSERT OR IGNORE INTO quarantine (set_aside_at, reason, line) VALUES (1, 'rude', x'00')";
    older.batch_execute(&[FORMER, insert].concat()).unwrap();
    // It keeps its log, and both go on.
    let mut newer = Quarantine::open(dir.path()).unwrap();
    newer.keep(&row("newer"), "rude", None).unwrap();
    assert_eq!(newer.list().unwrap().len(), 2);
    drop(older);
    drop(newer);
    assert_eq!(Quarantine::open(dir.path()).unwrap().list().unwrap().len(), 2);
    assert_eq!(names(dir.path()).unwrap(), [FILE]);
}

#[test]
fn a_quarantine_with_a_flipped_bit_in_its_log_is_renamed() {
    let dir = former();
    let log = dir.path().join(format!("{FILE}-wal"));
    let mut bytes = fs::read(&log).unwrap();
    let middle = 32 + (bytes.len() - 32) / 4120 / 2 * 4120 + 24 + 200;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert_renamed(dir.path());
}

#[test]
fn the_log_of_a_quarantine_that_is_missing_or_cut_off_is_renamed() {
    for rest in [None, Some(0), Some(1_000)] {
        let dir = former();
        let path = dir.path().join(FILE);
        match rest {
            None => fs::remove_file(&path).unwrap(),
            Some(length) => fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length)
                .unwrap(),
        }
        assert!(Quarantine::exists(dir.path()));
        assert_renamed(dir.path());
    }
}

#[test]
fn a_quarantine_with_a_damaged_page_is_renamed() {
    let origin = TempDir::new().unwrap();
    let mut quarantine = Quarantine::open(origin.path()).unwrap();
    for n in 0..100 {
        quarantine.keep(&row(&format!("row.{n}")), "rude", None).unwrap();
    }
    let pages = fs::metadata(origin.path().join(FILE)).unwrap().len() / 4096;
    assert!(pages > 6, "{pages}");
    // The header, and a page in the middle.
    for at in [0, pages / 2 * 4096] {
        let dir = as_if_killed(origin.path());
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + 4096].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        assert_renamed(dir.path());
    }
}

#[test]
fn a_line_is_kept_once_for_each_target() {
    let dir = TempDir::new().unwrap();
    for target in ["sqlite:///a", "sqlite:///b", "sqlite:///a"] {
        let mut quarantine = Quarantine::open_for(dir.path(), Some(target)).unwrap();
        quarantine.keep_line(b"the same", "rude", None).unwrap();
    }
    let kept = Quarantine::open(dir.path()).unwrap().list().unwrap();
    let targets: Vec<_> = kept.iter().map(|kept| kept.target.as_deref()).collect();
    assert_eq!(targets, [Some("sqlite:///a"), Some("sqlite:///b")]);
}

/// As that of another user. A directory cannot be opened by root, either.
#[test]
fn a_quarantine_that_cannot_be_opened_has_another_beside_it() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let mut directory = Directory::new(dir.path(), None);
    directory.quarantine(&[row("kept")], "rude", None).unwrap();
    assert_eq!(actions(dir.path()), ["kept"]);
    let (readable, unreadable): (Vec<_>, Vec<_>) = Quarantine::open_all(dir.path())
        .unwrap()
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!((readable.len(), unreadable.len()), (1, 1));
}

/// Root would write into a file of another program.
#[cfg(unix)]
#[test]
fn a_quarantine_is_not_reached_through_a_link() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let victim = elsewhere.path().join("victim.sqlite");
    let mut conn = SqliteConnection::establish(&victim.display().to_string()).unwrap();
    conn.batch_execute("CREATE TABLE other (a)").unwrap();
    drop(conn);
    let before = fs::read(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, dir.path().join(FILE)).unwrap();
    let mut directory = Directory::new(dir.path(), None);
    directory.quarantine(&[row("kept")], "rude", None).unwrap();
    assert_eq!(actions(dir.path()), ["kept"]);
    let errors: Vec<String> = Quarantine::open_all(dir.path())
        .unwrap()
        .into_iter()
        .filter_map(|open| open.err().map(|error| error.to_string()))
        .collect();
    assert!(
        matches!(&errors[..], [error] if error.contains("a symbolic link")),
        "{errors:?}"
    );
    assert_eq!(fs::read(&victim).unwrap(), before);
    assert_eq!(names(elsewhere.path()).unwrap(), ["victim.sqlite"]);
}

/// A row in a removed file is lost with the process.
#[test]
fn a_row_is_not_reported_as_kept_if_the_quarantine_is_removed_during_its_commit() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let mut directory = Directory::new(dir.path(), None);
    directory.quarantine(&[row("first")], "rude", None).unwrap();
    // A reader delays the end of the commit.
    let mut reader = Quarantine::open(dir.path()).unwrap();
    reader.execute("BEGIN; SELECT count(*) FROM quarantine").unwrap();
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| directory.quarantine(&[row("second")], "rude", None));
        let journal = dir.path().join(format!("{FILE}-journal"));
        let begun = std::time::Instant::now();
        while fs::metadata(&journal).map_or(0, |found| found.len()) == 0 {
            assert!(begun.elapsed().as_secs() < 4, "it does not commit");
            std::thread::yield_now();
        }
        fs::remove_file(&path).unwrap();
        reader.execute("ROLLBACK").unwrap();
        committing.join().unwrap().unwrap_err();
    });
    directory.quarantine(&[row("second")], "rude", None).unwrap();
    assert_eq!(actions(dir.path()), ["second"]);
}
