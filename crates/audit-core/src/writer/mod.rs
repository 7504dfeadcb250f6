//! The writer's core: a state machine that decides where each batch of entries goes.
//!
//! The driver calls [`Core::on`] with an [`Event`] and carries out the [`Action`]s in their order. That order
//! carries the promises: an entry is settled before its memory is released and before its copy in the spool
//! is removed.
//!
//! A batch is where its container is (`batches`): ready for a lane, in flight on one, on its way to the
//! spool, on its way to the quarantine, or rejected and kept until the quarantine takes it. The state of its
//! copy in the spool is in `copies`. ARCHITECTURE.md has the state diagram.

mod batches;
mod breaker;
mod copies;
mod core;
#[cfg(test)]
mod core_tests;
pub mod event;
mod idle;
mod lifecycle;
pub mod limits;
mod quarantine;
pub mod record;
pub mod retry;
mod routing;
mod shutdown;
mod spool_state;
mod spooling;

pub use self::core::{Config, Core};
pub use event::{
    Action, Attempt, Counter, Event, Lane, Notice, SinkError, SinkErrorKind, Taken, View, Wait, Written,
};
pub use limits::Limits;
pub use record::Record;
pub use retry::RetryPolicy;
pub use spool_state::SpoolMode;
