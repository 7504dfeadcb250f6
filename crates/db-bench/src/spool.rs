//! Throughput of the spool and of its replay.

use std::path::Path;

use db_schema::NewAuditLog;
use db_services::audit::{AuditWriter, AuditWriterBuilder, Durability, WriterGuard};
use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::Result;
use crate::args::Options;
use crate::clock::{Sample, Stopwatch};
use crate::contenders::batches::BATCH;
use crate::contenders::{WARM_UP, audit_writer};
use crate::event::Event;
use crate::report::Report;
use crate::result::Goal::AtLeast;
use crate::schedule::{Contender, Rounds};
use crate::server::{BenchServer, Table};

const AHEAD: &str = "WriteAhead, until synced, database down";
const THROUGH: &str = "WriteAhead, until committed";
const SQLITE: &str = "bare SQLite table, batches of 1000";
const INGEST: &str = "Memory, until committed";
const REPLAY: &str = "replay of the spool";

/// A port without a listener: the database is down from the start.
const DOWN: &str = "postgres://nobody@127.0.0.1:1/nothing";

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let events = options.events;
    let contenders = [
        Contender::new(AHEAD, events, ahead),
        Contender::new(SQLITE, events / 2, bare_sqlite),
        Contender::new(INGEST, events, audit_writer::fire_and_forget),
        Contender::new(REPLAY, events, replay),
        Contender::new(THROUGH, events, through),
    ];
    let rounds = Rounds::run("spool", server, options, &contenders).await?;
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

/// Starts a writer that writes everything to a spool first.
fn start(url: &str, dir: &Path) -> Result<(AuditWriter, WriterGuard)> {
    let set_up = |builder: AuditWriterBuilder| builder.durability(Durability::WriteAhead(dir.to_owned()));
    audit_writer::start_with(url, set_up)
}

/// Writes entries of one producer until each is synced in the spool. The database is down throughout.
fn ahead(_: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let dir = tempfile::tempdir()?;
        let (writer, guard) = start(DOWN, dir.path())?;
        audit_writer::produce(&writer, WARM_UP).await?;
        let watch = Stopwatch::start();
        audit_writer::produce(&writer, rows).await?;
        let sample = watch.sample(rows);
        let report = guard.shutdown(audit_writer::TIMEOUT).await;
        match report.spooled == (WARM_UP + rows) as u64 && report.lost == 0 {
            true => Ok(sample),
            false => Err(format!("void: {report:?}").into()),
        }
    }
    .boxed()
}

/// The same with the database up, until all are committed.
fn through(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let dir = tempfile::tempdir()?;
        let (writer, guard) = start(&database.url, dir.path())?;
        audit_writer::produce(&writer, WARM_UP).await?;
        let watch = Stopwatch::start();
        audit_writer::produce(&writer, rows).await?;
        wait_until_committed(&writer, |stats| stats.spooled == 0).await;
        let sample = watch.sample(rows);
        guard.shutdown(audit_writer::TIMEOUT).await;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Measures a replay, from the start of the next writer until everything is committed.
fn replay(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let dir = tempfile::tempdir()?;
        // A spool is replayed to the database of its name, so the table must be missing meanwhile.
        let admin = crate::server::connect(&database.url).await?;
        admin
            .batch_execute("ALTER TABLE audit_logs RENAME TO audit_logs_away")
            .await?;
        let (writer, guard) = start(&database.url, dir.path())?;
        audit_writer::produce(&writer, rows).await?;
        let left = guard.shutdown(std::time::Duration::from_secs(1)).await;
        if left.spooled != rows as u64 {
            return Err(format!("void: {left:?}").into());
        }
        admin
            .batch_execute("ALTER TABLE audit_logs_away RENAME TO audit_logs")
            .await?;
        drop(admin);
        let watch = Stopwatch::start();
        let (writer, guard) = start(&database.url, dir.path())?;
        wait_until_committed(&writer, |stats| stats.replayed == rows as u64).await;
        let sample = watch.sample(rows);
        guard.shutdown(audit_writer::TIMEOUT).await;
        database.verify_and_drop(rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Polls every millisecond.
async fn wait_until_committed(writer: &AuditWriter, done: impl Fn(&db_services::audit::WriterStats) -> bool) {
    while !done(&writer.stats()) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Inserts the same rows into an SQLite table without indexes and checks: prepared single inserts, 1,000
/// in a transaction, each synced like the spool's.
fn bare_sqlite(_: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move { tokio::task::spawn_blocking(move || insert_all(rows)).await? }.boxed()
}

fn insert_all(rows: usize) -> Result<Sample> {
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
