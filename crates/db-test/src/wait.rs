//! Waiting for a condition, without sleeping for a guessed time.

use std::time::{Duration, Instant};

/// The longest that a test waits for anything. A machine under load may need most of it; what takes
/// longer never comes.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Polls a condition until it is true, for at most [`TIMEOUT`]. Needs a tokio runtime with its timer.
///
/// # Panics
/// When the condition is still false then. The message names `what` was waited for.
pub async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < TIMEOUT, "waited {TIMEOUT:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
