//! The layer in an application: over real connections, through proxies, and with many requests at once.
#![allow(clippy::unwrap_used)]

mod addresses;
mod app;
mod coverage;
mod requests;
