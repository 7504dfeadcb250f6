//! PostgreSQL servers, databases and network failures for tests, without any set-up.
//!
//! The first [`Postgres::migrated`] of a process finds the PostgreSQL binaries, starts a private
//! server on a Unix socket in a temporary directory, and creates a template database with the
//! project's migrations. Each test then gets a copy of the template, which is dropped when the test
//! ends. The server ends with the process, even if that is killed: its supervisor waits on a pipe that
//! the operating system closes.
//!
//! A [`Server`] belongs to one test, which may stop and crash it. A [`Proxy`] is a network that fails, a
//! [`Bouncer`] a PgBouncer in front of a server.
//!
//! `TEST_DATABASE_URL` names a server to use instead; its user must be allowed to create databases.
//! `PG_BIN_DIR` names the directory of the binaries to start, for a run on another version.

mod binaries;
mod bouncer;
mod cluster;
mod database;
mod error;
mod migrations;
mod os_user;
mod proxy;
mod server;
mod sql;
mod supervisor;
mod wait;

pub use bouncer::Bouncer;
pub use database::{Postgres, server_url};
pub use error::SetupError;
pub use proxy::{Network, Proxy, ProxyStats};
pub use server::Server;
pub use wait::{TIMEOUT, wait_for};
