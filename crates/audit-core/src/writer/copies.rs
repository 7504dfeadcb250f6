//! The copies of batches in the spool, as far as the batches are in memory too.

use std::collections::BTreeMap;

use crate::SeqRange;
use crate::spool::{CopyId, SpoolId};

/// The copy of a batch in the spool.
#[derive(Clone, Debug)]
pub(super) struct SpoolCopy {
    pub(super) state: CopyState,
    /// How many parts of it are not settled for good: more than one after the batch was halved. At zero the
    /// copy is removed from the spool.
    live_parts: usize,
    /// The numbers of this writer's entries in it.
    pub(super) ranges: Vec<SeqRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyState {
    /// The append is not answered yet.
    Writing,
    /// Synced: several where small batches were read together.
    Synced(Vec<SpoolId>),
}

/// The copies whose batches are in memory, whole or in part.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    by_id: BTreeMap<CopyId, SpoolCopy>,
    last_id: u64,
}

impl Copies {
    /// Adds a copy of one part.
    pub(super) fn add(&mut self, state: CopyState, ranges: Vec<SeqRange>) -> CopyId {
        self.last_id += 1;
        let id = CopyId(self.last_id);
        self.by_id.insert(
            id,
            SpoolCopy {
                state,
                live_parts: 1,
                ranges,
            },
        );
        id
    }

    pub(super) fn get(&self, id: CopyId) -> Option<&SpoolCopy> {
        self.by_id.get(&id)
    }

    pub(super) fn is_synced(&self, id: Option<CopyId>) -> bool {
        id.and_then(|id| self.get(id))
            .is_some_and(|copy| matches!(copy.state, CopyState::Synced(_)))
    }

    /// True if a batch is all of its copy that is in memory: its memory may be released.
    pub(super) fn is_whole(&self, id: CopyId) -> bool {
        self.get(id).is_some_and(|copy| copy.live_parts == 1)
    }

    /// How many appends are not answered.
    pub(super) fn writing(&self) -> usize {
        self.by_id
            .values()
            .filter(|copy| copy.state == CopyState::Writing)
            .count()
    }

    /// Counts one more part.
    pub(super) fn add_part(&mut self, id: CopyId) {
        if let Some(copy) = self.by_id.get_mut(&id) {
            copy.live_parts += 1;
        }
    }

    /// Counts a part that is settled for good. After the last of a synced copy returns what is to be removed.
    pub(super) fn finish_part(&mut self, id: CopyId) -> Option<Vec<SpoolId>> {
        let copy = self.by_id.get_mut(&id)?;
        copy.live_parts = copy.live_parts.saturating_sub(1);
        match copy.state {
            CopyState::Synced(_) if copy.live_parts == 0 => self.forget(id),
            _ => None,
        }
    }

    /// Notes that an append is synced.
    pub(super) fn set_synced(&mut self, id: CopyId, at: SpoolId) -> Synced {
        let Some(copy) = self.by_id.get_mut(&id) else {
            return Synced::Unused;
        };
        if copy.live_parts == 0 {
            // Settled before it was synced.
            self.by_id.remove(&id);
            return Synced::Unused;
        }
        copy.state = CopyState::Synced(vec![at]);
        Synced::Used(copy.ranges.clone())
    }

    /// Forgets a copy, because it failed or because its batch is from now on in the spool alone. Returns
    /// where it is.
    pub(super) fn forget(&mut self, id: CopyId) -> Option<Vec<SpoolId>> {
        match self.by_id.remove(&id)?.state {
            CopyState::Writing => None,
            CopyState::Synced(ids) => Some(ids),
        }
    }

    /// Forgets the appends that will not be answered, and returns them.
    pub(super) fn forget_writing(&mut self) -> Vec<CopyId> {
        let writing: Vec<CopyId> = self
            .by_id
            .iter()
            .filter(|(_, copy)| copy.state == CopyState::Writing)
            .map(|(id, _)| *id)
            .collect();
        writing.iter().for_each(|id| _ = self.by_id.remove(id));
        writing
    }
}

/// The use of a synced append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// These entries are safe now.
    Used(Vec<SeqRange>),
    /// All of it was settled meanwhile: it is to be removed.
    Unused,
}
