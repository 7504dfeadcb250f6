//! What an application does with its database. The services index: everything is here at the top.
//!
//! [`audit`] is the audit trail, [`client`] the database it goes to.

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The guide's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/exit-and-signals.md")]
pub struct ExitAndSignals;

pub mod audit;
pub mod client;

pub use audit::*;
pub use client::{Database, DatabaseError};
