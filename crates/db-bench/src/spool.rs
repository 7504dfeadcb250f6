//! How fast does the spool take entries, and how fast does it give them back?

use std::path::Path;

use db_schema::NewAuditLog;
use db_services::audit::{AuditWriter, AuditWriterBuilder, Durability, WriterGuard};
use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::Fallible;
use crate::args::Options;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::peers::batches::BATCH;
use crate::peers::{WARM_UP, ours};
use crate::place::{Place, Table};
use crate::report::Report;
use crate::rounds::{Contender, Rounds};
use crate::row::Goal::AtLeast;

const AHEAD: &str = "WriteAhead, until synced, database down";
const THROUGH: &str = "WriteAhead, until committed";
const SQLITE: &str = "bare SQLite table, batches of 1000";
const INGEST: &str = "Memory, until committed";
const REPLAY: &str = "replay of the spool";

/// A port that nobody listens on: the database is down from the start.
const DOWN: &str = "postgres://nobody@127.0.0.1:1/nothing";

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let events = options.events;
    let contenders = [
        Contender {
            name: AHEAD,
            rows: events,
            turn: ahead,
        },
        Contender {
            name: SQLITE,
            rows: events / 2,
            turn: bare_sqlite,
        },
        Contender {
            name: INGEST,
            rows: events,
            turn: ours::forgotten,
        },
        Contender {
            name: REPLAY,
            rows: events,
            turn: replay,
        },
        Contender {
            name: THROUGH,
            rows: events,
            turn: through,
        },
    ];
    let rounds = Rounds::run("spool", place, options, &contenders).await?;
    report.add(
        rounds
            .rate(AHEAD)
            .against(&rounds.rate(SQLITE), Some(AtLeast(0.5))),
    )?;
    report.add(rounds.rate(THROUGH).against(&rounds.rate(SQLITE), None))?;
    report.add(
        rounds
            .rate(REPLAY)
            .against(&rounds.rate(INGEST), Some(AtLeast(0.5))),
    )?;
    report.add(rounds.rate(SQLITE).row(None))?;
    Ok(report.add(rounds.rate(INGEST).row(None))?)
}

/// A writer that keeps everything in a spool first, with room for a round's rows.
fn start(url: &str, dir: &Path) -> Fallible<(AuditWriter, WriterGuard)> {
    let set_up = |builder: AuditWriterBuilder| builder.durability(Durability::WriteAhead(dir.to_owned()));
    ours::start_with(url, set_up)
}

/// Entries of one producer, until each is in the spool, synced. The database is down throughout.
fn ahead(_: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let dir = tempfile::tempdir()?;
        let (writer, guard) = start(DOWN, dir.path())?;
        ours::produce(&writer, WARM_UP).await?;
        let watch = Stopwatch::start();
        ours::produce(&writer, rows).await?;
        let sample = watch.sample(rows);
        let report = guard.shutdown(ours::PATIENCE).await;
        match report.spooled == (WARM_UP + rows) as u64 && report.lost == 0 {
            true => Ok(sample),
            false => Err(format!("void: {report:?}").into()),
        }
    }
    .boxed()
}

/// The same with the database up, until all are committed.
fn through(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let fresh = place.fresh(Table::Own).await?;
        let dir = tempfile::tempdir()?;
        let (writer, guard) = start(&fresh.url, dir.path())?;
        ours::produce(&writer, WARM_UP).await?;
        let watch = Stopwatch::start();
        ours::produce(&writer, rows).await?;
        wait_until_committed(&writer, |stats| stats.spooled == 0).await;
        let sample = watch.sample(rows);
        guard.shutdown(ours::PATIENCE).await;
        fresh.settle(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// What an earlier writer left in its spool, from the start of the next one until all is committed.
fn replay(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move {
        let fresh = place.fresh(Table::Own).await?;
        let dir = tempfile::tempdir()?;
        // The name of the database decides which spool is adopted, so this one is closed to the writer.
        let admin = crate::place::connect(&fresh.url).await?;
        admin
            .batch_execute("ALTER TABLE audit_logs RENAME TO audit_logs_away")
            .await?;
        let (writer, guard) = start(&fresh.url, dir.path())?;
        ours::produce(&writer, rows).await?;
        let left = guard.shutdown(std::time::Duration::from_secs(1)).await;
        if left.spooled != rows as u64 {
            return Err(format!("void: {left:?}").into());
        }
        admin
            .batch_execute("ALTER TABLE audit_logs_away RENAME TO audit_logs")
            .await?;
        drop(admin);
        let watch = Stopwatch::start();
        let (writer, guard) = start(&fresh.url, dir.path())?;
        wait_until_committed(&writer, |stats| stats.replayed == rows as u64).await;
        let sample = watch.sample(rows);
        guard.shutdown(ours::PATIENCE).await;
        fresh.settle(rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Looks every millisecond.
async fn wait_until_committed(writer: &AuditWriter, done: impl Fn(&db_services::audit::WriterStats) -> bool) {
    while !done(&writer.stats()) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The rows of the same events into a table without indexes and checks: prepared single inserts, a
/// transaction for 1,000, each synced as the spool's are.
fn bare_sqlite(_: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    async move { tokio::task::spawn_blocking(move || insert_all(rows)).await? }.boxed()
}

fn insert_all(rows: usize) -> Fallible<Sample> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bare.db");
    let mut conn = SqliteConnection::establish(&path.display().to_string())?;
    conn.batch_execute(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE audit_logs (id BLOB, created_at BIGINT, tenant_id TEXT, actor_id TEXT, actor_type TEXT,
             on_behalf_of TEXT, action TEXT, outcome TEXT, resource_type TEXT, resource_id TEXT, ip_address TEXT,
             user_agent TEXT, request_id TEXT, trace_id TEXT, operation_id BLOB, metadata TEXT, writer_id BLOB,
             writer_seq BIGINT);",
    )?;
    let ready: Vec<NewAuditLog> = (0..rows)
        .map(|nth| NewAuditLog::from(Event::entry(nth)))
        .collect();
    let watch = Stopwatch::start();
    for batch in ready.chunks(BATCH) {
        conn.immediate_transaction(|conn| {
            batch.iter().try_for_each(|row| {
                diesel::insert_into(db_schema::sqlite::schema::audit_logs::table)
                    .values(db_schema::sqlite::NewAuditLog::from(row))
                    .execute(conn)
                    .map(drop)
            })
        })?;
    }
    Ok(watch.sample(rows))
}
