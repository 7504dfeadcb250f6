//! What did a writer log? The lines of one writer alone, while other tests log beside it.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// All lines of this process from `warn` on, with the thread that logged each.
static LINES: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<(ThreadId, String)>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keep;

impl log::Log for Keep {
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

/// Keeps lines from now on.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keep).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// The lines of the threads that ever named this in a line: a writer names its database, and no two
/// tests have the same.
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

/// Waits until one of its lines has all these parts.
pub async fn wait_for(database: &str, parts: &[&str]) {
    let begun = Instant::now();
    while !of(database)
        .iter()
        .any(|line| parts.iter().all(|part| line.contains(part)))
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{parts:?} did not come: {:#?}",
            of(database)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
