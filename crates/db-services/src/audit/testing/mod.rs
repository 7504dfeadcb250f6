//! Tests of an application's audit trail without a database. (Feature `testing`.)
//!
//! [`capture`] returns the entries that are written inside a future, in parallel tests too:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use db_services::audit::{AuditEntry, Outcome, testing, write_audit_log};
//!
//! async fn delete_skill(user: &str, skill: &str) {
//!     // … delete it …
//!     write_audit_log(AuditEntry::new("skill.delete").actor(user).resource("skill", skill));
//! }
//!
//! let captured = testing::capture(delete_skill("alice", "s-1")).await;
//! captured.assert_one(&AuditEntry::new("skill.delete").actor("alice"));
//! assert_eq!(captured.entries()[0].outcome, Outcome::Success.as_str());
//! # });
//! ```
//!
//! [`MemoryDatabase`] is a database in memory that fails on demand, for tests of what the application does
//! when its receipts resolve as `Pending` or `Dropped`:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use db_services::audit::testing::{Failure, MemoryDatabase};
//! use db_services::audit::{AuditEntry, Delivery};
//!
//! let database = MemoryDatabase::new();
//! let (writer, _guard) = database.writer().receipt_timeout(Duration::from_millis(50)).start().unwrap();
//! database.fail(Failure::Unreachable);
//! assert_eq!(writer.write(AuditEntry::new("auth.login")).await, Delivery::Pending);
//! database.recover();
//! assert_eq!(writer.flush(Duration::from_secs(10)).await.committed, 1);
//! # });
//! ```

mod coverage;
mod matching;
mod memory;

use std::time::Duration;

use db_schema::NewAuditLog;

use super::{AuditEntry, with_writer};

pub use coverage::Coverage;
pub use memory::{Failure, MemoryDatabase};

/// The longest that [`capture`] waits for its writer, which needs nothing but the processor.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The entries that were written inside a future, and the future's output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Captured<T> {
    /// The output of the future.
    pub output: T,
    entries: Vec<NewAuditLog>,
}

/// Runs a future and returns the entries that it wrote with the free functions, as they would be stored.
/// Entries of a task that it spawns are captured if the task is [carried](super::context::carry).
///
/// # Panics
/// When no thread can be started.
///
/// # Cancel safety
/// Dropping the future drops the captured entries with it.
#[allow(clippy::panic)] // a test kit: a test ends by panicking
pub async fn capture<F: Future>(future: F) -> Captured<F::Output> {
    let database = MemoryDatabase::new();
    let (writer, guard) = match database.writer().queue_capacity(1 << 20).start() {
        Ok(started) => started,
        Err(error) => panic!("{error}"),
    };
    let output = with_writer(writer, future).await;
    guard.shutdown(TIMEOUT).await;
    Captured {
        output,
        entries: database.entries(),
    }
}

impl<T> Captured<T> {
    /// Returns the entries in the order in which they were written.
    pub fn entries(&self) -> &[NewAuditLog] {
        &self.entries
    }

    /// Asserts that exactly one entry matches, and returns it. An entry matches if it has the action of
    /// `expected`, every other column that `expected` sets (an outcome other than success among them),
    /// and every member of its metadata. An id or a time is compared only if a setter has set it.
    ///
    /// # Panics
    /// When no entry or several match; the message shows the differences.
    #[track_caller]
    pub fn assert_one(&self, expected: &AuditEntry) -> &NewAuditLog {
        match &self.matching(expected)[..] {
            [one] => one,
            _ => self.fail_assertion("exactly one entry", expected),
        }
    }

    /// Asserts that no entry matches.
    ///
    /// # Panics
    /// When an entry matches.
    #[track_caller]
    pub fn assert_none(&self, expected: &AuditEntry) {
        if !self.matching(expected).is_empty() {
            self.fail_assertion("no entry", expected);
        }
    }

    /// Returns the entries that match, as [`assert_one`](Self::assert_one) does.
    pub fn matching(&self, expected: &AuditEntry) -> Vec<&NewAuditLog> {
        self.entries
            .iter()
            .filter(|entry| matching::differences(expected, entry).is_empty())
            .collect()
    }

    #[track_caller]
    #[allow(clippy::panic)] // a test kit: a test ends by panicking
    fn fail_assertion(&self, wanted: &str, expected: &AuditEntry) -> ! {
        panic!("{}", matching::report(wanted, expected, &self.entries));
    }
}
