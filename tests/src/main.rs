//! Does it keep its promises? A module for each, the same suite on PostgreSQL and on SQLite.

// The support of a test fails loudly: that is its way to report.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod append_only;
mod client;
mod completeness;
mod delivery;
mod foreign_clients;
mod kill;
mod log_lines;
mod migrations;
mod partitions;
mod poison;
mod process;
mod round_trip;
mod set_up_faults;
mod small_disk;
mod spool;
mod stats;
mod support;
mod transactions;
mod writers;
