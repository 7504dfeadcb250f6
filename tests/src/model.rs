//! Is every entry accounted for, whatever happens to the database, in whatever order?
//!
//! A writer on a database that fails as the steps say, held against a list of what was written.

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

use crate::spool::hasty;
use crate::support::{TIMEOUT, wait_for};

/// What a queue in memory holds: little, so that it overflows.
const QUEUE: usize = 60;

#[derive(Clone, Debug)]
enum Step {
    /// Writes this number of entries, each in a call of its own, and does not await them.
    Forget(usize),
    /// Writes this number of entries in one call and awaits their receipt.
    Await(usize),
    Fail(Kind),
    Mend,
    /// Waits until everything is settled, for a moment.
    Flush,
    /// Shuts the writer down and starts another.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unreachable,
    AnswerLost,
    NotSetUp,
    Refuses,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![
        Kind::Unreachable,
        Kind::AnswerLost,
        Kind::NotSetUp,
        Kind::Refuses,
    ]);
    let step = prop_oneof![
        4 => (1..80_usize).prop_map(Step::Forget),
        3 => (1..40_usize).prop_map(Step::Await),
        3 => kind.prop_map(Step::Fail),
        2 => Just(Step::Mend),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

#[derive(Clone, Copy, Debug)]
enum Strength {
    Memory,
    Spill,
    WriteAhead,
}

impl Strength {
    fn in_dir(self, dir: &Path) -> Durability {
        match self {
            Self::Memory => Durability::Memory,
            Self::Spill => Durability::Spill(dir.to_owned()),
            Self::WriteAhead => Durability::WriteAhead(dir.to_owned()),
        }
    }
}

/// One writer, from start to shutdown.
struct Life {
    writer: AuditWriter,
    guard: WriterGuard,
    losses: Arc<Mutex<Vec<Loss>>>,
    /// What it was given, in the order of its numbers.
    given: Vec<Uuid>,
}

/// What a life leaves behind.
struct Past {
    given: Vec<Uuid>,
    lost: BTreeSet<Uuid>,
    report: WriterReport,
}

struct Bench {
    strength: Strength,
    database: MemoryDatabase,
    dir: TempDir,
    /// What receipts said: the ids of one call, and how many of them became what.
    told: Vec<(Vec<Uuid>, DeliveryCounts)>,
    past: Vec<Past>,
}

impl Bench {
    fn start(&self) -> Life {
        let losses = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&losses);
        let (writer, guard) = self
            .database
            .writer()
            .durability(self.strength.in_dir(self.dir.path()))
            .queue_capacity(QUEUE)
            .retry(hasty())
            .receipt_timeout(Duration::from_millis(20))
            .on_loss(move |loss| heard.lock().unwrap().push(loss.clone()))
            .start()
            .unwrap();
        Life {
            writer,
            guard,
            losses,
            given: Vec::new(),
        }
    }

    async fn run(&mut self, steps: Vec<Step>) {
        let mut life = self.start();
        for step in steps {
            match step {
                Step::Forget(count) => {
                    (0..count).for_each(|_| drop(life.writer.write(entry(&mut life.given))))
                }
                Step::Await(count) => {
                    let entries: Vec<AuditEntry> = (0..count).map(|_| entry(&mut life.given)).collect();
                    let ids = entries.iter().filter_map(|entry| entry.id).collect();
                    self.told
                        .push((ids, life.writer.write_all(entries).counts().await));
                }
                Step::Fail(kind) => self.database.fail(match kind {
                    Kind::Unreachable => Failure::Unreachable,
                    Kind::AnswerLost => Failure::AnswerLost,
                    Kind::NotSetUp => Failure::NotSetUp,
                    Kind::Refuses => Failure::Refuses(Arc::new(|row| is_odd(&row.id))),
                }),
                Step::Mend => self.database.mend(),
                Step::Flush => drop(life.writer.flush(Duration::from_millis(20)).await),
                Step::Restart => {
                    let next = self.start();
                    self.end(std::mem::replace(&mut life, next), Duration::from_millis(40))
                        .await;
                }
            }
        }
        self.database.mend();
        self.end(life, TIMEOUT).await;
        // What lies in the spool now is for the next writer.
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

    async fn end(&mut self, life: Life, patience: Duration) {
        let report = life.guard.shutdown(patience).await;
        let losses = std::mem::take(&mut *life.losses.lock().unwrap());
        let numbers = losses.iter().flat_map(|loss| {
            assert_eq!(
                loss.count,
                loss.last + 1 - loss.first,
                "few losses are never merged"
            );
            loss.first..=loss.last
        });
        let lost: BTreeSet<Uuid> = numbers.map(|number| life.given[number as usize - 1]).collect();
        assert_eq!(lost.len() as u64, report.lost, "each loss is heard of once");
        let sum = report.committed + report.spooled + report.quarantined + report.lost + report.unknown;
        assert_eq!((sum, report.pending), (life.given.len() as u64, 0), "{report:?}");
        self.past.push(Past {
            given: life.given,
            lost,
            report,
        });
    }

    /// Each entry is stored once, or kept aside, or lost and declared.
    fn is_accounted_for(&self) {
        let mut stored: BTreeMap<Uuid, usize> = BTreeMap::new();
        self.database
            .entries()
            .iter()
            .for_each(|row| *stored.entry(row.id).or_default() += 1);
        assert!(stored.values().all(|times| *times == 1), "each once");
        let aside: BTreeSet<Uuid> = match Quarantine::exists(self.dir.path()) {
            true => Quarantine::open(self.dir.path()).unwrap().list().unwrap(),
            false => Vec::new(),
        }
        .into_iter()
        .map(|kept| kept.entry.unwrap().id)
        .collect();
        for Past { given, lost, report } in &self.past {
            let open = given
                .iter()
                .filter(|id| !stored.contains_key(id) && !aside.contains(id))
                .count();
            match self.strength {
                Strength::Memory => {
                    let found = given.iter().filter(|id| stored.contains_key(id)).count() as u64;
                    assert!(report.committed <= found && found <= report.committed + report.unknown);
                }
                Strength::Spill | Strength::WriteAhead => {
                    let excused = lost.len() as u64 + report.unknown;
                    assert!(
                        open as u64 <= excused,
                        "{open} are nowhere, {excused} were given up: {report:?}"
                    );
                }
            }
            assert!(
                lost.iter().all(|id| !stored.contains_key(id)),
                "what is lost is not there"
            );
        }
        // One that was kept aside may be stored as well: read from the spool once more, when the database
        // refused nothing any longer.
        assert!(aside.iter().all(is_odd), "only what was refused is kept aside");
        for (ids, said) in &self.told {
            let found = ids.iter().filter(|id| stored.contains_key(id)).count() as u64;
            let later = said.spooled + said.pending + said.unknown + said.quarantined;
            assert!(
                said.committed <= found && found <= said.committed + later,
                "{said:?}: {found} are stored"
            );
            if said.weakest() == Delivery::Committed {
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

/// What a database refuses that refuses something.
fn is_odd(id: &Uuid) -> bool {
    id.as_u128() % 2 == 1
}

fn holds(strength: Strength, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut bench = Bench {
            strength,
            database: MemoryDatabase::new(),
            dir: TempDir::new().unwrap(),
            told: Vec::new(),
            past: Vec::new(),
        };
        bench.run(steps).await;
        bench.is_accounted_for();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn in_memory(steps in steps()) {
        holds(Strength::Memory, steps);
    }

    #[test]
    fn with_a_spool(steps in steps()) {
        holds(Strength::Spill, steps);
    }

    #[test]
    fn with_a_spool_first(steps in steps()) {
        holds(Strength::WriteAhead, steps);
    }
}
