//! Entries that the database does not accept are kept in the spool, and written exactly once later.

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

use crate::support::{TestDb, numbered, on_both, wait_for};

pub const PATIENCE: Duration = Duration::from_secs(120);

/// Tries again and spills sooner than by default.
pub fn hasty() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(5);
    policy.longest_pause = Duration::from_millis(50);
    policy.spill_after = Duration::from_millis(20);
    policy
}

fn spilling(database: &MemoryDatabase, dir: &Path) -> AuditWriterBuilder {
    database
        .writer()
        .retry(hasty())
        .durability(Durability::Spill(dir.to_owned()))
}

fn ahead(database: &MemoryDatabase, dir: &Path) -> AuditWriterBuilder {
    database
        .writer()
        .retry(hasty())
        .durability(Durability::WriteAhead(dir.to_owned()))
}

fn start(builder: AuditWriterBuilder) -> (AuditWriter, WriterGuard) {
    builder.start().unwrap()
}

/// The numbers of the entries that the database holds; each must be there once.
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

/// Entries that wait in files that are whole.
fn waiting(dir: &Path) -> u64 {
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
async fn an_outage_goes_to_the_spool_and_is_replayed_while_new_entries_flow() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let (writer, guard) = start(spilling(&database, dir.path()));
    database.fail(Failure::Unreachable);
    assert_eq!(writer.write_all(numbered(2_500)).await, Delivery::Spooled);
    assert_eq!(writer.stats().spooled, 2_500);
    wait_for("room in memory", async || writer.stats().queued == 0).await;
    database.mend();
    for entry in numbered(5_000).skip(2_500) {
        drop(writer.write(entry));
    }
    wait_for("the replay", async || writer.stats().committed == 5_000).await;
    let stats = writer.stats();
    assert_eq!((stats.spooled, stats.dropped), (0, 0));
    assert!(stats.replayed >= 2_500 && stats.retries > 0, "{stats:?}");
    assert_eq!(stored(&database), (0..5_000).collect());
    assert_eq!(guard.shutdown(PATIENCE).await.committed, 5_000);
    assert_eq!(files(dir.path()), [""; 0], "nothing is left behind");
}

#[tokio::test]
async fn write_ahead_resolves_at_the_sync_or_the_commit() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let (writer, guard) = start(ahead(&database, dir.path()).receipt_timeout(PATIENCE));
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
    database.mend();
    wait_for("the replay", async || writer.stats().committed == 3_001).await;
    drop(guard);
    assert_eq!(database.entries().len(), 3_001);
    assert_eq!(files(dir.path()), [""; 0]);
}

#[tokio::test]
async fn what_a_shutdown_cannot_write_is_there_at_the_next_start() {
    for strength in [spilling, ahead] {
        let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
        database.fail(Failure::Unreachable);
        let (writer, guard) = start(strength(&database, dir.path()));
        for entry in numbered(1_500) {
            drop(writer.write(entry));
        }
        let report = guard.shutdown(PATIENCE).await;
        assert_eq!(
            (report.spooled, report.lost, report.unknown, report.pending),
            (1_500, 0, 0, 0)
        );
        assert_eq!(
            waiting(dir.path()),
            1_502,
            "and that the writer started and stopped"
        );
        database.mend();
        let (writer, guard) = start(strength(&database, dir.path()));
        wait_for("the replay", async || writer.stats().replayed == 1_500).await;
        wait_for("the last of it", async || waiting(dir.path()) == 0).await;
        assert_eq!(
            writer.stats().submitted,
            0,
            "what others gave is not counted as its own"
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
    first.mend();
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
    assert_eq!(guard.shutdown(PATIENCE).await.spooled, 10);
    let (writer, guard) =
        start(AuditWriter::builder(db.database.clone()).durability(Durability::Spill(dir.path().to_owned())));
    assert_eq!(writer.write(AuditEntry::new("mine")).await, Delivery::Committed);
    drop(guard);
    assert_eq!(db.count().await, 1);
    assert_eq!(waiting(dir.path()), 12);
    // By hand, where it is meant.
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

/// Leaves batches of 100 entries in a spool file and damages a page in its middle. Gives back how many
/// entries were in it.
pub async fn leave_damaged(database: &MemoryDatabase, dir: &Path) -> usize {
    database.fail(Failure::Unreachable);
    let (writer, guard) = start(ahead(database, dir));
    for batch in numbered(3_000).collect::<Vec<_>>().chunks(100) {
        assert_eq!(writer.write_all(batch.to_vec()).await, Delivery::Spooled);
    }
    guard.shutdown(PATIENCE).await;
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

/// Most of a damaged file arrives, each entry once, and the file lies aside.
fn is_salvaged(found: usize, of: usize, dir: &Path) {
    assert!(found >= of / 2 && found < of, "{found} of {of}");
    let states: Vec<_> = spool::status(dir)
        .unwrap()
        .into_iter()
        .map(|file| file.state)
        .collect();
    assert!(states.contains(&SpoolState::Damaged), "{states:?}");
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_file_is_written_and_the_rest_is_set_aside() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let of = leave_damaged(&database, dir.path()).await;
    database.mend();
    let (writer, guard) = start(spilling(&database, dir.path()));
    wait_for("the adoption", async || writer.stats().replayed > 0).await;
    wait_for("the replay", async || waiting(dir.path()) == 0).await;
    assert_eq!(
        writer
            .write(AuditEntry::new("later").resource("number", "3000"))
            .await,
        Delivery::Committed
    );
    drop(guard);
    is_salvaged(stored(&database).len() - 1, of, dir.path());
}

on_both! {
    async fn a_damaged_file_does_not_stop_a_replay_by_hand(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let of = leave_damaged(&MemoryDatabase::new(), dir.path()).await;
        std::fs::write(dir.path().join("00000000-0000-7000-8000-000000000000.spool"), [0xA5; 5_000]).unwrap();
        let replayed = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await.unwrap();
        assert_eq!((replayed.damaged, replayed.files, replayed.failure), (2, 0, None));
        is_salvaged(db.count().await as usize, of, dir.path());
        let again = spool::replay(dir.path(), &db.database, ReplayScope::AnyDatabase, |_| {}).await.unwrap();
        assert_eq!((again.damaged, again.entries), (0, 0));
    }
}

#[tokio::test]
async fn a_full_spool_falls_back_to_memory_and_a_full_queue_declares_its_losses() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    database.fail(Failure::Unreachable);
    let heard = Arc::new(std::sync::Mutex::new(0));
    let hearing = Arc::clone(&heard);
    let (writer, guard) = start(
        spilling(&database, dir.path())
            .spool_bytes(64 << 10)
            .queue_capacity(500)
            .on_loss(move |loss| *hearing.lock().unwrap() += loss.count),
    );
    for entry in numbered(10_000) {
        drop(writer.write(entry));
        if writer.stats().dropped == 0 {
            // Slow enough for the spool to be used first.
            tokio::time::sleep(Duration::from_micros(10)).await;
        }
    }
    let stats = writer.stats();
    assert!(stats.spooled > 0 && stats.dropped > 0, "{stats:?}");
    database.mend();
    let report = guard.shutdown(PATIENCE).await;
    assert_eq!(
        report.committed + report.spooled + report.lost,
        10_000,
        "{report:?}"
    );
    assert_eq!(*heard.lock().unwrap(), report.lost);
    let (_writer, _guard) = start(spilling(&database, dir.path()));
    wait_for("the rest", async || {
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
async fn refused_entries_are_kept_aside_and_their_neighbours_arrive() {
    let (database, dir) = (MemoryDatabase::new(), TempDir::new().unwrap());
    let refuses = |row: &db_schema::NewAuditLog| row.action == "poison";
    database.fail(Failure::Refuses(Arc::new(refuses)));
    for strength in [spilling, ahead] {
        let (writer, guard) = start(strength(&database, dir.path()));
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
        let report = guard.shutdown(PATIENCE).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (990, 10, 0));
    }
    assert_eq!(database.entries().len(), 2 * 990);
    let kept = Quarantine::open(dir.path()).unwrap().list().unwrap();
    assert_eq!(kept.len(), 20);
    assert!(
        kept.iter()
            .all(|kept| kept.entry.as_ref().unwrap().action == "poison")
    );
    let declared = database
        .rows()
        .iter()
        .filter(|row| row.action == "audit.entry_quarantined")
        .count();
    assert_eq!(declared, 20);
}

#[tokio::test]
async fn without_a_spool_a_refused_entry_is_told_and_declared() {
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
    let report = guard.shutdown(PATIENCE).await;
    assert_eq!((report.committed, report.quarantined, report.lost), (1, 1, 0));
    let actions: Vec<_> = database.rows().into_iter().map(|row| row.action).collect();
    assert!(actions.contains(&"audit.entry_quarantined".into()), "{actions:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_doubles_nothing() {
    let dir = TempDir::new().unwrap();
    for strength in [
        None,
        Some(Durability::Spill(dir.path().into())),
        Some(Durability::WriteAhead(dir.path().into())),
    ] {
        let database = MemoryDatabase::new();
        database.fail(Failure::AnswerLost);
        let (writer, guard) = start(
            database
                .writer()
                .retry(hasty())
                .durability(strength.unwrap_or_default()),
        );
        for entry in numbered(3_000) {
            drop(writer.write(entry));
        }
        wait_for("an attempt", async || database.attempts() > 2).await;
        database.mend();
        let report = guard.shutdown(PATIENCE).await;
        assert_eq!(report.committed + report.spooled, 3_000);
        if report.spooled > 0 {
            let (writer, _guard) = start(spilling(&database, dir.path()));
            wait_for("the replay", async || writer.stats().replayed >= report.spooled).await;
        }
        assert_eq!(stored(&database), (0..3_000).collect());
    }
}

#[tokio::test]
async fn memory_alone_holds_what_fits_and_declares_the_rest() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let (writer, guard) = start(database.writer().retry(hasty()).queue_capacity(1_000));
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
    database.mend();
    let report = guard.shutdown(PATIENCE).await;
    assert_eq!((report.committed, report.lost), (1_000, 4_000));
    let mut declared = Vec::new();
    for row in database
        .rows()
        .into_iter()
        .filter(|row| row.action == "audit.entries_lost")
    {
        let said = row.metadata.parse().unwrap();
        assert_eq!(said["reason"], "queue_full");
        for range in said["ranges"].as_array().unwrap() {
            declared.extend(range[0].as_u64().unwrap()..=range[1].as_u64().unwrap());
        }
    }
    assert_eq!(declared, (1_001..=5_000).collect::<Vec<_>>());
}

on_both! {
    async fn quarantined_entries_can_be_written_once_the_database_is_mended(db: TestDb) {
        let dir = TempDir::new().unwrap();
        let refuse = match db.is_postgres() {
            true => "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
            false => "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' BEGIN SELECT RAISE(ABORT, 'rude'); END",
        };
        let mend = match db.is_postgres() {
            true => "ALTER TABLE audit_logs DROP CONSTRAINT polite",
            false => "DROP TRIGGER polite",
        };
        db.sql(refuse).await.unwrap();
        let (writer, guard) = start(AuditWriter::builder(db.database.clone()).durability(Durability::Spill(dir.path().into())));
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
        db.sql(mend).await.unwrap();
        assert_eq!(quarantine.retry(&db.database, ReplayScope::SameDatabase).await.unwrap().stored, 1);
        assert_eq!((db.count().await, quarantine.list().unwrap().len()), (3, 0));
    }
}
