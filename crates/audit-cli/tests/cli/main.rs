//! Tests of the `auditlog` command as a process, on both databases.
#![allow(clippy::unwrap_used)]

mod actions;
mod arguments;
mod doctor;
mod environment;
mod fixture;
mod hash;
mod hostile;
mod import;
mod list;
mod maintenance;
mod malformed_input;
mod matrix;
mod migrate;
mod output;
mod spool;
mod spool_quarantine;
mod verify;
mod write;
