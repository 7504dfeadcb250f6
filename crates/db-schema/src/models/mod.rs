//! The Rust types of rows: one file for each table; `stored.rs` maps column values.

// `pub` within these private modules: types that the public `Queryable` of `AuditLog` is built from.
#[allow(unreachable_pub)]
mod audit_log;
mod json_text;
#[allow(unreachable_pub)]
pub(crate) mod stored;

pub use audit_log::{AuditLog, NewAuditLog};
pub use json_text::JsonText;
/// For `db-services`, which reads values as rows have them.
#[doc(hidden)]
pub use stored::{StoredText, network_text, parse_network};
