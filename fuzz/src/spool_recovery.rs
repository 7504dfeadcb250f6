//! Checks that the replay of a damaged spool file stores each entry at most once, invents none, and ends.
//!
//! An even first byte of the input damages an intact file with the rest of the input. An odd one puts the rest,
//! as lines with a correct checksum, into an intact file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use db_services::audit::spool::{self, ReplayScope};
use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The bytes of an intact spool file, and the ids of its entries.
struct IntactFile {
    bytes: Vec<u8>,
    ids: HashSet<String>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The same in each run: an input that failed once fails again.
static INTACT: LazyLock<IntactFile> = LazyLock::new(|| {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("00000000-0000-7000-8000-000000000000.spool");
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    conn.batch_execute(SCHEMA).unwrap();
    let mut ids = HashSet::new();
    for batch in 0..20 {
        let mut body = Vec::new();
        for n in 0..10 {
            let id = format!("018f3a2e-7b1c-7def-8000-{:012}", batch * 10 + n);
            let line = format!(
                r#"{{"id":"{id}","created_at":1700000000000000,"action":"batch.{batch}","outcome":"success","metadata":"{{}}","writer_seq":{n}}}"#
            );
            body.extend_from_slice(&with_sum(line.as_bytes()));
            ids.insert(id);
        }
        diesel::sql_query("INSERT INTO batches (entries, body) VALUES (10, $1)")
            .bind::<diesel::sql_types::Binary, _>(body)
            .execute(&mut conn)
            .unwrap();
    }
    drop(conn);
    IntactFile {
        bytes: std::fs::read(path).unwrap(),
        ids,
    }
});

/// As `spool/file.rs` has it.
const SCHEMA: &str = "PRAGMA application_id = 1096109127; PRAGMA user_version = 1; \
     CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; \
     CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, entries INTEGER NOT NULL, body BLOB NOT NULL); \
     INSERT INTO about VALUES ('target', 'there'); PRAGMA journal_mode = WAL;";

/// Panics if a promise is broken.
pub fn check(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("00000000-0000-7000-8000-000000000000.spool");
    let damage = choice % 2 == 0;
    if damage {
        std::fs::write(&path, damaged(rest)).unwrap();
    } else {
        std::fs::write(&path, &INTACT.bytes).unwrap();
        put_lines(&path, rest);
    }
    runtime().block_on(async {
        let _ = spool::status(dir.path()).unwrap();
        let database = Database::from_url("sqlite::memory:").unwrap();
        database.migrate().await.unwrap();
        let Ok(done) = spool::replay(dir.path(), &database, ReplayScope::AnyDatabase, |_| {}).await else {
            return;
        };
        assert_eq!(done.failure, None);
        let mut conn = database.connection().await.unwrap();
        let rows = db_services::audit::latest(&mut conn, 10_000).await.unwrap();
        if damage {
            let ids: HashSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
            assert_eq!(ids.len(), rows.len(), "each once");
            assert!(ids.is_subset(&INTACT.ids), "nothing is invented");
            assert!(
                !rest.is_empty() || ids == INTACT.ids,
                "an intact file loses nothing"
            );
        }
        let again = spool::replay(dir.path(), &database, ReplayScope::AnyDatabase, |_| {})
            .await
            .unwrap();
        // A file whose version was damaged looks like one of a newer program, which is left alone.
        let rest = (
            again.files,
            again.entries,
            again.quarantined,
            again.damaged,
            again.failure,
        );
        assert_eq!(rest, (0, 0, 0, 0, None), "nothing is left");
    });
}

/// The intact file with bytes changed: three bytes of the input say where, the fourth to what. An odd
/// number of bytes at the end cuts it off.
fn damaged(edits: &[u8]) -> Vec<u8> {
    let mut bytes = INTACT.bytes.clone();
    let chunks = edits.chunks_exact(4);
    if let [low, high, ..] = chunks.remainder() {
        bytes.truncate(usize::from(*high) << 8 | usize::from(*low));
    }
    for edit in chunks {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % INTACT.bytes.len();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = edit[3];
        }
    }
    bytes
}

/// A line with its checksum before it.
fn with_sum(line: &[u8]) -> Vec<u8> {
    [format!("{:08x} ", crc32fast::hash(line)).as_bytes(), line, b"\n"].concat()
}

/// Replaces the first batch by these lines, each with its checksum.
fn put_lines(path: &Path, input: &[u8]) {
    let mut body = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        body.extend_from_slice(&with_sum(line));
    }
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    diesel::sql_query("UPDATE batches SET body = $1 WHERE id = (SELECT min(id) FROM batches)")
        .bind::<diesel::sql_types::Binary, _>(body)
        .execute(&mut conn)
        .unwrap();
}
