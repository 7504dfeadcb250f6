//! How does a test wait for what will come, without sleeping for a guessed time?

use std::time::{Duration, Instant};

/// Looks until something is so, for at most a minute. Needs a tokio runtime with its timer.
///
/// # Panics
/// When it is not so within a minute, naming `what`: that is how a test fails.
pub async fn wait_for(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what} did not come within a minute"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
