//! How fast is the audit writer itself?

use std::time::Duration;

use db_services::audit::{
    AuditWriter, AuditWriterBuilder, Delivery, WriterGuard, with_writer, write_audit_log,
};
use db_services::client::Database;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};

use super::{Single, WARM_UP};
use crate::Fallible;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::place::{Fresh, Place, Table};

/// How long a writer may take to write what is queued.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A producer that is faster than the database waits above this many queued entries, half of what the
/// queue holds: nothing may be dropped, and the writer is never short of work.
const HIGH_WATER: usize = 32_768;

/// A writer on a database, as an application would have it.
pub(crate) fn start(url: &str) -> Fallible<(AuditWriter, WriterGuard)> {
    start_with(url, |builder| builder)
}

pub(crate) fn start_with(
    url: &str,
    set_up: impl FnOnce(AuditWriterBuilder) -> AuditWriterBuilder,
) -> Fallible<(AuditWriter, WriterGuard)> {
    Ok(set_up(AuditWriter::builder(Database::from_url(url)?)).start()?)
}

/// Forgotten entries of one producer, until all are committed.
pub(crate) fn forgotten(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let fresh = place.fresh(Table::Own).await?;
        let url = fresh.url.clone();
        into(fresh, rows, url).await
    }
    .boxed()
}

/// The same as a role that may only insert: triggers, partitions and rights at work.
pub(crate) fn guarded(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let fresh = place.fresh(Table::Own).await?;
        let url = fresh.writer_url();
        into(fresh, rows, url).await
    }
    .boxed()
}

/// The same into the bare table, as its owner.
pub(crate) fn unguarded(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let fresh = place.fresh(Table::Bare).await?;
        let url = fresh.url.clone();
        into(fresh, rows, url).await
    }
    .boxed()
}

async fn into(fresh: Fresh<'_>, rows: usize, url: String) -> Fallible<Sample> {
    let (writer, guard) = start(&url)?;
    produce(&writer, WARM_UP).await?;
    let watch = Stopwatch::start();
    produce(&writer, rows).await?;
    let sample = watch.sample(rows);
    let report = guard.shutdown(PATIENCE).await;
    if report.lost > 0 {
        return Err(format!("void: {} entries were lost", report.lost).into());
    }
    fresh.settle(WARM_UP + rows).await?;
    Ok(sample)
}

/// Writes entries from a thread of its own and waits until everything is settled.
pub(crate) async fn produce(writer: &AuditWriter, rows: usize) -> Fallible<()> {
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
    let report = writer.flush(PATIENCE).await;
    if report.lost > 0 || report.pending > 0 {
        return Err(format!("void: {} entries lost, {} pending", report.lost, report.pending).into());
    }
    Ok(())
}

/// A caller that awaits each entry.
pub(crate) struct Awaited;

impl Single for Awaited {
    async fn insert(&mut self, nth: usize) -> Fallible<()> {
        committed(write_audit_log(Event::entry(nth)).await)
    }
}

/// Awaited entries of this number of callers at a time.
pub(crate) async fn concurrent(place: &Place, rows: usize, callers: usize) -> Fallible<Sample> {
    let fresh = place.fresh(Table::Own).await?;
    let (writer, guard) = start(&fresh.url)?;
    let each = rows / callers;
    let share = async |rows: usize| {
        let tasks = (0..callers).map(|caller| {
            let write = async move {
                for nth in 0..rows {
                    committed(write_audit_log(Event::entry(caller * rows + nth)).await)?;
                }
                Ok::<_, crate::Failure>(())
            };
            tokio::spawn(with_writer(writer.clone(), write))
        });
        try_join_all(tasks).await?.into_iter().collect::<Fallible<()>>()
    };
    share(WARM_UP / callers).await?;
    let watch = Stopwatch::start();
    share(each).await?;
    let sample = watch.sample(each * callers);
    guard.shutdown(PATIENCE).await;
    fresh.settle((WARM_UP / callers + each) * callers).await?;
    Ok(sample)
}

pub(crate) fn committed(delivery: Delivery) -> Fallible<()> {
    match delivery {
        Delivery::Committed => Ok(()),
        other => Err(format!("void: an entry was {other:?}").into()),
    }
}
