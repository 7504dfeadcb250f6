//! Entries that the database does not accept are stored in the spool, and written exactly once later.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use db_services::audit::spool::{self, Quarantine, ReplayScope, SpoolState};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{
    AuditEntry, AuditWriter, AuditWriterBuilder, Delivery, DropReason, Durability, RetryPolicy, WriterGuard,
};
use tempfile::TempDir;

use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for};

/// Retries and spills sooner than by default.
pub fn fast_retry() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(5);
    policy.longest_pause = Duration::from_millis(50);
    policy.spill_after = Duration::from_millis(20);
    policy
}

fn spilling(database: &MemoryDatabase, dir: &Path) -> AuditWriterBuilder {
    database
        .writer()
        .retry(fast_retry())
        .durability(Durability::Spill(dir.to_owned()))
}

fn ahead(database: &MemoryDatabase, dir: &Path) -> AuditWriterBuilder {
    database
        .writer()
        .retry(fast_retry())
        .durability(Durability::WriteAhead(dir.to_owned()))
}

fn start(builder: AuditWriterBuilder) -> (AuditWriter, WriterGuard) {
    builder.receipt_timeout(TIMEOUT).start().unwrap()
}

/// The numbers of the stored entries; each must be stored once.
fn stored(database: &MemoryDatabase) -> BTreeSet<usize> {
    let all: Vec<usize> = database
        .entries()
        .iter()
        .map(|entry| entry.resource_id.as_ref().unwrap().parse().unwrap())
        .collect();
    let once: BTreeSet<usize> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len(), "each once");
    once
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The number of entries in intact files.
fn pending(dir: &Path) -> u64 {
    let entries = |state| match state {
        SpoolState::Waiting { entries, .. } => entries,
        SpoolState::Damaged => 0,
        other => panic!("{other:?}"),
    };
    spool::status(dir)
        .unwrap()
        .into_iter()
        .map(|file| entries(file.state))
        .sum()
}

#[tokio::test]
async fn entries_of_an_outage_are_spooled_and_replayed_while_new_entries_are_written() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let (writer, guard) = start(spilling(&database, dir.path()));
    database.fail(Failure::Unreachable);
    assert_eq!(writer.write_all(numbered(2_500)).await, Delivery::Spooled);
    assert_eq!(writer.stats().spooled, 2_500);
    wait_for("an empty queue", async || writer.stats().queued == 0).await;
    database.recover();
    for entry in numbered(5_000).skip(2_500) {
        drop(writer.write(entry));
    }
    wait_for("the replay", async || writer.stats().committed == 5_000).await;
    let stats = writer.stats();
    assert_eq!((stats.spooled, stats.dropped), (0, 0));
    assert!(stats.replayed >= 2_500 && stats.retries > 0, "{stats:?}");
    assert_eq!(stored(&database), (0..5_000).collect());
    assert_eq!(guard.shutdown(TIMEOUT).await.committed, 5_000);
    assert_eq!(files(dir.path()), [""; 0], "nothing is left behind");
}

#[tokio::test]
async fn a_receipt_of_write_ahead_resolves_at_the_sync_or_the_commit() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let (writer, guard) = start(ahead(&database, dir.path()));
    let delivery = writer.write(AuditEntry::new("up")).await;
    assert!(delivery.is_durable(), "{delivery}");
    database.fail(Failure::Unreachable);
    for entry in numbered(20) {
        assert_eq!(writer.write(entry).await, Delivery::Spooled);
    }
    assert_eq!(
        writer.write_all(numbered(3_000).skip(20)).await,
        Delivery::Spooled
    );
    database.recover();
    wait_for("the replay", async || writer.stats().committed == 3_001).await;
    drop(guard);
    assert_eq!(database.entries().len(), 3_001);
    assert_eq!(files(dir.path()), [""; 0]);
}

#[tokio::test]
async fn entries_left_by_a_shutdown_are_replayed_at_the_next_start() {
    for durability in [spilling, ahead] {
        let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
        database.fail(Failure::Unreachable);
        let (writer, guard) = start(durability(&database, dir.path()));
        for entry in numbered(1_500) {
            drop(writer.write(entry));
        }
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!(
            (report.spooled, report.lost, report.unknown, report.pending),
            (1_500, 0, 0, 0)
        );
        assert_eq!(
            pending(dir.path()),
            1_502,
            "the entries, and the records of start and stop"
        );
        database.recover();
        let (writer, guard) = start(durability(&database, dir.path()));
        wait_for("the replay", async || writer.stats().replayed == 1_500).await;
        // Not by the status of the spool: a reader of a file that is being removed may create its -shm file again.
        wait_for("the record of the stop", async || {
            let rows = database.rows();
            rows.iter().any(|row| row.action == "audit.writer_stopped")
        })
        .await;
        assert_eq!(
            writer.stats().submitted,
            0,
            "entries of another writer are not counted"
        );
        drop(guard);
        assert_eq!(stored(&database), (0..1_500).collect());
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn writers_that_share_a_directory_leave_each_others_files_alone() {
    let (first, second, dir) = (
        MemoryDatabase::new(),
        MemoryDatabase::new(),
        TempDir::new().unwrap(),
    );
    first.fail(Failure::Unreachable);
    let (one, one_guard) = start(ahead(&first, dir.path()));
    assert_eq!(one.write_all(numbered(100)).await, Delivery::Spooled);
    let (two, two_guard) = start(ahead(&second, dir.path()));
    assert!(two.write(AuditEntry::new("x")).await.is_durable());
    drop(two_guard);
    assert_eq!(second.entries().len(), 1, "the first's file is in use");
    first.recover();
    wait_for("the replay", async || one.stats().committed == 100).await;
    drop(one_guard);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_for_another_database_are_not_adopted() {
    let (db, dir) = (TestDb::sqlite().await, TempDir::new().unwrap());
    let memory = MemoryDatabase::new();
    memory.fail(Failure::Unreachable);
    let (writer, guard) = start(spilling(&memory, dir.path()));
    drop(writer.write_all(numbered(10)));
    assert_eq!(guard.shutdown(TIMEOUT).await.spooled, 10);
    let (writer, guard) = start(db.builder().durability(Durability::Spill(dir.path().to_owned())));
    assert_eq!(writer.write(AuditEntry::new("mine")).await, Delivery::Committed);
    drop(guard);
    assert_eq!(db.count().await, 1);
    assert_eq!(pending(dir.path()), 12);
    // Only a manual replay may write them.
    let replayed = spool::replay(dir.path(), &db.database, ReplayScope::SameDatabase, |_| {})
        .await
        .unwrap();
    assert_eq!((replayed.left, replayed.entries), (1, 0));
    let replayed = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {})
        .await
        .unwrap();
    assert_eq!(
        (replayed.files, replayed.entries, replayed.failure),
        (1, 10, None)
    );
    assert_eq!(db.count().await, 11);
    assert_eq!(files(dir.path()), [""; 0]);
}

/// Writes batches of 100 entries to a spool file and damages a page in its middle. Returns the number of
/// entries.
pub async fn write_damaged_spool(database: &MemoryDatabase, dir: &Path) -> usize {
    database.fail(Failure::Unreachable);
    let (writer, guard) = start(ahead(database, dir));
    for batch in numbered(3_000).collect::<Vec<_>>().chunks(100) {
        assert_eq!(writer.write_all(batch.to_vec()).await, Delivery::Spooled);
    }
    guard.shutdown(TIMEOUT).await;
    let name = files(dir)
        .into_iter()
        .find(|name| name.ends_with(".spool"))
        .unwrap();
    let mut bytes = std::fs::read(dir.join(&name)).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    std::fs::write(dir.join(name), bytes).unwrap();
    3_000
}

/// Asserts that most entries of a damaged file were recovered, and that the file was renamed.
fn assert_salvaged(found: usize, of: usize, dir: &Path) {
    assert!(found >= of / 2 && found < of, "{found} of {of}");
    let states: Vec<_> = spool::status(dir)
        .unwrap()
        .into_iter()
        .map(|file| file.state)
        .collect();
    assert!(states.contains(&SpoolState::Damaged), "{states:?}");
}

#[tokio::test]
async fn readable_entries_of_a_damaged_file_are_written_and_the_file_is_renamed() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let of = write_damaged_spool(&database, dir.path()).await;
    database.recover();
    let (writer, guard) = start(spilling(&database, dir.path()));
    wait_for("the adoption", async || writer.stats().replayed > 0).await;
    wait_for("the replay", async || pending(dir.path()) == 0).await;
    assert_eq!(
        writer
            .write(AuditEntry::new("later").resource("number", "3000"))
            .await,
        Delivery::Committed
    );
    drop(guard);
    assert_salvaged(stored(&database).len() - 1, of, dir.path());
}

on_both! {
    async fn a_damaged_file_does_not_stop_a_manual_replay(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let of = write_damaged_spool(&MemoryDatabase::new(), dir.path()).await;
        std::fs::write(dir.path().join("00000000-0000-7000-8000-000000000000.spool"), [0xA5; 5_000]).unwrap();
        let replayed = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await.unwrap();
        assert_eq!((replayed.damaged, replayed.files, replayed.failure), (2, 0, None));
        assert_salvaged(db.count().await as usize, of, dir.path());
        let again = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await.unwrap();
        assert_eq!((again.damaged, again.entries), (0, 0));
    }

    async fn a_damaged_line_is_quarantined_and_its_neighbours_are_stored(db: TestDb) {
        let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
        database.fail(Failure::Unreachable);
        let (writer, guard) = start(ahead(&database, dir.path()));
        assert_eq!(writer.write_all(numbered(10)).await, Delivery::Spooled);
        guard.shutdown(TIMEOUT).await;
        let name = files(dir.path()).into_iter().find(|name| name.ends_with(".spool")).unwrap();
        let mut bytes = std::fs::read(dir.path().join(&name)).unwrap();
        let (written, damaged) = (br#""resource_id":"7""#, br#""resource_id":"8""#);
        let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(written)).collect();
        assert_eq!(places.len(), 1);
        bytes[places[0]..][..damaged.len()].copy_from_slice(damaged);
        std::fs::write(dir.path().join(name), bytes).unwrap();

        let replayed = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await.unwrap();
        assert_eq!((replayed.files, replayed.entries, replayed.failure), (1, 9, None));
        assert_eq!(db.count().await, 9);
        let quarantined = Quarantine::open(dir.path()).unwrap().list().unwrap();
        let [line] = &quarantined[..] else {
            panic!("{quarantined:?}")
        };
        assert!(line.entry.is_none() && line.line.windows(damaged.len()).any(|part| part == damaged), "{line:?}");
    }
}

#[tokio::test]
async fn a_full_spool_falls_back_to_memory_and_a_full_queue_declares_its_losses() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    database.fail(Failure::Unreachable);
    let lost = Arc::new(std::sync::Mutex::new(0));
    let counter = Arc::clone(&lost);
    let (writer, guard) = start(
        spilling(&database, dir.path())
            .spool_bytes(64 << 10)
            .queue_capacity(500)
            .on_loss(move |loss| *counter.lock().unwrap() += loss.count),
    );
    let mut entries = numbered(10_000);
    // The spool is used before the queue is full.
    for entry in entries.by_ref().take(100) {
        drop(writer.write(entry));
    }
    wait_for("the spool", async || writer.stats().spooled > 0).await;
    for entry in entries {
        drop(writer.write(entry));
    }
    let stats = writer.stats();
    assert!(stats.spooled > 0 && stats.dropped > 0, "{stats:?}");
    database.recover();
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!(
        report.committed + report.spooled + report.lost,
        10_000,
        "{report:?}"
    );
    assert_eq!(*lost.lock().unwrap(), report.lost);
    let (_writer, _guard) = start(spilling(&database, dir.path()));
    wait_for("the replay", async || {
        database.entries().len() as u64 == 10_000 - report.lost
    })
    .await;
    stored(&database);
    let declared: u64 = database
        .rows()
        .iter()
        .filter(|row| row.action == "audit.entries_lost")
        .map(|row| row.metadata.parse().unwrap()["count"].as_u64().unwrap())
        .sum();
    assert_eq!(declared, report.lost);
}

#[tokio::test]
async fn rejected_entries_are_quarantined_and_their_neighbours_are_stored() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let refuses = |row: &db_schema::NewAuditLog| row.action == "poison";
    database.fail(Failure::Refuses(Arc::new(refuses)));
    for durability in [spilling, ahead] {
        let (writer, guard) = start(durability(&database, dir.path()));
        let entries = numbered(1_000).enumerate().map(|(n, entry)| match n % 100 {
            99 => AuditEntry::new("poison").resource("number", n.to_string()),
            _ => entry,
        });
        let counts = writer.write_all(entries).counts().await;
        assert_eq!(
            counts.committed + counts.spooled + counts.quarantined,
            1_000,
            "{counts:?}"
        );
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (990, 10, 0));
    }
    assert_eq!(database.entries().len(), 2 * 990);
    let quarantined = Quarantine::open(dir.path()).unwrap().list().unwrap();
    assert_eq!(quarantined.len(), 20);
    assert!(
        quarantined
            .iter()
            .all(|quarantined| quarantined.entry.as_ref().unwrap().action == "poison")
    );
    let declared = database
        .rows()
        .iter()
        .filter(|row| row.action == "audit.entry_quarantined")
        .count();
    assert_eq!(declared, 20);
}

#[tokio::test]
async fn a_rejected_entry_without_a_spool_is_reported_and_declared() {
    let database = MemoryDatabase::new();
    let refuses = |row: &db_schema::NewAuditLog| row.action == "poison";
    database.fail(Failure::Refuses(Arc::new(refuses)));
    let (writer, guard) = start(database.writer());
    let poison = writer.write(AuditEntry::new("poison"));
    let other = writer.write(AuditEntry::new("other"));
    assert_eq!(
        (poison.await, other.await),
        (Delivery::Quarantined, Delivery::Committed)
    );
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!((report.committed, report.quarantined, report.lost), (1, 1, 0));
    let actions: Vec<_> = database.rows().into_iter().map(|row| row.action).collect();
    assert!(actions.contains(&"audit.entry_quarantined".into()), "{actions:?}");
}

#[tokio::test]
async fn a_lost_answer_stores_nothing_twice() {
    let dir = TempDir::new().unwrap();
    for durability in [
        None,
        Some(Durability::Spill(dir.path().into())),
        Some(Durability::WriteAhead(dir.path().into())),
    ] {
        let database = MemoryDatabase::new();
        database.fail(Failure::AnswerLost);
        let (writer, guard) = start(
            database
                .writer()
                .retry(fast_retry())
                .durability(durability.unwrap_or_default()),
        );
        for entry in numbered(3_000) {
            drop(writer.write(entry));
        }
        wait_for("an attempt", async || database.attempts() > 2).await;
        database.recover();
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!(report.committed + report.spooled, 3_000);
        if report.spooled > 0 {
            let (writer, _guard) = start(spilling(&database, dir.path()));
            wait_for("the replay", async || writer.stats().replayed >= report.spooled).await;
        }
        assert_eq!(stored(&database), (0..3_000).collect());
    }
}

#[tokio::test]
async fn a_writer_without_a_spool_declares_entries_beyond_its_queue_as_lost() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let (writer, guard) = start(database.writer().retry(fast_retry()).queue_capacity(1_000));
    let mut dropped = 0;
    for entry in numbered(5_000) {
        let receipt = writer.write(entry);
        if writer.stats().dropped > dropped {
            dropped = writer.stats().dropped;
            assert_eq!(receipt.await, Delivery::Dropped(DropReason::QueueFull));
        }
    }
    assert_eq!(dropped, 4_000);
    assert!(writer.stats().oldest_age > Duration::ZERO);
    database.recover();
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!((report.committed, report.lost), (1_000, 4_000));
    let mut declared = Vec::new();
    for row in database
        .rows()
        .into_iter()
        .filter(|row| row.action == "audit.entries_lost")
    {
        let record = row.metadata.parse().unwrap();
        assert_eq!(record["reason"], "queue_full");
        for range in record["ranges"].as_array().unwrap() {
            declared.extend(range[0].as_u64().unwrap()..=range[1].as_u64().unwrap());
        }
    }
    assert_eq!(declared, (1_001..=5_000).collect::<Vec<_>>());
}

on_both! {
    async fn quarantined_entries_can_be_written_once_the_database_accepts_them(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let refuse = match db.is_postgres() {
            true => "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
            false => "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' BEGIN SELECT RAISE(ABORT, 'rude'); END",
        };
        let fix = match db.is_postgres() {
            true => "ALTER TABLE audit_logs DROP CONSTRAINT polite",
            false => "DROP TRIGGER polite",
        };
        db.sql(refuse).await.unwrap();
        let (writer, guard) = start(db.builder().durability(Durability::Spill(dir.path().into())));
        let entries = || [AuditEntry::new("before"), AuditEntry::new("rude.word").actor("bob"), AuditEntry::new("after")];
        let counts = writer.write_all(entries()).counts().await;
        assert_eq!((counts.committed, counts.quarantined, counts.weakest()), (2, 1, Delivery::Quarantined));
        drop(guard);
        assert_eq!(db.count().await, 2);
        let mut quarantine = Quarantine::open(dir.path()).unwrap();
        let kept = quarantine.list().unwrap();
        assert_eq!((kept.len(), kept[0].entry.as_ref().unwrap().actor_id.as_deref()), (1, Some("bob")));
        assert_eq!(kept[0].sqlstate.as_deref(), db.is_postgres().then_some("23514"));
        let done = quarantine.retry(&db.database, ReplayScope::SameDatabase).await.unwrap();
        assert_eq!((done.stored, done.rejected.values().sum::<u64>()), (0, 1), "{done:?}");
        db.sql(fix).await.unwrap();
        assert_eq!(quarantine.retry(&db.database, ReplayScope::SameDatabase).await.unwrap().stored, 1);
        assert_eq!((db.count().await, quarantine.list().unwrap().len()), (3, 0));
    }
}
