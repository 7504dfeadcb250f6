//! Progress on standard error. Hidden unless that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    let bar = progress(None, message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A progress bar, or a spinner if the length is unknown.
pub(crate) fn progress(length: Option<u64>, message: &'static str) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{msg} {wide_bar} {percent}% {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    // The templates are constants. If one did not parse, the default style would remain.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
    .with_message(message)
}
