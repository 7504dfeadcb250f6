//! The decisions of the audit writer and its spool, without I/O.
//!
//! Nothing in this crate knows a clock, a channel, a lock, a log, tokio or a database: the compiler keeps
//! it so, since none of them is among its dependencies. Time comes in as [`Time`], events come in by
//! value, and what is to be done goes out as a list of actions in the order in which it must be done.
//! `db-services` carries the actions out.
//!
//! - [`writer`]: where each batch of entries goes, when a database is tried again, how a writer ends.
//! - [`spool`]: what a spool directory holds, in which order it is replayed, what is done about damage.
//! - [`ledger`]: the fate of each entry, and the callers that wait for it.

/// True where a bug is planted, which only the simulation does.
#[cfg(feature = "simulation")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::simulation::is_planted($crate::simulation::Bug::$bug)
    };
}
#[cfg(not(feature = "simulation"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod delivery;
pub mod ledger;
pub mod loss;
pub mod row;
pub mod seq;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod size;
pub mod spool;
pub mod time;
pub mod writer;

pub use delivery::{Delivery, DeliveryCounts, DropReason, Fate};
pub use loss::Loss;
pub use row::{Row, Rows};
pub use seq::{SeqRange, SeqSet};
pub use size::Size;
pub use time::Time;
