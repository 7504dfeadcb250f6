//! The test suite of what the project promises its users, on a real PostgreSQL and a real SQLite. Each module
//! tests one promise.

// Test support reports an error by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod append_only;
mod archive;
mod archive_files;
mod archive_forged;
mod archive_long;
mod archive_proof;
mod archive_tampered;
mod attacks;
mod captured_logs;
mod client;
mod completeness;
mod context;
mod default_partition;
mod delivery;
mod doctor;
mod exit;
mod feed;
mod foreign_clients;
mod fuzz_seeds;
mod holds;
mod kill;
mod locks;
mod look_ups;
mod lost_acks;
mod maintenance_concurrency;
#[cfg(target_os = "linux")]
mod memory;
mod migrations;
mod misconfiguration;
mod model;
mod operation;
mod outage;
mod partition_rights;
mod partitions;
mod pgbouncer;
mod poison;
mod process;
mod query;
mod read_only;
mod retention;
mod roles;
mod round_trip;
mod schemas;
mod scrub;
mod settings;
mod small_disk;
mod spool;
mod spool_disk;
mod spool_files;
mod spool_log;
mod spool_quarantine;
mod stats;
mod support;
mod tenants;
mod tls;
mod transactions;
#[cfg(target_os = "linux")]
mod user_code;
mod writer_isolation;
