//! Which batches of one file are handed out next.

use std::collections::BTreeSet;

use super::SpoolConfig;
use crate::spool::{Again, BatchSize, Usage};

/// A file that the worker has open.
pub(super) struct OpenFile<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) usage: Usage,
    /// Batches up to this number were handed out in this pass, are held, or are to be removed.
    cursor: i64,
    /// The lowest batch that was returned to be handed out after the others.
    revisit: Option<i64>,
    /// The lowest batch that could not be handed out, to be tried again later.
    skipped: Option<i64>,
    /// The newest batch that was appended.
    pub(super) newest: i64,
    /// Batches that the writer holds.
    pub(super) held: BTreeSet<i64>,
    /// Batches that are to be removed with the next commit.
    pub(super) removing: BTreeSet<i64>,
    /// Batches with a stop record. They vouch for the others, and are handed out after them.
    pub(super) stops: BTreeSet<i64>,
    /// True after a notice about a failed read, until one succeeds.
    pub(super) is_read_failing: bool,
    /// True after a notice about a failed removal, until one succeeds.
    pub(super) is_removal_failing: bool,
    /// True once the file looked corrupt and was found whole.
    pub(super) is_doubtful: bool,
}

impl<F> OpenFile<F> {
    pub(super) fn new(name: String, file: F, usage: Usage) -> Self {
        Self {
            name,
            file,
            usage,
            cursor: i64::MIN,
            revisit: None,
            skipped: None,
            newest: i64::MIN,
            held: BTreeSet::new(),
            removing: BTreeSet::new(),
            stops: BTreeSet::new(),
            is_read_failing: false,
            is_removal_failing: false,
            is_doubtful: false,
        }
    }

    pub(super) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Chooses the batches to hand out of those after the cursor: as many as fit one statement together, at
    /// least one if any is left. The cursor moves behind them.
    pub(super) fn choose(&mut self, sizes: &[BatchSize], config: &SpoolConfig) -> Vec<i64> {
        let (mut chosen, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for size in sizes {
            if self.is_available(size.id) {
                (rows, bytes) = (rows + size.rows, bytes + size.bytes);
                let fits = rows <= config.max_read_rows && bytes <= config.max_read_bytes;
                if !(fits || chosen.is_empty()) {
                    break;
                }
                chosen.push(size.id);
            }
            self.cursor = size.id;
        }
        chosen
    }

    fn is_available(&self, id: i64) -> bool {
        let is_held = self.held.contains(&id) && !planted!(HeldHandedOut);
        !(is_held || self.removing.contains(&id) || self.stops.contains(&id))
    }

    /// True for a batch that is to be removed, or that has a stop record.
    pub(super) fn is_done_or_stop(&self, id: i64) -> bool {
        self.removing.contains(&id) || self.stops.contains(&id)
    }

    /// The stop records that the writer does not hold.
    pub(super) fn waiting_stops(&self) -> Vec<i64> {
        self.stops.difference(&self.held).copied().collect()
    }

    /// True if nothing but stop records is left to be handed out, after a pass that found nothing else.
    pub(super) fn waits_for_others(&self) -> bool {
        let is_read = self.skipped.is_none() && !self.is_read_failing;
        self.has_waiting_stop() && self.held.is_empty() && is_read
    }

    /// True if a stop record is to be handed out later.
    pub(super) fn has_waiting_stop(&self) -> bool {
        self.stops.difference(&self.held).next().is_some()
    }

    /// Notes that a batch is to be removed.
    pub(super) fn remove(&mut self, id: i64) {
        self.held.remove(&id);
        self.stops.remove(&id);
        self.removing.insert(id);
    }

    /// Notes that the writer no longer holds a batch.
    pub(super) fn put_back(&mut self, id: i64, again: Again) {
        self.held.remove(&id);
        match again {
            Again::InOrder => self.read_again_from(id),
            Again::AfterOthers => self.revisit = Some(self.revisit.map_or(id, |first| first.min(id))),
        }
    }

    /// Begins a new pass. True if there is something in it.
    pub(super) fn rewind(&mut self) -> bool {
        let revisit = self.revisit.take().filter(|_| !planted!(ReturnedForgotten));
        revisit.into_iter().for_each(|first| self.read_again_from(first));
        revisit.is_some()
    }

    /// Passes over a batch until [`retry_skipped`](Self::retry_skipped).
    pub(super) fn skip(&mut self, id: i64) {
        self.skipped = Some(self.skipped.map_or(id, |first| first.min(id)));
    }

    pub(super) fn retry_skipped(&mut self) {
        if let Some(first) = self.skipped.take() {
            self.read_again_from(first);
        }
    }

    pub(super) fn read_again_from(&mut self, id: i64) {
        self.cursor = self.cursor.min(id.saturating_sub(1));
    }

    /// Notes that these batches are removed.
    pub(super) fn committed(&mut self, removed: &[i64], usage: Usage) {
        for id in removed.iter().filter(|_| !planted!(RemovedAgainAndAgain)) {
            self.removing.remove(id);
        }
        self.is_removal_failing = false;
        self.usage.batches = self.usage.batches.saturating_sub(usage.batches);
        self.usage.bytes = self.usage.bytes.saturating_sub(usage.bytes);
    }
}
