//! Does it keep its promises? A module for each, the same suite on PostgreSQL and on SQLite.

// The support of a test fails loudly: that is its way to report.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod ambiguous;
mod append_only;
mod archive;
mod attacks;
mod client;
mod completeness;
mod delivery;
mod doctor;
mod exit;
mod foreign_clients;
mod fuzz_seeds;
mod holds;
mod kill;
mod log_lines;
#[cfg(target_os = "linux")]
mod memory;
mod migrations;
mod model;
mod outage;
mod partitions;
mod pgbouncer;
mod poison;
mod process;
mod retention;
mod roles;
mod round_trip;
mod set_up_faults;
mod small_disk;
mod spool;
mod spool_files;
mod spool_log;
mod stats;
mod strays;
mod support;
mod tenants;
mod tls;
mod transactions;
mod upkeep;
#[cfg(target_os = "linux")]
mod user_code;
mod writers;
