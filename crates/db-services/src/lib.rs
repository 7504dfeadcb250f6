//! What an application does with its database. The services index: everything is here at the top.
//!
//! [`audit`] is the audit trail, [`client`] the database it goes to.

pub mod audit;
pub mod client;

pub use audit::*;
pub use client::{Database, DatabaseError};
