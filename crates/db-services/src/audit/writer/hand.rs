//! Which batches does the writer's thread hold, and where is each of them?

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use db_schema::NewAuditLog;
use uuid::Uuid;

use super::ledger::Range;
use super::queue::Weight;
use crate::audit::sink::Rows;
use audit_core::spool::SpoolId;

/// A batch in memory.
pub(super) struct Batch {
    pub(super) rows: Rows,
    /// The numbers of this writer's entries among them.
    pub(super) ranges: Vec<Range>,
    /// What it counts against the queue's bounds.
    pub(super) weight: Weight,
    /// When it was taken from the queue.
    pub(super) since: Instant,
    /// True once it was sent: it may be stored.
    pub(super) repeat: bool,
    /// True if it came from the spool.
    pub(super) replayed: bool,
    pub(super) place: Place,
    /// Its copy in the spool, if one was asked for.
    pub(super) kept: Option<Rc<Kept>>,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the line for a lane.
    Ready,
    /// With a lane.
    Lane,
    /// On its way to the spool, and nowhere else.
    Spool,
    /// On its way to the quarantine.
    Aside,
}

/// The copy of a batch in the spool.
#[derive(Default)]
pub(super) struct Kept {
    /// Where: none until it is synced, several where batches were read together.
    pub(super) ids: RefCell<Vec<SpoolId>>,
    /// How many batches in memory came from it: more than one after it was halved.
    pub(super) parts: Cell<usize>,
}

impl Kept {
    pub(super) fn is_synced(&self) -> bool {
        !self.ids.borrow().is_empty()
    }
}

/// The batches in memory.
#[derive(Default)]
pub(super) struct Hand {
    pub(super) batches: HashMap<u64, Batch>,
    /// Those that wait for a lane, the next first.
    pub(super) ready: VecDeque<u64>,
    /// What they weigh together.
    pub(super) taken: Weight,
    next_token: u64,
}

impl Hand {
    /// Holds a batch under a new token.
    pub(super) fn add(&mut self, batch: Batch) -> u64 {
        self.next_token += 1;
        self.batches.insert(self.next_token, batch);
        self.next_token
    }

    /// The next batch for a lane.
    pub(super) fn next_ready(&mut self) -> Option<u64> {
        self.ready.pop_front()
    }

    /// True if a batch in memory came from this copy.
    pub(super) fn holds(&self, kept: &Rc<Kept>) -> bool {
        self.batches.values().filter_map(|batch| batch.kept.as_ref()).any(|held| Rc::ptr_eq(held, kept))
    }

    /// True if a batch waits for a lane and has no copy in the spool.
    pub(super) fn has_unkept(&self) -> bool {
        self.batches.values().any(|batch| batch.place == Place::Ready && batch.kept.is_none())
    }

    /// How many batches from the spool are in memory.
    pub(super) fn replays(&self) -> usize {
        self.batches.values().filter(|batch| batch.replayed).count()
    }
}

impl Batch {
    /// True if it lies in the spool, synced.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_synced())
    }

    /// How many of its rows are entries: all but the writers' own.
    pub(super) fn entries(&self) -> u64 {
        self.rows.iter().filter(|row| row.writer_seq.is_some()).count() as u64
    }

    /// Splits it in two, the second half first.
    pub(super) fn halves(self, writer: Uuid) -> [Batch; 2] {
        if let Some(kept) = &self.kept {
            kept.parts.set(kept.parts.get() + 1);
        }
        let (first, second) = self.rows.split_at(self.rows.len() / 2);
        let half = Weight { entries: self.weight.entries / 2, bytes: self.weight.bytes / 2 };
        let rest =
            Weight { entries: self.weight.entries - half.entries, bytes: self.weight.bytes - half.bytes };
        let part = |rows: &[NewAuditLog], weight| Batch {
            rows: Arc::new(rows.to_vec()),
            ranges: ranges(rows, writer),
            weight,
            since: self.since,
            repeat: true,
            replayed: self.replayed,
            place: Place::Ready,
            kept: self.kept.clone(),
        };
        [part(second, rest), part(first, half)]
    }
}

/// The numbers that one writer gave to these rows.
pub(super) fn ranges(rows: &[NewAuditLog], writer: Uuid) -> Vec<Range> {
    let own = rows.iter().filter(|row| row.writer_id == Some(writer));
    Range::of(own.filter_map(|row| row.writer_seq?.try_into().ok()).collect())
}
