//! A logger that panics does not stop the quarantine. A separate test program, because the logger is global.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use db_services::audit::spool::Quarantine;
use tempfile::TempDir;

static CALLS: AtomicU32 = AtomicU32::new(0);

struct Panics;

impl log::Log for Panics {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        panic!("as planned");
    }

    fn flush(&self) {}
}

#[test]
fn a_damaged_quarantine_is_replaced_although_the_logger_panics() {
    log::set_logger(&Panics).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("quarantine.sqlite"), "no database".repeat(1_000)).unwrap();
    let mut quarantine = Quarantine::open(dir.path()).unwrap();
    assert_eq!(quarantine.list().unwrap(), []);
    assert_eq!(Quarantine::damaged(dir.path()).unwrap().len(), 1);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}
