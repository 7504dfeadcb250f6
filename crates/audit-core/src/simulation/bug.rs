//! Bugs that can be planted in the state machines, to prove that the simulation finds such ones.
//!
//! Each is a condition at one place of the core, of the spool's worker or of the ledger. Without the feature
//! `simulation` the condition is a constant and nothing of it is compiled.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// True if this bug is planted on this thread.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread for as long as the value lives.
#[derive(Debug)]
pub struct Planted(());

impl Planted {
    /// Plants a bug, or none.
    pub fn new(bug: Option<Bug>) -> Self {
        PLANTED.set(bug);
        Self(())
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The driver reads the ledger's mark after it took the losses.
    MarkReadAfterLosses,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::MarkReadAfterLosses];
}
