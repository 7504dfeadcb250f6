//! What is stored: the `audit_logs` table for diesel, its models, its migrations.
//!
//! No connection, no pool, no policy: usable from synchronous diesel and from `diesel-async` alike.
//! `db-services` builds on it and is what an application usually wants.
//!
//! | feature | gives |
//! | --- | --- |
//! | `postgres` (default) | [`schema`] and the models on it |
//! | `sqlite` (default) | [`sqlite`], the twin for SQLite, and the models on it |
//! | `migrations` | [`MIGRATIONS`] and `sqlite::MIGRATIONS`, embedded for programs that run them themselves |
//!
//! The same structs serve both databases:
//!
//! ```
//! use db_schema::{AuditLog, sqlite};
//! use diesel::prelude::*;
//!
//! fn newest(conn: &mut SqliteConnection) -> QueryResult<Vec<AuditLog>> {
//!     use sqlite::schema::audit_logs::dsl::*;
//!     audit_logs.order(created_at.desc()).limit(50).load(conn)
//! }
//! ```

pub mod models;
#[cfg(feature = "postgres")]
#[allow(missing_docs)] // generated: the module itself cannot carry a comment, table and columns do
#[rustfmt::skip]
pub mod schema;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use models::{AuditLog, JsonText, NewAuditLog};

/// The PostgreSQL migrations, embedded. They create the table of [`schema`].
#[cfg(all(feature = "migrations", feature = "postgres"))]
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/postgres");
