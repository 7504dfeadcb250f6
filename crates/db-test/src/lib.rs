//! Where is it tried? On a real PostgreSQL that nobody has to set up.
//!
//! The first [`Postgres::migrated`] of a process finds the PostgreSQL binaries, starts a private
//! server on a Unix socket in a directory of its own, and makes a template database with the
//! project's migrations. Each test then gets a copy of the template, dropped when the test ends.
//! The server ends with the process, however that ends: its keeper waits on a pipe that the
//! operating system closes.
//!
//! A [`Server`] is one test's own, to be stopped and crashed; a [`Proxy`] is a network that fails.
//!
//! `TEST_DATABASE_URL` names a server to use instead; its user must be allowed to create databases.
//! `PG_BIN_DIR` names the directory of the binaries to start, for a run on another version.

mod account;
mod binaries;
mod cluster;
mod database;
mod error;
mod keeper;
mod migrations;
mod proxy;
mod server;
mod sql;
mod waiting;

pub use database::{Postgres, server_url};
pub use error::SetupError;
pub use proxy::{Network, Proxy, Seen};
pub use server::Server;
pub use waiting::{TIMEOUT, wait_for};
