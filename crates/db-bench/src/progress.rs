//! What does one see while it runs? A bar on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of this number of steps.
pub(crate) fn bar(part: &'static str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64).with_prefix(part);
    match ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} {wide_msg} {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Says on stderr what was left out and why.
pub(crate) fn skipped(what: &str, why: &str) {
    eprintln!("skipped: {why} ({what})");
}
