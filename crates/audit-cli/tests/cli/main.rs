//! Tests of the `auditlog` command as a process, on both databases.
#![allow(clippy::unwrap_used)]

mod actions;
mod arguments;
mod doctor;
mod environment;
mod export;
mod fixture;
mod hash;
mod hostile;
mod import;
mod install;
mod list;
mod maintenance;
mod malformed_input;
mod matrix;
mod migrate;
mod output;
mod reading;
mod show;
mod spool;
mod spool_quarantine;
mod stats;
mod tail;
#[cfg(target_os = "linux")]
mod terminal;
mod trail;
mod verify;
mod write;
