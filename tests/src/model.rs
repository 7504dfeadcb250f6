//! Every entry is accounted for, through any sequence of failures.
//!
//! Runs a writer on a database that fails as the generated steps say, and compares it with a list of what was
//! written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_services::audit::spool::{self, Quarantine};
use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{
    AuditEntry, AuditWriter, Delivery, DeliveryCounts, Durability, Loss, WriterGuard, WriterReport,
};
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use crate::spool::fast_retry;
use crate::support::{TIMEOUT, wait_for};

/// The capacity of the queue: small, so that it overflows.
const QUEUE_CAPACITY: usize = 60;

#[derive(Clone, Debug)]
enum Step {
    /// Writes this number of entries in separate calls, and does not await them.
    Forget(usize),
    /// Writes this number of entries in one call and awaits their receipt.
    Await(usize),
    Fail(FailureKind),
    Recover,
    /// Waits a short time until everything is settled.
    Flush,
    /// Shuts the writer down and starts another.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum FailureKind {
    Unreachable,
    AnswerLost,
    NotSetUp,
    Refuses,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![
        FailureKind::Unreachable,
        FailureKind::AnswerLost,
        FailureKind::NotSetUp,
        FailureKind::Refuses,
    ]);
    let step = prop_oneof![
        4 => (1..80_usize).prop_map(Step::Forget),
        3 => (1..40_usize).prop_map(Step::Await),
        3 => kind.prop_map(Step::Fail),
        2 => Just(Step::Recover),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

#[derive(Clone, Copy, Debug)]
enum DurabilityKind {
    Memory,
    Spill,
    WriteAhead,
}

impl DurabilityKind {
    fn in_dir(self, dir: &Path) -> Durability {
        match self {
            Self::Memory => Durability::Memory,
            Self::Spill => Durability::Spill(dir.to_owned()),
            Self::WriteAhead => Durability::WriteAhead(dir.to_owned()),
        }
    }
}

/// One writer, from start to shutdown.
struct WriterRun {
    writer: AuditWriter,
    guard: WriterGuard,
    losses: Arc<Mutex<Vec<Loss>>>,
    /// The entries written, in the order of their numbers.
    given: Vec<Uuid>,
}

/// The result of a run.
struct FinishedRun {
    given: Vec<Uuid>,
    lost: BTreeSet<Uuid>,
    report: WriterReport,
}

struct ModelHarness {
    durability: DurabilityKind,
    database: MemoryDatabase,
    dir: TempDir,
    /// The receipts: the ids of one call, and the outcomes.
    receipts: Vec<(Vec<Uuid>, DeliveryCounts)>,
    finished: Vec<FinishedRun>,
}

impl ModelHarness {
    fn start(&self) -> WriterRun {
        let losses = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&losses);
        let (writer, guard) = self
            .database
            .writer()
            .durability(self.durability.in_dir(self.dir.path()))
            .queue_capacity(QUEUE_CAPACITY)
            .retry(fast_retry())
            .receipt_timeout(Duration::from_millis(20))
            .on_loss(move |loss| reported.lock().unwrap().push(loss.clone()))
            .start()
            .unwrap();
        WriterRun {
            writer,
            guard,
            losses,
            given: Vec::new(),
        }
    }

    async fn run(&mut self, steps: Vec<Step>) {
        let mut run = self.start();
        for step in steps {
            match step {
                Step::Forget(count) => (0..count).for_each(|_| drop(run.writer.write(entry(&mut run.given)))),
                Step::Await(count) => {
                    let entries: Vec<AuditEntry> = (0..count).map(|_| entry(&mut run.given)).collect();
                    let ids = entries.iter().filter_map(|entry| entry.id).collect();
                    self.receipts
                        .push((ids, run.writer.write_all(entries).counts().await));
                }
                Step::Fail(kind) => self.database.fail(match kind {
                    FailureKind::Unreachable => Failure::Unreachable,
                    FailureKind::AnswerLost => Failure::AnswerLost,
                    FailureKind::NotSetUp => Failure::NotSetUp,
                    FailureKind::Refuses => Failure::Refuses(Arc::new(|row| is_odd(&row.id))),
                }),
                Step::Recover => self.database.recover(),
                Step::Flush => drop(run.writer.flush(Duration::from_millis(20)).await),
                Step::Restart => {
                    let next = self.start();
                    self.end(std::mem::replace(&mut run, next), Duration::from_millis(40))
                        .await;
                }
            }
        }
        self.database.recover();
        self.end(run, TIMEOUT).await;
        // The next writer replays what is left in the spool.
        let last = self.start();
        wait_for("the spool to be empty", async || {
            spool::status(self.dir.path())
                .unwrap()
                .iter()
                .all(|file| matches!(file.state, spool::SpoolState::Waiting { entries: 0, .. }))
        })
        .await;
        self.end(last, TIMEOUT).await;
    }

    async fn end(&mut self, run: WriterRun, timeout: Duration) {
        let report = run.guard.shutdown(timeout).await;
        let losses = std::mem::take(&mut *run.losses.lock().unwrap());
        let numbers = losses.iter().flat_map(|loss| {
            assert_eq!(
                loss.count,
                loss.last + 1 - loss.first,
                "few losses are never merged"
            );
            loss.first..=loss.last
        });
        let lost: BTreeSet<Uuid> = numbers.map(|number| run.given[number as usize - 1]).collect();
        assert_eq!(lost.len() as u64, report.lost, "each loss is reported once");
        let sum = report.committed + report.spooled + report.quarantined + report.lost + report.unknown;
        assert_eq!((sum, report.pending), (run.given.len() as u64, 0), "{report:?}");
        self.finished.push(FinishedRun {
            given: run.given,
            lost,
            report,
        });
    }

    /// Asserts that each entry is stored once, or quarantined, or declared lost.
    fn assert_accounted_for(&self) {
        let mut stored: BTreeMap<Uuid, usize> = BTreeMap::new();
        self.database
            .entries()
            .iter()
            .for_each(|row| *stored.entry(row.id).or_default() += 1);
        assert!(stored.values().all(|times| *times == 1), "each once");
        let quarantined: BTreeSet<Uuid> = match Quarantine::exists(self.dir.path()) {
            true => Quarantine::open(self.dir.path()).unwrap().list().unwrap(),
            false => Vec::new(),
        }
        .into_iter()
        .map(|kept| kept.entry.unwrap().id)
        .collect();
        for FinishedRun { given, lost, report } in &self.finished {
            let open = given
                .iter()
                .filter(|id| !stored.contains_key(id) && !quarantined.contains(id))
                .count();
            match self.durability {
                DurabilityKind::Memory => {
                    let found = given.iter().filter(|id| stored.contains_key(id)).count() as u64;
                    assert!(report.committed <= found && found <= report.committed + report.unknown);
                }
                DurabilityKind::Spill | DurabilityKind::WriteAhead => {
                    let excused = lost.len() as u64 + report.unknown;
                    assert!(
                        open as u64 <= excused,
                        "{open} entries are missing, {excused} were reported: {report:?}"
                    );
                }
            }
            assert!(
                lost.iter().all(|id| !stored.contains_key(id)),
                "a lost entry is not stored"
            );
        }
        // A quarantined entry may be stored as well: a replay may have read it again when the database rejected
        // nothing any longer.
        assert!(
            quarantined.iter().all(is_odd),
            "only rejected entries are quarantined"
        );
        for (ids, counts) in &self.receipts {
            let found = ids.iter().filter(|id| stored.contains_key(id)).count() as u64;
            let later = counts.spooled + counts.pending + counts.unknown + counts.quarantined;
            assert!(
                counts.committed <= found && found <= counts.committed + later,
                "{counts:?}: {found} are stored"
            );
            if counts.weakest() == Delivery::Committed {
                assert_eq!(found, ids.len() as u64);
            }
        }
    }
}

fn entry(given: &mut Vec<Uuid>) -> AuditEntry {
    let id = Uuid::now_v7();
    given.push(id);
    AuditEntry::new("model.step").id(id)
}

/// The condition for which a database rejects an entry.
fn is_odd(id: &Uuid) -> bool {
    id.as_u128() % 2 == 1
}

fn check(durability: DurabilityKind, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut harness = ModelHarness {
            durability,
            database: MemoryDatabase::new(),
            dir: TempDir::new().unwrap(),
            receipts: Vec::new(),
            finished: Vec::new(),
        };
        harness.run(steps).await;
        harness.assert_accounted_for();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_writer_without_a_spool_accounts_for_every_entry(steps in steps()) {
        check(DurabilityKind::Memory, steps);
    }

    #[test]
    fn a_writer_that_spills_accounts_for_every_entry(steps in steps()) {
        check(DurabilityKind::Spill, steps);
    }

    #[test]
    fn a_writer_that_writes_ahead_accounts_for_every_entry(steps in steps()) {
        check(DurabilityKind::WriteAhead, steps);
    }
}
