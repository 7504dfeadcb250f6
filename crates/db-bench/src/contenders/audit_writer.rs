//! The audit writer.

use std::time::Duration;

use db_services::audit::{
    AuditWriter, AuditWriterBuilder, Delivery, WriterGuard, with_writer, write_audit_log,
};
use db_services::client::Database;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};

use super::{Single, WARM_UP};
use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::server::{BenchDatabase, BenchServer, Table};

/// The longest that a writer may take for its queue.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A producer that is faster than the database waits above this many queued entries, half of what the
/// queue holds: nothing may be dropped, and the writer is never short of work.
const HIGH_WATER: usize = 32_768;

/// Starts a writer with default settings.
pub(crate) fn start(url: &str) -> Result<(AuditWriter, WriterGuard)> {
    start_with(url, |builder| builder)
}

pub(crate) fn start_with(
    url: &str,
    set_up: impl FnOnce(AuditWriterBuilder) -> AuditWriterBuilder,
) -> Result<(AuditWriter, WriterGuard)> {
    Ok(set_up(AuditWriter::builder(Database::from_url(url)?)).start()?)
}

/// Writes entries of one producer that awaits none, until all are committed.
pub(crate) fn fire_and_forget(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let url = database.url.clone();
        into(database, rows, url).await
    }
    .boxed()
}

/// The same as a role that may only insert, with triggers, partitions and privileges.
pub(crate) fn guarded(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let url = database.writer_url();
        into(database, rows, url).await
    }
    .boxed()
}

/// The same into the bare table, as its owner.
pub(crate) fn unguarded(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Bare).await?;
        let url = database.url.clone();
        into(database, rows, url).await
    }
    .boxed()
}

async fn into(database: BenchDatabase<'_>, rows: usize, url: String) -> Result<Sample> {
    let (writer, guard) = start(&url)?;
    produce(&writer, WARM_UP).await?;
    let watch = Stopwatch::start();
    produce(&writer, rows).await?;
    let sample = watch.sample(rows);
    let report = guard.shutdown(TIMEOUT).await;
    if report.lost > 0 {
        return Err(format!("void: {} entries were lost", report.lost).into());
    }
    database.verify_and_drop(WARM_UP + rows).await?;
    Ok(sample)
}

/// Writes entries from a separate thread and waits until everything is settled.
pub(crate) async fn produce(writer: &AuditWriter, rows: usize) -> Result<()> {
    let producer = writer.clone();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let writing = async {
            for nth in 0..rows {
                write_audit_log(Event::entry(nth));
                while nth % 256 == 255 && producer.stats().queued > HIGH_WATER {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        runtime.block_on(with_writer(producer.clone(), writing));
    })
    .await?;
    let report = writer.flush(TIMEOUT).await;
    if report.lost > 0 || report.pending > 0 {
        return Err(format!("void: {} entries lost, {} pending", report.lost, report.pending).into());
    }
    Ok(())
}

/// A caller that awaits each entry.
pub(crate) struct Awaited;

impl Single for Awaited {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        committed(write_audit_log(Event::entry(nth)).await)
    }
}

/// Writes entries from this number of concurrent callers, which await each.
pub(crate) async fn concurrent(server: &BenchServer, rows: usize, callers: usize) -> Result<Sample> {
    let database = server.create_database(Table::Own).await?;
    let (writer, guard) = start(&database.url)?;
    let each = rows / callers;
    let share = async |rows: usize| {
        let tasks = (0..callers).map(|caller| {
            let write = async move {
                for nth in 0..rows {
                    committed(write_audit_log(Event::entry(caller * rows + nth)).await)?;
                }
                Ok::<_, crate::Error>(())
            };
            tokio::spawn(with_writer(writer.clone(), write))
        });
        try_join_all(tasks).await?.into_iter().collect::<Result<()>>()
    };
    share(WARM_UP / callers).await?;
    let watch = Stopwatch::start();
    share(each).await?;
    let sample = watch.sample(each * callers);
    guard.shutdown(TIMEOUT).await;
    database
        .verify_and_drop((WARM_UP / callers + each) * callers)
        .await?;
    Ok(sample)
}

pub(crate) fn committed(delivery: Delivery) -> Result<()> {
    match delivery {
        Delivery::Committed => Ok(()),
        other => Err(format!("void: an entry was {other:?}").into()),
    }
}
