use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::life::Life;
use super::super::spooling::{self, APPENDS, Started};
use super::super::worker::Equipment;
use super::super::{AuditWriter, RetryPolicy, Shared};
use super::*;
use crate::audit::AuditEntry;
use crate::audit::sink::{OnRepeat, Rows, Sink, SinkError};
use crate::audit::spool::Spool;

/// A database that never answers.
struct Silent;

impl Sink for Silent {
    async fn write(&mut self, _: Rows, _: OnRepeat) -> Result<(), SinkError> {
        std::future::pending().await
    }
}

/// A worker whose queue is full, with a spool that takes nothing.
fn worker(dir: &TempDir) -> Worker {
    let bound = Weight { entries: 10_000, bytes: 64 << 20 };
    let shared = Arc::new(Shared::new("silent".to_owned(), None, bound, Duration::ZERO));
    for _ in 0..bound.entries {
        let receipt =
            AuditWriter::new(Arc::clone(&shared)).push(AuditEntry::new("x"), Weight { entries: 1, bytes: 1 });
        drop(receipt);
    }
    let (answers, incoming) = mpsc::unbounded_channel();
    let spool = Spool::start(dir.path(), shared.writer_id, "silent".to_owned(), 1, answers).unwrap();
    let equipment = Equipment {
        policy: RetryPolicy::default(),
        life: Life::new(shared.writer_id, "shop".to_owned(), json!({})),
        spool: Some(Started { spool, answers: incoming, ahead: false }),
        on_loss: None,
    };
    Worker::new(shared, vec![Silent], equipment)
}

/// Otherwise a long outage would move the whole queue into the worker's hands, and with each try all
/// of it at once through the spool's memory.
#[tokio::test]
async fn a_full_spool_is_tried_again_with_what_it_did_not_take() {
    let dir = TempDir::new().unwrap();
    let mut worker = worker(&dir);
    let mut now = Instant::now();
    for round in 0..10 {
        worker.take_batches(now);
        worker.spill(now);
        let asked = worker.spooling.as_ref().map_or(0, |spooling| spooling.asked.len());
        assert_eq!((asked, worker.hand.batches.len()), (APPENDS, APPENDS), "in round {round}");
        for _ in 0..asked {
            let answer = spooling::next(&mut worker.spooling).await;
            assert!(matches!(answer, Some(Answer::Appended { result: Err(_), .. })));
            worker.spool_says(answer);
        }
        // Until the next try is due.
        now += Duration::from_secs(60);
    }
}

#[tokio::test]
async fn a_batch_that_went_to_the_spool_since_it_was_asked_is_not_forgotten() {
    let dir = TempDir::new().unwrap();
    let mut worker = worker(&dir);
    let backlog = |worker: &Worker| worker.spooling.as_ref().unwrap().backlog;
    worker.spooling.as_mut().unwrap().is_used();
    worker.read_on();
    worker.spooling.as_mut().unwrap().is_used();
    worker.spool_says(Some(super::Answer::Oldest(None)));
    assert!(backlog(&worker), "the answer is older than that batch");
    worker.read_on();
    worker.spool_says(Some(super::Answer::Oldest(None)));
    assert!(!backlog(&worker));
}

#[tokio::test]
async fn a_batch_that_was_left_out_is_tried_again_though_another_is_committed_while_the_spool_is_asked() {
    let dir = TempDir::new().unwrap();
    let mut worker = worker(&dir);
    worker.spooling.as_mut().unwrap().is_used();
    worker.spooling.as_mut().unwrap().leave_out(&[SpoolId { file: 1, batch: 1 }]);
    worker.read_on();
    let other = worker.batch(Vec::new(), Weight::default(), Instant::now());
    let token = worker.hand.add(other);
    worker.commit(token);
    worker.spool_says(Some(super::Answer::Oldest(None)));
    let spooling = worker.spooling.as_ref().unwrap();
    assert!(spooling.backlog && spooling.left_out.is_empty());
}
