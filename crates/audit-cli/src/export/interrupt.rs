//! Signals that end an export.

use std::future::pending;
use std::process::ExitCode;

/// Waits for a signal that ends the command. Returns the exit code that a shell shows for it.
pub(super) async fn interrupted() -> ExitCode {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        tokio::select! {
            () = received(SignalKind::interrupt(), false) => ExitCode::from(130),
            () = received(SignalKind::terminate(), false) => ExitCode::from(143),
            // `nohup` has it ignored, which only Linux tells.
            () = received(SignalKind::hangup(), true) => ExitCode::from(129),
        }
    }
    #[cfg(not(unix))]
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::from(130),
        Err(_) => pending().await,
    }
}

/// Waits for a signal. One that whoever started the command has set to be ignored never comes.
#[cfg(unix)]
async fn received(kind: tokio::signal::unix::SignalKind, unless_known: bool) {
    use std::sync::OnceLock;
    /// As the command was started: a handler ends that.
    static IGNORED: OnceLock<Option<u64>> = OnceLock::new();
    let known = IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        ignored(&status)
    });
    if known.map_or(unless_known, |set| set >> (kind.as_raw_value() - 1) & 1 == 1) {
        return pending().await;
    }
    match tokio::signal::unix::signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        // It then ends the command as it does by default.
        Err(_) => pending().await,
    }
}

/// The set of signals that a process ignores, from its status in /proc.
#[cfg(unix)]
fn ignored(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_signals_that_are_ignored_are_in_the_status() {
        let status = "Name:\tauditlog\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), Some(0x1001));
        assert_eq!(ignored("Name:\tauditlog\n"), None);
    }
}
