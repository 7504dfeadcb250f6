//! The table on SQLite: the same columns as on PostgreSQL, in SQLite's types: UUIDs as 16
//! bytes, times as microseconds since 1970-01-01 UTC, JSON and addresses as text.

mod audit_log;
#[allow(missing_docs)] // generated: SQLite has no comments on columns, the PostgreSQL twin has them
#[rustfmt::skip]
pub mod schema;

pub use audit_log::NewAuditLog;

/// The SQLite migrations, embedded. They create the table of [`schema`].
#[cfg(feature = "migrations")]
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/sqlite");

// Named for its feature: `bundled` compiles SQLite in.
use libsqlite3_sys as _;
