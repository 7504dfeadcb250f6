//! How long does one caller wait who awaits each entry?

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use db_schema::NewAuditLog;
use db_schema::schema::audit_logs;
use db_services::audit::{with_writer, write_audit_log};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::Fallible;
use crate::args::Options;
use crate::event::Event;
use crate::ingest::{ANCESTOR, SEA_ORM, SQLX, node_is_there, slow};
use crate::peers::{node, ours, sea_orm, sqlx};
use crate::place::{Place, Table};
use crate::progress;
use crate::report::Report;
use crate::rounds::{Contender, Rounds};
use crate::row::Goal::{AtLeast, AtMost};
use crate::row::Series;
use crate::stats::percentile;

const OURS: &str = "write_audit_log, awaited";

/// What a statement takes the server, about.
const PAUSE: Duration = Duration::from_micros(100);

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let per_block = (options.events / 1_000).max(5);
    let Blocks { ours, tail, held, hop } = blocks(place, options.blocks, per_block).await?;
    report.add(ours.against(&held, Some(AtMost(1.15))))?;
    for series in [held, tail, hop] {
        report.add(series.row(None))?;
    }
    let mut contenders = vec![
        Contender { name: OURS, rows: slow(options.events), turn: ours::awaited },
        Contender { name: SQLX, rows: slow(options.events), turn: sqlx::single },
        Contender { name: SEA_ORM, rows: slow(options.events), turn: sea_orm::single },
    ];
    if node_is_there(options, ANCESTOR).await {
        contenders.push(Contender { name: ANCESTOR, rows: slow(options.events), turn: node::single });
    }
    let rounds = Rounds::run("latency", place, options, &contenders).await?;
    for (reference, goal) in [(ANCESTOR, 2.7), (SQLX, 1.4), (SEA_ORM, 1.8)] {
        report.add(rounds.rate(OURS).against(&rounds.rate(reference), Some(AtLeast(goal))))?;
    }
    for name in [ANCESTOR, SQLX, SEA_ORM] {
        report.add(rounds.rate(name).row(None))?;
    }
    Ok(())
}

/// What is measured in each block.
struct Blocks {
    ours: Series,
    tail: Series,
    /// A cached single insert on a held connection.
    held: Series,
    /// A word to another thread, and one back: what any writer with a thread of its own adds.
    hop: Series,
}

/// Alternating blocks into the same table.
async fn blocks(place: &Place, blocks: usize, per_block: usize) -> Fallible<Blocks> {
    let fresh = place.fresh(Table::Own).await?;
    let (writer, guard) = ours::start(&fresh.url)?;
    let mut conn = AsyncPgConnection::establish(&fresh.url).await?;
    let mut ours = Series::new("write_audit_log, awaited: p50", "µs");
    let mut tail = Series::new("write_audit_log, awaited: p99", "µs");
    let mut held = Series::new("single insert, held connection: p50", "µs");
    let mut hop = Series::new("to another thread and back: p50", "µs");
    let bar = progress::bar("latency", blocks);
    // Tasks, as a server's handlers are: the main thread would have to be woken from elsewhere.
    for block in 0..=blocks {
        let numbers = block * per_block..(block + 1) * per_block;
        let mine = with_writer(writer.clone(), awaited(numbers.clone()));
        let mine = tokio::spawn(mine).await??;
        let (back, theirs) = tokio::spawn(inserted(conn, numbers)).await??;
        conn = back;
        // The first block is the warm-up.
        if block > 0 {
            ours.values.extend(percentile(&mine, 0.5));
            tail.values.extend(percentile(&mine, 0.99));
            held.values.extend(percentile(&theirs, 0.5));
            hop.values.extend(percentile(&tokio::task::spawn_blocking(move || hops(per_block)).await?, 0.5));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    drop(conn);
    guard.shutdown(ours::PATIENCE).await;
    fresh.settle(2 * per_block * (blocks + 1)).await?;
    Ok(Blocks { ours, tail, held, hop })
}

/// Microseconds of each, a pause before each so that both threads sleep.
fn hops(count: usize) -> Vec<f64> {
    let (there, heard) = mpsc::channel();
    let (answer, back) = mpsc::channel();
    let other = thread::spawn(move || heard.iter().try_for_each(|()| answer.send(())));
    let hop = |_| {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        there.send(()).ok()?;
        back.recv().ok()?;
        Some(begun.elapsed().as_secs_f64() * 1e6)
    };
    let calls = (0..count).filter_map(hop).collect();
    drop(there);
    // It has nothing more to answer.
    let _ = other.join();
    calls
}

async fn awaited(numbers: std::ops::Range<usize>) -> Fallible<Vec<f64>> {
    let mut calls = Vec::with_capacity(numbers.len());
    for nth in numbers {
        let begun = Instant::now();
        ours::committed(write_audit_log(Event::entry(nth)).await)?;
        calls.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(calls)
}

async fn inserted(
    mut conn: AsyncPgConnection,
    numbers: std::ops::Range<usize>,
) -> Fallible<(AsyncPgConnection, Vec<f64>)> {
    let mut calls = Vec::with_capacity(numbers.len());
    for nth in numbers {
        let begun = Instant::now();
        let row = NewAuditLog::from(Event::entry(nth));
        diesel::insert_into(audit_logs::table).values(&row).execute(&mut conn).await?;
        calls.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok((conn, calls))
}
