//! Entries whose outcome is known later.

use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::entry::now;
use super::ids::IdGenerator;
use super::limits::TEXT_CHARS;
use super::panics::contained;
use super::scrub;
use super::{AuditEntry, Delivery, Outcome, Receipt, context, write_audit_log};

/// Runs a future and records how it ended, with one entry.
///
/// | the future | outcome | members that are added to the metadata |
/// | --- | --- | --- |
/// | returns `Ok` | [`Success`](Outcome::Success) | `duration_ms` |
/// | returns `Err` | [`Failure`](Outcome::Failure) | `duration_ms`, `error`: the error's text, at most 512 characters |
/// | panics | [`Unknown`](Outcome::Unknown) | `duration_ms`, `ended`: `panicked` |
/// | is dropped before its end | [`Unknown`](Outcome::Unknown) | `duration_ms`, `ended`: `cancelled` |
///
/// The entry keeps the time at which it was created. A future that is never polled has not begun: nothing is
/// recorded. Control characters of the error's text become spaces. An operation whose attempt must be on record
/// before it begins needs [`begin`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use db_services::audit::{self, AuditWriter};
/// # let database = db_services::client::Database::from_url("sqlite::memory:").unwrap();
/// # database.migrate().await.unwrap();
/// # let (writer, _guard) = AuditWriter::builder(database).start().unwrap();
/// # audit::with_writer(writer, async {
/// use db_services::audit::{AuditEntry, observe};
///
/// let entry = AuditEntry::new("report.send").actor("alice");
/// let sent = observe(entry, async {
///     // … send it …
///     Err::<(), _>("the mail server refuses the recipient")
/// });
/// // One entry with the outcome `failure`.
/// assert!(sent.await.is_err());
/// # }).await
/// # })
/// ```
///
/// # Cancel safety
/// Dropping the future drops the one it runs, and records that.
pub async fn observe<T, E: Display>(
    entry: AuditEntry,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let unfinished = Unfinished::new(entry, Timestamp::Began);
    let result = future.await;
    match &result {
        Ok(_) => unfinished.finish(Outcome::Success),
        Err(error) => unfinished.fail(error),
    };
    result
}

/// Records that an operation is about to begin, and returns the [`Operation`] that records its outcome later.
///
/// Two entries: the intent has the outcome [`Unknown`](Outcome::Unknown) and the member `phase`: `intent` in its
/// metadata; the outcome has `phase`: `outcome` and a time and an id of its own. `operation_id` joins them: a new UUID
/// version 7 unless the entry has one.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use db_services::audit::{self, AuditWriter};
/// # let database = db_services::client::Database::from_url("sqlite::memory:").unwrap();
/// # database.migrate().await.unwrap();
/// # let (writer, _guard) = AuditWriter::builder(database).start().unwrap();
/// # audit::with_writer(writer, async {
/// use db_services::audit::{AuditEntry, Outcome, begin};
///
/// let operation = begin(AuditEntry::new("signing_key.rotate").actor("alice"));
/// if !operation.intent().await.is_durable() {
///     return; // Without a record, no rotation.
/// }
/// // … rotate the key …
/// operation.finish(Outcome::Success);
/// # }).await
/// # })
/// ```
pub fn begin(mut entry: AuditEntry) -> Operation {
    context::fill(std::slice::from_mut(&mut entry));
    let id = *entry
        .operation_id
        .get_or_insert_with(|| IdGenerator::default().next(entry.created_at));
    let mut outcome = entry.clone();
    outcome.id = None;
    let intent = entry.outcome(Outcome::Unknown).detail("phase", "intent");
    Operation {
        id,
        intent: write_audit_log(intent),
        outcome: Unfinished::new(outcome.detail("phase", "outcome"), Timestamp::Ended),
    }
}

/// An operation whose intent is recorded and whose outcome is not. See [`begin`].
///
/// Dropped without an outcome it records [`Outcome::Unknown`], with the member `ended`: `panicked` or `cancelled`.
#[must_use = "dropping the operation records that its outcome is unknown"]
#[derive(Debug)]
pub struct Operation {
    id: Uuid,
    intent: Receipt,
    outcome: Unfinished,
}

impl Operation {
    /// Returns the `operation_id` of both entries.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Waits until the intent is recorded, as awaiting a [`Receipt`] does.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn intent(&self) -> Delivery {
        self.intent.clone().await
    }

    /// The entry of the outcome, for what becomes known meanwhile. Its time and its outcome are set at the end. Leave
    /// `operation_id` as it is: it joins the two entries.
    pub fn entry_mut(&mut self) -> &mut AuditEntry {
        &mut self.outcome.entry
    }

    /// Records the outcome.
    pub fn finish(self, outcome: Outcome) -> Receipt {
        self.outcome.finish(outcome)
    }

    /// Records that the operation failed, with the error's text as [`observe`] does.
    pub fn fail(self, error: &impl Display) -> Receipt {
        self.outcome.fail(error)
    }
}

/// Which time an entry gets that is written at the end of what it describes.
#[derive(Clone, Copy, Debug)]
enum Timestamp {
    Began,
    Ended,
}

/// An entry whose outcome is not known yet. Dropped, it is written with an unknown one.
#[derive(Debug)]
struct Unfinished {
    entry: AuditEntry,
    timestamp: Timestamp,
    started: Instant,
    is_written: bool,
}

impl Unfinished {
    fn new(entry: AuditEntry, timestamp: Timestamp) -> Self {
        Self {
            entry,
            timestamp,
            started: Instant::now(),
            is_written: false,
        }
    }

    fn finish(mut self, outcome: Outcome) -> Receipt {
        self.write(outcome, None)
    }

    fn fail(mut self, error: &impl Display) -> Receipt {
        self.write(Outcome::Failure, Some(("error", error_text(error))))
    }

    fn write(&mut self, outcome: Outcome, member: Option<(&str, String)>) -> Receipt {
        self.is_written = true;
        let mut entry = std::mem::replace(&mut self.entry, AuditEntry::new(""));
        if let Timestamp::Ended = self.timestamp {
            entry.created_at = now();
        }
        entry = entry
            .outcome(outcome)
            .detail("duration_ms", milliseconds(self.started.elapsed()));
        if let Some((name, text)) = member {
            entry = entry.detail(name, text);
        }
        write_audit_log(entry)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_written {
            let how = if std::thread::panicking() {
                "panicked"
            } else {
                "cancelled"
            };
            self.write(Outcome::Unknown, Some(("ended", how.to_owned())));
        }
    }
}

/// Milliseconds with three decimal places.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The text of an error of the application, which may be of any length. It is scrubbed before it is cut: half a secret
/// does not look like one.
pub(super) fn error_text(error: &impl Display) -> String {
    let mut text = BoundedText::default();
    // An error: it is long enough, or the application's own code failed or panicked.
    let mut is_whole = false;
    contained(|| is_whole = write!(text, "{error}").is_ok());
    let BoundedText(mut text) = text;
    if !is_whole && text.len() >= MAX_ERROR_CHARS {
        // The last word may be the beginning of a secret.
        text.truncate(text.rfind(' ').unwrap_or(text.len()));
    }
    scrub::scrub_text(text).chars().take(TEXT_CHARS).collect()
}

/// The characters of an error's text that are looked at.
const MAX_ERROR_CHARS: usize = 8 * TEXT_CHARS;

/// The beginning of a text, at most [`MAX_ERROR_CHARS`] characters, without control characters.
#[derive(Default)]
struct BoundedText(String);

impl Write for BoundedText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let left = MAX_ERROR_CHARS - self.0.chars().count();
        self.0.extend(
            part.chars()
                .take(left)
                .map(|char| if char.is_control() { ' ' } else { char }),
        );
        // Ends the formatting: the rest is not looked at.
        if part.chars().nth(left).is_some() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_any_length_gives_a_bounded_text() {
        assert_eq!(error_text(&"no\nspace\u{1b}[31m"), "no space [31m");
        let exact = "ä".repeat(TEXT_CHARS);
        assert_eq!(error_text(&exact), exact);
        assert_eq!(error_text(&format!("{exact}x")), exact);
        let parts = std::fmt::from_fn(|f| (0..1_000).try_for_each(|_| f.write_str("four")));
        assert_eq!(error_text(&parts), "four".repeat(TEXT_CHARS / 4));
    }

    #[test]
    fn a_secret_at_the_cut_leaves_nothing_of_itself() {
        let key = format!("ghp_{}", "A1b2C3d4E5f6".repeat(3));
        for at in [TEXT_CHARS, MAX_ERROR_CHARS] {
            for kept in 1..key.len() {
                let text = error_text(&format!("{} {key} failed", "e".repeat(at - kept - 1)));
                assert!(!text.contains("ghp_"), "{kept}: {text}");
            }
        }
    }

    #[test]
    fn an_error_whose_text_panics_gives_what_it_wrote_before() {
        let error = std::fmt::from_fn(|f| {
            f.write_str("begun")?;
            panic!("as planned")
        });
        assert_eq!(error_text(&error), "begun");
    }

    #[test]
    fn a_duration_has_three_decimal_places() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.235);
        assert_eq!(milliseconds(Duration::ZERO), 0.0);
    }
}
