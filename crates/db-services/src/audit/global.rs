//! Which writer do the free functions use? That of the surrounding scope, the installed one, or one
//! started on first use from the environment.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::writer::{
    AuditWriter, Delivery, DropReason, Durability, Receipt, WriterGuard, WriterReport, WriterStats,
};
use super::{AuditEntry, InstallError};
use crate::client::Database;

tokio::task_local! {
    static SCOPED: AuditWriter;
}

/// The process-wide writer, once there is one.
static WRITER: OnceLock<AuditWriter> = OnceLock::new();
/// Why there is none, once the environment was looked at and gave none.
static NO_WRITER: OnceLock<NoWriter> = OnceLock::new();
/// Held by who decides; holds the guard of a writer started here, so that it is never dropped.
static DECIDING: Mutex<Option<WriterGuard>> = Mutex::new(None);

#[derive(Clone)]
enum NoWriter {
    /// Nothing is configured, or `AUDIT_LOG=off`.
    Disabled,
    /// What is configured cannot be used.
    Unusable(Arc<str>),
}

/// Records one event. Returns at once, from any thread, inside or outside any runtime: the entry is
/// taken when this returns. It never waits, fails or panics.
///
/// Drop what it returns to forget about it, or await it to hear what became of the entry:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # use db_services::audit::{self, AuditWriter};
/// # let database = db_services::client::Database::from_url("sqlite::memory:").unwrap();
/// # database.migrate().await.unwrap();
/// # let (writer, _guard) = AuditWriter::builder(database).start().unwrap();
/// # audit::with_writer(writer, async {
/// use db_services::audit::{AuditEntry, Delivery, write_audit_log};
///
/// write_audit_log(AuditEntry::new("auth.login").actor("alice"));
///
/// let delivery = write_audit_log(AuditEntry::new("api_key.create").actor("alice")).await;
/// assert_eq!(delivery, Delivery::Committed);
/// # }).await
/// # })
/// ```
///
/// The writer is that of the surrounding [`with_writer`], else the one given to [`install`], else
/// one started now from the environment: `AUDIT_DATABASE_URL`, else `DATABASE_URL`, with a spool
/// ([`Durability::Spill`]) in `AUDIT_SPOOL_DIR` if that is set. With no database nothing happens, which
/// is logged once; `AUDIT_LOG=off` says that it is meant.
pub fn write_audit_log(entry: AuditEntry) -> Receipt {
    match current() {
        Ok(writer) => writer.write_once(entry),
        Err(none) => none.receipt([entry]),
    }
}

/// Records many events, all or none, with one INSERT: 1,000 rows or 4 MiB at the most, beyond that
/// with several. Otherwise as [`write_audit_log`]. Without entries nothing happens.
pub fn write_audit_logs(entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
    match current() {
        Ok(writer) => writer.write_all(entries),
        Err(none) => none.receipt(entries),
    }
}

/// Makes a writer the one of this process. Keep its guard until the end of `main`.
///
/// # Errors
/// When one is in use already: installed, or started by an entry written before.
pub fn install(writer: AuditWriter) -> Result<(), InstallError> {
    let _deciding = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    WRITER.set(writer).map_err(|_| InstallError)
}

/// Runs a future in which the free functions use this writer: for tests, and for a second database.
///
/// It holds for the future itself, not for tasks spawned from it.
pub async fn with_writer<F: Future>(writer: AuditWriter, future: F) -> F::Output {
    SCOPED.scope(writer, future).await
}

/// Waits until everything written so far is settled, at most `timeout`. Starts no writer.
///
/// # Cancel safety
/// Dropping the future changes nothing.
pub async fn flush(timeout: Duration) -> WriterReport {
    match existing() {
        Some(writer) => writer.flush(timeout).await,
        None => WriterReport::default(),
    }
}

/// Stops the writer after writing what is queued, for at most `timeout`. Call it before `main`
/// returns, unless you hold a guard: a writer started from the environment has none. Entries
/// written later are dropped.
///
/// # Cancel safety
/// The writer stops all the same when the future is dropped.
pub async fn shutdown(timeout: Duration) -> WriterReport {
    match existing() {
        Some(writer) => writer.shut_down(timeout).await,
        None => WriterReport::default(),
    }
}

/// Does what [`shutdown`] does, for programs without a runtime: blocks the thread.
pub fn shutdown_blocking(timeout: Duration) -> WriterReport {
    match existing() {
        Some(writer) => writer.shut_down_blocking(timeout),
        None => WriterReport::default(),
    }
}

/// Whether entries are being written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// No writer yet: the first entry starts one, if a database is configured.
    NotStarted,
    /// Nothing is written: no database is configured, or `AUDIT_LOG=off`.
    Disabled,
    /// Entries are dropped: the configured database cannot be used, for this reason.
    Unusable(String),
    /// The writer runs.
    Running(WriterStats),
    /// The writer was shut down; entries are dropped.
    Stopped(WriterStats),
}

/// Gives the state of the writer that the free functions would use here. Starts none.
pub fn status() -> Status {
    match (existing(), NO_WRITER.get()) {
        (Some(writer), _) if writer.is_closed() => Status::Stopped(writer.stats()),
        (Some(writer), _) => Status::Running(writer.stats()),
        (None, Some(NoWriter::Disabled)) => Status::Disabled,
        (None, Some(NoWriter::Unusable(reason))) => Status::Unusable(reason.to_string()),
        (None, None) => Status::NotStarted,
    }
}

/// The writer that is there, without starting one.
fn existing() -> Option<AuditWriter> {
    SCOPED.try_with(AuditWriter::clone).ok().or_else(|| WRITER.get().map(AuditWriter::lasting))
}

/// The writer to use, started from the environment if there is none yet.
fn current() -> Result<AuditWriter, NoWriter> {
    if let Some(writer) = existing() {
        return Ok(writer);
    }
    if let Some(none) = NO_WRITER.get() {
        return Err(none.clone());
    }
    let mut guard = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(writer) = WRITER.get() {
        return Ok(writer.lasting());
    }
    if let Some(none) = NO_WRITER.get() {
        return Err(none.clone());
    }
    match start_from_environment() {
        Ok((writer, started)) => {
            *guard = Some(started);
            Ok(WRITER.get_or_init(|| writer).lasting())
        }
        Err(none) => Err(NO_WRITER.get_or_init(|| none).clone()),
    }
}

fn start_from_environment() -> Result<(AuditWriter, WriterGuard), NoWriter> {
    if std::env::var_os("AUDIT_LOG").is_some_and(|value| value.eq_ignore_ascii_case("off")) {
        return Err(NoWriter::Disabled);
    }
    let unusable = |reason: String| {
        log::error!("audit: entries are being lost, the configured database cannot be used: {reason}");
        NoWriter::Unusable(reason.into())
    };
    let database = Database::from_env().map_err(|error| unusable(error.to_string()))?.ok_or_else(|| {
        log::warn!(
            "audit: no database is configured, no entries are written: set AUDIT_DATABASE_URL or DATABASE_URL, or \
             AUDIT_LOG=off if that is meant"
        );
        NoWriter::Disabled
    })?;
    let builder = AuditWriter::builder(database);
    let dir = std::env::var_os("AUDIT_SPOOL_DIR").filter(|dir| !dir.is_empty());
    let spilling = dir.map(|dir| builder.clone().durability(Durability::Spill(dir.into())).start());
    match spilling {
        Some(Ok(started)) => return Ok(started),
        // Worse than asked for, and better than nothing.
        Some(Err(error)) => {
            log::error!("audit: AUDIT_SPOOL_DIR cannot be used, entries wait in memory: {error}")
        }
        None => {}
    }
    builder.start().map_err(|error| unusable(error.to_string()))
}

impl NoWriter {
    fn receipt(&self, entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
        let delivery = match self {
            Self::Disabled => Delivery::Disabled,
            Self::Unusable(reason) => Delivery::Dropped(DropReason::Configuration(Arc::clone(reason))),
        };
        Receipt::settled(&delivery, entries.into_iter().count() as u64)
    }
}
