//! The writer's core: a state machine that decides where each batch of entries goes.
//!
//! The driver calls `Core::on` with an [`Event`] and carries out the [`Action`]s in their order. That order
//! carries the promises: an entry is settled before its memory is released and before its copy in the spool
//! is removed.

pub mod event;
pub mod record;
pub mod retry;

pub use event::{
    Action, Attempt, Counter, Event, Lane, Notice, SinkError, SinkErrorKind, Taken, View, Wait, Written,
};
pub use record::Record;
pub use retry::RetryPolicy;
