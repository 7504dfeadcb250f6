//! Captured log lines, of each writer separately although tests run in parallel.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::support::TIMEOUT;

/// All lines of this process at level `warn` or above, with the thread that logged each.
static LINES: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<(ThreadId, String)>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct CapturingLogger;

impl log::Log for CapturingLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            lines().push((std::thread::current().id(), line));
        }
    }

    fn flush(&self) {}
}

/// Captures lines from now on.
pub fn start_capturing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&CapturingLogger).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// The lines of the threads that have named this database in a line. A writer names its database, and each
/// test has its own.
pub fn of(database: &str) -> Vec<String> {
    let lines = lines();
    let threads: Vec<_> = lines
        .iter()
        .filter(|(_, line)| line.contains(database))
        .map(|(thread, _)| *thread)
        .collect();
    lines
        .iter()
        .filter(|(thread, _)| threads.contains(thread))
        .map(|(_, line)| line.clone())
        .collect()
}

/// Waits until one line contains all these parts.
pub async fn wait_for(database: &str, parts: &[&str]) {
    let started = Instant::now();
    while !of(database)
        .iter()
        .any(|line| parts.iter().all(|part| line.contains(part)))
    {
        assert!(
            started.elapsed() < TIMEOUT,
            "waited {TIMEOUT:?} for {parts:?}: {:#?}",
            of(database)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
