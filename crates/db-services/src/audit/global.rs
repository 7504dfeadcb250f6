//! The writer that the free functions use: that of the surrounding scope, the installed one, or one
//! started on first use from the environment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::panics::contained;
use super::writer::{
    AuditWriter, Delivery, DropReason, Receipt, Shared, WriterReport, WriterStats, start_from_environment,
};
use super::{AuditEntry, InstallError};
use crate::LOG_TARGET;

tokio::task_local! {
    static SCOPED: Option<AuditWriter>;
}

/// How long a start that failed for want of a thread is not tried again.
const RETRY_START_AFTER: Duration = Duration::from_secs(1);

/// The process-wide writer, once its thread runs.
static WRITER: OnceLock<AuditWriter> = OnceLock::new();
/// The state before that. No user code runs while it is locked: a logger may write entries itself.
static STARTING: Mutex<Starting> = Mutex::new(Starting::NotYet);
/// True once the environment was found to name no database, which is logged once.
static DISABLED: AtomicBool = AtomicBool::new(false);

/// A writer that has no thread yet.
enum Starting {
    /// No entry was written.
    NotYet,
    /// The operating system gave no thread. Its numbers count on: their loss is declared once it runs, or by the
    /// writer that is installed instead.
    Failed {
        shared: Arc<Shared>,
        at: Instant,
        reason: Arc<str>,
    },
    /// It runs, or one was installed.
    Done,
}

/// Why an entry cannot be given to a writer.
enum Unavailable {
    /// Nothing is configured, or `AUDIT_LOG=off`.
    Disabled,
    /// The writer's thread could not be started.
    NoThread { shared: Arc<Shared>, reason: Arc<str> },
}

/// Records one event. Returns at once, from any thread, inside or outside any runtime: the entry is
/// taken when this returns. It never waits, fails or panics. (Three lines are logged from here, each once at most: that
/// no database is configured, that no thread can be started, that an entry came after the shutdown. A logger that
/// blocks, blocks its caller then.)
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
/// ([`Durability::Spill`](super::Durability::Spill)) in `AUDIT_SPOOL_DIR` if that is set. With no database nothing happens, which
/// is logged once; `AUDIT_LOG=off` says that it is meant.
pub fn write_audit_log(entry: AuditEntry) -> Receipt {
    match current() {
        Ok(writer) => writer.write_owned(entry),
        Err(unavailable) => unavailable.receipt([entry]),
    }
}

/// Records many events, all or none, with one INSERT: at most 1,000 rows or 4 MiB, beyond that
/// with several. Otherwise as [`write_audit_log`]. Without entries nothing happens.
pub fn write_audit_logs(entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
    match current() {
        Ok(writer) => writer.write_all(entries),
        Err(unavailable) => unavailable.receipt(entries),
    }
}

/// Installs a writer for this process. Keep its guard until the end of `main`.
///
/// # Errors
/// When one is in use already: installed, or started by an entry written before.
pub fn install(writer: AuditWriter) -> Result<(), InstallError> {
    let mut starting = starting();
    WRITER.set(writer.clone()).map_err(|_| InstallError)?;
    let before = std::mem::replace(&mut *starting, Starting::Done);
    drop(starting);
    if let Starting::Failed { shared, reason, .. } = before {
        // Entries that no thread could be started for: this writer reports and declares their loss.
        if let Some(range) = writer.shared().reserve(shared.submitted()) {
            writer.shared().refuse_for(range, DropReason::NoThread(reason));
        }
    }
    Ok(())
}

/// Runs a future in which the free functions use this writer: for tests, and for a second database.
///
/// It holds for the future itself; a task that is spawned from it takes it along with
/// [`context::carry`](super::context::carry).
pub async fn with_writer<F: Future>(writer: AuditWriter, future: F) -> F::Output {
    SCOPED.scope(Some(writer), future).await
}

/// Takes the writer of the surrounding scope along, if there is one.
pub(super) fn carry_writer<F: Future>(future: F) -> impl Future<Output = F::Output> {
    SCOPED.scope(scoped(), future)
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
    match existing_or_starting() {
        Some(writer) => writer.shut_down(timeout).await,
        None => unstarted_report(),
    }
}

/// Does what [`shutdown`] does, for programs without a runtime: blocks the thread.
pub fn shutdown_blocking(timeout: Duration) -> WriterReport {
    match existing_or_starting() {
        Some(writer) => writer.shut_down_blocking(timeout),
        None => unstarted_report(),
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
    /// Entries are dropped: the configured database cannot be used, or the operating system gives no
    /// thread, for this reason. The start is tried again only for want of a thread.
    Unusable(String),
    /// The writer runs.
    Running(WriterStats),
    /// The writer was shut down; entries are dropped.
    Stopped(WriterStats),
}

/// Returns the state of the writer that the free functions would use here. Starts none.
pub fn status() -> Status {
    let Some(writer) = existing() else {
        return match &*starting() {
            Starting::Failed { reason, .. } => Status::Unusable(reason.to_string()),
            _ if DISABLED.load(Ordering::Relaxed) => Status::Disabled,
            _ => Status::NotStarted,
        };
    };
    match writer.shared().unusable() {
        Some(reason) => Status::Unusable(reason.to_string()),
        None if writer.is_closed() => Status::Stopped(writer.stats()),
        None => Status::Running(writer.stats()),
    }
}

/// The writer that exists, without starting one.
fn existing() -> Option<AuditWriter> {
    scoped().or_else(|| WRITER.get().map(AuditWriter::to_static))
}

/// The writer of the surrounding scope.
fn scoped() -> Option<AuditWriter> {
    SCOPED.try_with(Clone::clone).ok().flatten()
}

/// The writer that exists or is about to: a start under way is waited for, which takes as long as starting a
/// thread.
fn existing_or_starting() -> Option<AuditWriter> {
    existing().or_else(|| {
        drop(starting());
        existing()
    })
}

/// The entries that were dropped because no thread could be started.
fn unstarted_report() -> WriterReport {
    match &*starting() {
        Starting::Failed { shared, .. } => shared.report(),
        Starting::NotYet | Starting::Done => WriterReport::default(),
    }
}

/// The writer to use, started from the environment if there is none yet.
#[inline]
fn current() -> Result<AuditWriter, Unavailable> {
    existing().map_or_else(start, Ok)
}

#[cold]
fn start() -> Result<AuditWriter, Unavailable> {
    if DISABLED.load(Ordering::Relaxed) {
        return Err(Unavailable::Disabled);
    }
    if !is_configured() {
        if !DISABLED.swap(true, Ordering::Relaxed) && !is_off() {
            contained(|| {
                log::warn!(
                    target: LOG_TARGET,
                    "no database is configured, no entries are written: set AUDIT_DATABASE_URL or \
                     DATABASE_URL, or AUDIT_LOG=off if that is meant"
                );
            });
        }
        return Err(Unavailable::Disabled);
    }
    let (result, is_new) = start_once();
    if let (true, Err(Unavailable::NoThread { reason, .. })) = (is_new, &result) {
        contained(|| {
            log::error!(target: LOG_TARGET, reason:% = reason; "entries are being lost, the writer's thread could not be started: {reason}");
        });
    }
    result
}

/// Starts the writer unless that failed a moment ago. True if it failed now and not before.
fn start_once() -> (Result<AuditWriter, Unavailable>, bool) {
    let mut starting = starting();
    if let Some(writer) = WRITER.get() {
        return (Ok(writer.to_static()), false);
    }
    let (shared, is_new) = match &*starting {
        Starting::Failed { shared, at, reason } if at.elapsed() < RETRY_START_AFTER => {
            let unavailable = Unavailable::NoThread {
                shared: Arc::clone(shared),
                reason: Arc::clone(reason),
            };
            return (Err(unavailable), false);
        }
        Starting::Failed { shared, .. } => (Arc::clone(shared), false),
        Starting::NotYet | Starting::Done => (AuditWriter::unstarted(), true),
    };
    match start_from_environment(&shared) {
        Ok(()) => {
            *starting = Starting::Done;
            (
                Ok(WRITER.get_or_init(|| AuditWriter::new(shared)).to_static()),
                false,
            )
        }
        Err(error) => {
            let reason: Arc<str> = error.to_string().into();
            let at = Instant::now();
            *starting = Starting::Failed {
                shared: Arc::clone(&shared),
                at,
                reason: Arc::clone(&reason),
            };
            (Err(Unavailable::NoThread { shared, reason }), is_new)
        }
    }
}

fn starting() -> MutexGuard<'static, Starting> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_off() -> bool {
    std::env::var_os("AUDIT_LOG").is_some_and(|value| value.eq_ignore_ascii_case("off"))
}

/// True if the environment names a database, usable or not.
fn is_configured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_off() && (is_set("AUDIT_DATABASE_URL") || is_set("DATABASE_URL"))
}

impl Unavailable {
    fn receipt(self, entries: impl IntoIterator<Item = AuditEntry>) -> Receipt {
        let count = entries.into_iter().count() as u64;
        match self {
            Self::Disabled => Receipt::settled(&Delivery::Disabled, count),
            Self::NoThread { shared, reason } => match shared.reserve(count) {
                Some(range) => shared.refuse_for(range, DropReason::NoThread(reason)),
                None => Receipt::settled(&Delivery::Committed, 0),
            },
        }
    }
}
