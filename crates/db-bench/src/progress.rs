//! The progress bar, on stderr if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar with this number of steps.
pub(crate) fn bar(part: &'static str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64).with_prefix(part);
    match ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} {wide_msg} {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Prints on stderr what was left out and why.
pub(crate) fn skipped(what: &str, why: &str) {
    eprintln!("skipped: {why} ({what})");
}
