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

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

bugs! {
    /// The spool's thread ends, and batches on their way to it are forgotten.
    AppendsForgottenWithTheSpool,
    /// A rejected row leaves the spool though the quarantine did not take it.
    CopyRemovedThoughQuarantineFailed,
    /// Damaged lines are removed from the spool and kept nowhere.
    DamagedLinesDropped,
    /// The deadline of a shutdown ends nothing.
    DeadlineForgotten,
    /// A declaration stays open since an entry of its batch is rejected.
    DeclarationWaitsForRejectedEntry,
    /// Numbers without a row, since the entry was stored before, are not declared.
    DuplicatesNotDeclared,
    /// A batch that cannot be read for a moment counts as the edge of the damage.
    EdgeOfDamageBelieved,
    /// A batch whose append failed counts as having a copy still.
    FailedCopyKept,
    /// A file that cannot be read for a moment counts as drained.
    FailedReadTakenForTheEnd,
    /// A file is renamed since an operation found it damaged, though it is whole.
    FalseDamageBelieved,
    /// The copy of a halved batch is removed after one half.
    HalfNotCounted,
    /// The spool hands out batches that the writer holds.
    HeldHandedOut,
    /// The answer to a read hides a batch that came since it was asked for.
    LateAnswerHidesNewBatch,
    /// The spool takes more than its limit.
    LimitIgnored,
    /// A dropped entry is settled, and not noted as lost.
    LossNotNoted,
    /// During an outage every lane sends.
    ManyProbes,
    /// A mark passes losses that are not declared yet.
    MarkPassesUndeclared,
    /// The driver reads the ledger's mark after it took the losses.
    MarkReadAfterLosses,
    /// A batch with a rejected row is rejected as a whole.
    NeighboursRejected,
    /// A failed batch is repeated without a pause.
    NoPauseAfterFailure,
    /// During an outage with nothing in memory no batch is taken to try the database with.
    NoProbeFromTheQueue,
    /// One more append waits for the disk than the limit says.
    OneAppendTooMany,
    /// A file that another process has locked is taken for damaged.
    PassingErrorTakenForDamage,
    /// The spool's thread ends, and rows on their way to the quarantine are forgotten.
    QuarantineForgottenWithTheSpool,
    /// A rejected row is reported as quarantined though the quarantine did not take it.
    QuarantinedThoughItFailed,
    /// A mark passes what a rejected record declares.
    RejectedRecordForgotten,
    /// Memory is released before the entries are settled.
    ReleaseBeforeSettle,
    /// Removals wait however many there are.
    RemovalsNotFlushedByCount,
    /// Removals wait until another batch is appended.
    RemovalsNotFlushedByTime,
    /// The copy in the spool is removed before the entries are settled.
    RemoveBeforeSettle,
    /// Removals that are committed stay pending.
    RemovedAgainAndAgain,
    /// A damaged file is renamed before its batches are copied.
    RenamedBeforeCopied,
    /// A batch that may be stored is sent as a new one.
    RetrySentAsFirst,
    /// Nothing wakes the writer when a pause is over.
    RetryTimeForgotten,
    /// A batch that is returned, to be handed out after others, is not handed out again.
    ReturnedForgotten,
    /// A batch that was taken for the spool goes there though its thread ended meanwhile.
    RouteToLostSpool,
    /// The copy of a batch that was salvaged while the writer held it is never removed.
    SalvagedCopyForgotten,
    /// A second, shorter shutdown changes nothing.
    SecondDeadlineIgnored,
    /// An entry is spooled when the append is asked for.
    SettledBeforeSync,
    /// A shutdown leaves entries in the spool though the database accepts rows.
    SpoolNotReplayedAtTheEnd,
    /// The memory of a spooled batch is never released.
    SpooledNotReleased,
    /// A stop record is sent although the database rejected a declaration of its writer.
    StopRecordAfterRejectedDeclaration,
    /// A stop record is sent while entries are in the spool.
    StopRecordBesideSpooledEntries,
    /// The spool hands out a stop record like any other batch.
    StopRecordHandedOutEarly,
    /// A stop record that the spool did not take is sent.
    StopRecordSentAfterFailedAppend,
    /// A file of another database is adopted.
    TargetIgnored,
    /// Entries that may be stored are reported as dropped at the end.
    UnknownCalledDropped,
}
