//! The memory of a writer that gets far more entries than it can hold stays within its bound.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use db_services::audit::spool::{self, SpoolState, SpoolStatus};
use db_test::Server;
use tempfile::TempDir;

/// The memory that a writer may take beyond its bound: threads, connections, batches in flight, the allocator's
/// overhead. An estimate with a proportional error shows at a large bound.
const OVERHEAD: u64 = 16 << 20;

/// The kind of the entries, the bytes of the queue, and the number of entries offered.
type Flood = (&'static str, u64, u64);

/// The directory of a spool, and its limit in bytes.
type Spool<'a> = (&'a Path, u64);

/// Runs the application with its database stopped, and checks its memory. A separate process, because other
/// tests allocate memory in this one.
fn flood(url: &str, (kind, bound, entries): Flood, spool: Option<Spool<'_>>) {
    let mut app = Command::new(env!("CARGO_BIN_EXE_app"));
    app.args(["flood", &bound.to_string(), &entries.to_string(), kind]);
    if let Some((dir, limit)) = spool {
        app.arg(dir).arg(limit.to_string());
    }
    let mut app = app
        .env("AUDIT_DATABASE_URL", url)
        .env("RUST_LOG", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(app.stdout.take().unwrap());
    if let Some((dir, limit)) = spool {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "offered\n");
        while spooled_bytes(dir) <= limit / 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    drop(app.stdin.take());
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(app.wait().unwrap().success(), "{text}");
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    let [grown, given, accepted, spooled, most_queued] = numbers[..] else {
        panic!("{text}")
    };
    assert!(
        grown << 10 <= bound + OVERHEAD,
        "{kind} entries: the process grew by {grown} KiB with a bound of {} KiB, spool: {spool:?}",
        bound >> 10
    );
    assert_eq!(given, entries);
    assert!(
        given - accepted > 2 * (accepted - spooled),
        "not many more entries were offered than the writer holds: {text}"
    );
    assert!(
        most_queued > bound / 10 * 8 && most_queued <= bound,
        "the queue was not full: {text}"
    );
}

fn stopped() -> (Server, String) {
    let server = Server::start(&[]).unwrap();
    let url = server.migrated().unwrap();
    server.stop_immediate().unwrap();
    (server, url)
}

#[test]
fn a_writer_without_a_database_keeps_within_the_bound() {
    let (_server, url) = stopped();
    for kind in [
        ("bare", 160 << 20, 1_300_000),
        ("usual", 32 << 20, 200_000),
        ("large", 32 << 20, 30_000),
    ] {
        flood(&url, kind, None);
    }
}

#[test]
fn a_writer_whose_spool_is_full_keeps_within_the_bound() {
    let (_server, url) = stopped();
    for kind in [
        ("bare", 32 << 20, 400_000),
        ("usual", 32 << 20, 200_000),
        ("large", 32 << 20, 30_000),
    ] {
        flood_spool(&url, kind, kind.1 / 8);
    }
}

#[test]
fn a_writer_that_spools_long_texts_keeps_within_the_bound() {
    let (_server, url) = stopped();
    for kind in ["ascii", "control"] {
        flood_spool(&url, (kind, 64 << 20, 150_000), 32 << 20);
    }
}

/// The same with a spool that fills up.
fn flood_spool(url: &str, kind: Flood, limit: u64) {
    let dir = TempDir::new().unwrap();
    flood(url, kind, Some((dir.path(), limit)));
    let files = spool::status(dir.path()).unwrap();
    let [
        SpoolStatus {
            state: SpoolState::Waiting { bytes, .. },
            ..
        },
    ] = &files[..]
    else {
        panic!("{files:?}")
    };
    assert!(
        *bytes <= limit && *bytes > limit / 2,
        "{kind:?}: {bytes} of {limit} bytes"
    );
}

/// The bytes in the spool file; none before it is there.
fn spooled_bytes(dir: &Path) -> u64 {
    let bytes = |file: SpoolStatus| match file.state {
        SpoolState::Waiting { bytes, .. } => bytes,
        _ => 0,
    };
    spool::status(dir).unwrap().into_iter().map(bytes).sum()
}
