//! The start of the writer's thread, by a builder or by the first entry.
//!
//! The first entry does nothing but start the thread: the environment's database is opened there, and
//! entries wait in the queue meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use audit_core::Size;
use audit_core::writer::SpoolMode;
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::builder::{CONNECTIONS, Durability, QUEUE_BOUND, RECEIPT_TIMEOUT, SPOOL_BYTES, program_name};
use super::driver::{Driver, Parts};
use super::finish::{End, finish};
use super::shared::Shared;
use super::{AuditWriter, OnLoss, RetryPolicy};
use crate::LOG_TARGET;
use crate::audit::StartError;
use crate::audit::panics::contained;
use crate::audit::records::Records;
use crate::audit::scrub;
use crate::audit::sink::{PostgresSink, Sink, SqliteSink};
use crate::audit::spool::Spool;
use crate::client::{Database, Kind, Route};

/// How often starting is tried again while the operating system lacks something (descriptors, threads).
const RETRY_START: Duration = Duration::from_millis(50);

/// How often a spool directory of the environment is tried before the writer does without: for two seconds.
const SPOOL_ATTEMPTS: u32 = 40;

/// Everything that a writer's thread is started with.
pub(super) struct Setup<S> {
    pub(super) sinks: Vec<S>,
    pub(super) parts: Parts,
}

/// Starts the thread of a writer that a builder has set up.
pub(super) fn start<S: Sink>(shared: &Arc<Shared>, setup: Setup<S>) -> std::io::Result<()> {
    let on_loss = setup.parts.on_loss.clone();
    spawn(shared, on_loss, move |shared| run(shared, setup))
}

/// Starts a writer whose thread takes its database from the environment.
///
/// # Errors
/// When the operating system gives no thread. The entries of that writer are to be dropped then.
pub(in crate::audit) fn start_from_environment(shared: &Arc<Shared>) -> std::io::Result<()> {
    spawn(shared, None, run_from_environment)
}

impl AuditWriter {
    /// The shared parts of a writer that is started by its first entry.
    pub(in crate::audit) fn unstarted() -> Arc<Shared> {
        Arc::new(Shared::new(QUEUE_BOUND, RECEIPT_TIMEOUT))
    }
}

fn spawn(
    shared: &Arc<Shared>,
    on_loss: Option<OnLoss>,
    run: impl FnOnce(&Arc<Shared>) + Send + 'static,
) -> std::io::Result<()> {
    let shared = Arc::clone(shared);
    let body = move || {
        shared.set_own_thread();
        let work = || {
            scrub::prepare();
            run(&shared);
        };
        let end = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => End::Finished,
            Err(payload) => {
                contained(|| drop(payload));
                End::Panicked
            }
        };
        finish(&shared, end, on_loss.as_ref());
    };
    let spawned = catch_unwind(AssertUnwindSafe(|| {
        std::thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(body)
            .map(drop)
    }));
    // Where a thread is started from a thread-local's destructor, the standard library may panic.
    spawned.unwrap_or_else(|_| Err(std::io::Error::other("a thread cannot be started here")))
}

fn run<S: Sink>(shared: &Arc<Shared>, setup: Setup<S>) {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Some(runtime) = retry(shared, "the writer's runtime", build) else {
        return;
    };
    runtime.block_on(async {
        Driver::new(Arc::clone(shared), setup.sinks, setup.parts)
            .run()
            .await
    });
    // A statement that still hangs is given up with the runtime.
    runtime.shutdown_background();
}

/// Tries until it succeeds; none once the writer is to end. Receipts are answered meanwhile.
fn retry<T, E: std::fmt::Display>(
    shared: &Shared,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Option<T> {
    let mut is_logged = false;
    loop {
        let error = match attempt() {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        if !is_logged {
            is_logged = true;
            contained(
                || log::error!(target: LOG_TARGET, reason:% = error; "{what} did not start; entries wait in memory until it does: {error}"),
            );
        }
        let now = shared.now();
        if shared.shutdown_deadline().is_some_and(|deadline| deadline <= now) {
            return None;
        }
        shared.expire(now);
        std::thread::sleep(RETRY_START);
    }
}

fn run_from_environment(shared: &Arc<Shared>) {
    let database = match Database::from_env() {
        Ok(Some(database)) => database,
        Ok(None) => return set_unusable(shared, "the environment names no database any more"),
        Err(error) => return set_unusable(shared, &error.to_string()),
    };
    let name = database.to_string();
    shared.set_database(name, Some(database.clone()));
    let Some(parts) = parts_from_environment(shared, &database) else {
        return;
    };
    match database.kind() {
        Kind::Postgres { route, .. } => {
            let sinks = postgres_sinks(route, parts.retry.attempt_timeout);
            run(shared, Setup { sinks, parts });
        }
        Kind::Sqlite { location, .. } => {
            let start = || SqliteSink::start(location.clone());
            if let Some(sink) = retry(shared, "the thread for SQLite", start) {
                run(
                    shared,
                    Setup {
                        sinks: vec![sink],
                        parts,
                    },
                );
            }
        }
    }
}

/// With a spool if the environment names a directory that can be used.
fn parts_from_environment(shared: &Shared, database: &Database) -> Option<Parts> {
    let target = || database.spool_target();
    let bound = shared.queue.bound();
    let dir = std::env::var_os("AUDIT_SPOOL_DIR").filter(|dir| !dir.is_empty());
    if let Some(dir) = dir {
        let durability = Durability::Spill(dir.into());
        let attempt = || parts(bound, target(), &durability, SPOOL_BYTES, None);
        // A passing lack of descriptors must not cost the spool of the whole process.
        let mut tried = attempt();
        for _ in 1..SPOOL_ATTEMPTS {
            if tried.is_ok() || shared.shutdown_deadline().is_some() {
                break;
            }
            shared.expire(shared.now());
            std::thread::sleep(RETRY_START);
            tried = attempt();
        }
        match tried {
            Ok(parts) => return Some(parts),
            // Weaker than asked for, and better than nothing.
            Err(error) => {
                _ = contained(|| {
                    log::error!(target: LOG_TARGET, reason:% = error; "AUDIT_SPOOL_DIR cannot be used, entries wait in memory: {error}");
                });
            }
        }
    }
    parts(bound, target(), &Durability::Memory, SPOOL_BYTES, None).ok()
}

/// A sink for each connection of a writer. They create upcoming partitions, once.
pub(super) fn postgres_sinks(route: &Route, attempt_timeout: Duration) -> Vec<PostgresSink> {
    let sink = PostgresSink::new(route.clone(), attempt_timeout).creating_partitions();
    (0..CONNECTIONS).map(|_| sink.sibling()).collect()
}

fn set_unusable(shared: &Shared, reason: &str) {
    // Before receipts resolve: a program that awaits one may end at once, and the reason with it.
    contained(|| {
        log::error!(target: LOG_TARGET, reason; "entries are being lost, the configured database cannot be used: {reason}");
    });
    shared.set_unusable(reason.into());
}

/// What a writer's thread is made of besides its sinks. Opens the spool, if there is to be one.
pub(super) fn parts(
    bound: Size,
    target: String,
    durability: &Durability,
    spool_bytes: u64,
    service: Option<String>,
) -> Result<Parts, StartError> {
    let writer_id = Uuid::now_v7();
    let (word, spool) = match durability {
        Durability::Memory => ("memory", None),
        Durability::Spill(dir) => ("spill", Some((dir, SpoolMode::Overflow))),
        Durability::WriteAhead(dir) => ("write_ahead", Some((dir, SpoolMode::WriteAhead))),
    };
    let spool = match spool {
        None => None,
        Some((dir, mode)) => {
            let (sender, replies) = mpsc::unbounded_channel();
            let spool = Spool::start(dir, writer_id, target, spool_bytes, sender)?;
            Some((spool, replies, mode))
        }
    };
    let about = json!({"durability": word, "queue_capacity": bound.entries});
    let records = Records::new(writer_id, service.unwrap_or_else(program_name), about);
    Ok(Parts {
        retry: RetryPolicy::default(),
        records,
        spool,
        on_loss: None,
    })
}
