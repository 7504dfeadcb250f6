//! The batches in memory: a batch is where its container is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::lifecycle::DeclarationId;
use super::{Attempt, Lane, SinkError};
use crate::spool::{CopyId, Ticket};
use crate::{Row, Rows, SeqRange, Size, Time};

/// A batch in memory. Belongs to exactly one container of [`Batches`].
#[derive(Clone, Debug)]
pub(super) struct RowBatch<R> {
    pub(super) rows: Rows<R>,
    /// The numbers of this writer's entries among them.
    pub(super) ranges: Vec<SeqRange>,
    /// What they count against the queue's bounds.
    pub(super) size: Size,
    /// When it was taken from the queue or read from the spool.
    pub(super) since: Time,
    /// Whether it may be stored.
    pub(super) attempt: Attempt,
    pub(super) source: Source,
    /// Its copy in the spool, if one was asked for.
    pub(super) copy: Option<CopyId>,
    /// What its records declare.
    pub(super) declaration: Option<DeclarationId>,
    /// How often it failed for a reason that should pass by itself.
    pub(super) failures: u32,
    /// How many batches had been accepted when it failed first.
    pub(super) accepted_before: u64,
    /// When it is tried again at the earliest, if others are accepted meanwhile.
    pub(super) not_before: Time,
}

/// Where a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Queue,
    Spool,
}

/// A batch on a lane.
#[derive(Clone, Debug)]
pub(super) struct InFlight<R> {
    pub(super) batch: RowBatch<R>,
    pub(super) sent_at: Time,
}

/// A batch of one row that the database rejects.
#[derive(Clone, Debug)]
pub(super) struct Rejected<R> {
    pub(super) batch: RowBatch<R>,
    pub(super) error: SinkError,
}

/// Every batch in memory.
#[derive(Clone, Debug)]
pub(super) struct Batches<R> {
    /// Waits for a lane, the next first.
    pub(super) ready: VecDeque<RowBatch<R>>,
    /// On its lane; none where the lane is idle.
    pub(super) in_flight: Vec<Option<InFlight<R>>>,
    /// On its way to the spool, which is to be its only place.
    pub(super) spooling: BTreeMap<CopyId, RowBatch<R>>,
    /// On its way to the quarantine.
    pub(super) quarantining: BTreeMap<Ticket, Rejected<R>>,
    /// Kept until the quarantine takes it.
    pub(super) rejected: VecDeque<Rejected<R>>,
}

impl<R: Row> Batches<R> {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            in_flight: (0..lanes).map(|_| None).collect(),
            spooling: BTreeMap::new(),
            quarantining: BTreeMap::new(),
            rejected: VecDeque::new(),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RowBatch<R>> {
        let rejected = self
            .quarantining
            .values()
            .chain(&self.rejected)
            .map(|rejected| &rejected.batch);
        self.towards_database()
            .chain(self.spooling.values())
            .chain(rejected)
    }

    /// Those that wait for a lane or are on one.
    pub(super) fn towards_database(&self) -> impl Iterator<Item = &RowBatch<R>> {
        self.ready
            .iter()
            .chain(self.in_flight().map(|in_flight| &in_flight.batch))
    }

    /// Removes and returns all of them.
    pub(super) fn take_all(&mut self) -> Vec<RowBatch<R>> {
        let taken = std::mem::replace(self, Self::new(self.in_flight.len()));
        let in_flight = taken
            .in_flight
            .into_iter()
            .flatten()
            .map(|in_flight| in_flight.batch);
        let rejected = taken
            .quarantining
            .into_values()
            .chain(taken.rejected)
            .map(|rejected| rejected.batch);
        taken
            .ready
            .into_iter()
            .chain(in_flight)
            .chain(taken.spooling.into_values())
            .chain(rejected)
            .collect()
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &InFlight<R>> {
        self.in_flight.iter().flatten()
    }

    /// An idle lane.
    pub(super) fn idle_lane(&self) -> Option<Lane> {
        self.in_flight.iter().rposition(Option::is_none)
    }

    /// True if a batch waits that may be sent now.
    pub(super) fn has_ready(&self, now: Time) -> bool {
        self.ready.iter().any(|batch| batch.not_before <= now)
    }

    /// What they count against the queue's bounds together.
    pub(super) fn size(&self) -> Size {
        self.iter().fold(Size::default(), |sum, batch| sum + batch.size)
    }

    /// How many are there that wait for a lane or are on one and came from the spool.
    pub(super) fn replays(&self) -> usize {
        self.towards_database()
            .filter(|batch| batch.source == Source::Spool)
            .count()
    }

    #[cfg(feature = "simulation")]
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<R: Row> RowBatch<R> {
    /// How many of its rows are entries: all but records.
    pub(super) fn entries(&self) -> u64 {
        self.rows.iter().filter(|row| row.number().is_some()).count() as u64
    }

    /// Splits it in two. Each half counts what its own entries do: records count nothing.
    pub(super) fn halves(self, writer: Uuid) -> [Self; 2] {
        let (first, second) = self.rows.split_at(self.rows.len() / 2);
        let ranges = [own_ranges(first, writer), own_ranges(second, writer)];
        let entries: u64 = ranges[0].iter().map(|range| range.len()).sum();
        let [size, rest] = self
            .size
            .split_off(usize::try_from(entries).unwrap_or(usize::MAX));
        let [first_ranges, second_ranges] = ranges;
        let part = |rows: &[R], ranges, size| Self {
            rows: Arc::new(rows.to_vec()),
            ranges,
            size,
            attempt: Attempt::Retry,
            ..self
        };
        [part(first, first_ranges, size), part(second, second_ranges, rest)]
    }
}

/// The numbers that one writer gave to these rows.
pub(super) fn own_ranges<R: Row>(rows: &[R], writer: Uuid) -> Vec<SeqRange> {
    SeqRange::of(
        rows.iter()
            .filter_map(R::number)
            .filter(|(by, _)| *by == writer)
            .map(|(_, seq)| seq)
            .collect(),
    )
}
