//! The example application over real HTTP, with real databases: who does what, and the entries that are stored.
#![allow(clippy::unwrap_used)]

mod admin;
mod anonymous;
mod browser;
mod coverage;
mod members;
mod process;
mod refusals;
mod sign_in;
mod world;
