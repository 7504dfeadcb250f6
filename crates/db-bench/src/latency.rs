//! Latency and rate of one caller that awaits each entry.
//!
//! All contenders write to one table, in short alternating blocks: a slow phase of the machine affects
//! all of them, and a ratio is the median of the ratios within each block. The order changes from block
//! to block, so that no contender always follows the same one.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use db_services::audit::{AuditWriter, with_writer};

use crate::Result;
use crate::args::Options;
use crate::contenders::{Single, ancestor, audit_writer, sea_orm, single, sqlx};
use crate::ingest::{ANCESTOR, SEA_ORM, SQLX, includes_ancestor};
use crate::progress;
use crate::report::Report;
use crate::result::Goal::{AtLeast, AtMost};
use crate::result::Series;
use crate::server::{BenchServer, Table};
use crate::stats::percentile;

const OURS: &str = "write_audit_log, awaited";
const HELD: &str = "single insert, held connection";

/// About the time that a statement takes the server.
const PAUSE: Duration = Duration::from_micros(100);

/// Blocks of this part for each block of the other parts: these are shorter.
const FINER: usize = 8;

/// Calls of each contender before the blocks: a just-in-time compiler needs many to warm up.
const WARM_UP: usize = 300;

/// Calls at the beginning of a block that are not counted, because the contender was idle.
const REWARM: usize = 5;

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let database = server.create_database(Table::Own).await?;
    let (writer, guard) = audit_writer::start(&database.url)?;
    let mut contenders = contenders(&database.url, writer, options).await?;
    let per_block = (options.events / 2_000).max(5);
    let blocks = options.blocks * FINER;
    let mut hop = Series::new("to another thread and back: p50", "µs");
    let bar = progress::bar("latency", blocks);
    for contender in &mut contenders {
        contender.inserter.block(0..WARM_UP).await?;
    }
    let mut written = WARM_UP;
    for block in 0..blocks {
        let order = order(block, contenders.len());
        for at in order {
            contenders[at]
                .measure(written..written + REWARM + per_block)
                .await?;
        }
        written += REWARM + per_block;
        hop.values.extend(percentile(
            &tokio::task::spawn_blocking(move || hops(per_block)).await?,
            0.5,
        ));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let emitted = written * contenders.len();
    show(&contenders, hop, report)?;
    drop(contenders);
    guard.shutdown(audit_writer::TIMEOUT).await;
    database.verify_and_drop(emitted).await
}

fn show(contenders: &[LatencyContender], hop: Series, report: &mut Report) -> Result<()> {
    let [ours, held, baselines @ ..] = contenders else {
        return Err("no contenders".into());
    };
    report.add(ours.p50.against(&held.p50, Some(AtMost(1.10))))?;
    for series in [&held.p50, &ours.p99, &hop] {
        report.add(series.row(None))?;
    }
    for baseline in baselines {
        report.add(ours.rate.against(&baseline.rate, Some(AtLeast(baseline.goal))))?;
    }
    report.add(ours.rate.against(&held.rate, None))?;
    for contender in &contenders[1..] {
        report.add(contender.rate.row(None))?;
    }
    Ok(())
}

/// The writer, the held connection, and the other baselines that are selected.
async fn contenders(url: &str, writer: AuditWriter, options: &Options) -> Result<Vec<LatencyContender>> {
    let mut contenders = vec![
        LatencyContender::new(OURS, 1.0, Inserter::Ours(writer)),
        LatencyContender::new(HELD, 1.0, Inserter::Held(single::HeldOwn::connect(url).await?)),
    ];
    if options.takes_part(SQLX) {
        let inserter = Inserter::Sqlx(sqlx::HeldConnection::connect(url).await?);
        contenders.push(LatencyContender::new("sqlx, held connection", 1.0, inserter));
    }
    if options.takes_part(SEA_ORM) {
        let inserter = Inserter::SeaOrm(sea_orm::Pooled::connect(url, "audit_logs").await?);
        contenders.push(LatencyContender::new("sea-orm, pool", 1.2, inserter));
    }
    if includes_ancestor(options, ANCESTOR).await {
        contenders.push(LatencyContender::new(
            ANCESTOR,
            2.7,
            Inserter::Ancestor(ancestor::Blocks::start(url)?),
        ));
    }
    Ok(contenders)
}

/// A contender, and its measurements in each block.
struct LatencyContender {
    inserter: Inserter,
    /// The multiple of its rate that the writer should reach.
    goal: f64,
    rate: Series,
    p50: Series,
    p99: Series,
}

impl LatencyContender {
    fn new(name: &str, goal: f64, inserter: Inserter) -> Self {
        let series = |figure, unit| Series::new(format!("{name}: {figure}"), unit);
        Self {
            inserter,
            goal,
            rate: series("rate", "rows/s"),
            p50: series("p50", "µs"),
            p99: series("p99", "µs"),
        }
    }

    async fn measure(&mut self, numbers: Range<usize>) -> Result<()> {
        let counted = numbers.start + REWARM..numbers.end;
        let rows = counted.len() as f64;
        self.inserter.block(numbers.start..counted.start).await?;
        let Block { seconds, calls } = self.inserter.block(counted).await?;
        self.rate.values.push(rows / seconds);
        self.p50.values.extend(percentile(&calls, 0.5));
        self.p99.values.extend(percentile(&calls, 0.99));
        Ok(())
    }
}

enum Inserter {
    Ours(AuditWriter),
    Held(single::HeldOwn),
    Sqlx(sqlx::HeldConnection),
    SeaOrm(sea_orm::Pooled),
    Ancestor(ancestor::Blocks),
}

impl Inserter {
    /// Inserts these rows one by one.
    async fn block(&mut self, numbers: Range<usize>) -> Result<Block> {
        match self {
            Self::Ours(writer) => {
                with_writer(writer.clone(), timed(&mut audit_writer::Awaited, numbers)).await
            }
            Self::Held(inserter) => timed(inserter, numbers).await,
            Self::Sqlx(inserter) => timed(inserter, numbers).await,
            Self::SeaOrm(inserter) => timed(inserter, numbers).await,
            // Another process: this clock cannot time each call.
            Self::Ancestor(inserter) => Ok(Block {
                seconds: inserter.insert(numbers).await?,
                calls: Vec::new(),
            }),
        }
    }
}

/// The times of a block.
struct Block {
    seconds: f64,
    /// Microseconds of each call.
    calls: Vec<f64>,
}

async fn timed(inserter: &mut impl Single, numbers: Range<usize>) -> Result<Block> {
    let mut calls = Vec::with_capacity(numbers.len());
    let begun = Instant::now();
    for nth in numbers {
        let called = Instant::now();
        inserter.insert(nth).await?;
        calls.push(called.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Block {
        seconds: begun.elapsed().as_secs_f64(),
        calls,
    })
}

/// The order of the contenders in a block. Over many blocks each is in each position equally often.
fn order(block: usize, contenders: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contenders).collect();
    order.rotate_left(block / 2 % contenders);
    if block % 2 == 1 {
        order.reverse();
    }
    order
}

/// Sends a message to another thread and waits for the reply, with a pause before each so that both
/// threads sleep. Returns the microseconds of each round trip.
fn hops(count: usize) -> Vec<f64> {
    let (request, requests) = mpsc::channel();
    let (answer, back) = mpsc::channel();
    let other = thread::spawn(move || requests.iter().try_for_each(|()| answer.send(())));
    let hop = |_| {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        request.send(()).ok()?;
        back.recv().ok()?;
        Some(begun.elapsed().as_secs_f64() * 1e6)
    };
    let calls = (0..count).filter_map(hop).collect();
    drop(request);
    // The thread ends when its channel is closed.
    let _ = other.join();
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_is_equally_often_in_each_position() {
        for contenders in 2..=5 {
            let mut positions = vec![vec![0; contenders]; contenders];
            for block in 0..2 * contenders {
                for (position, contender) in order(block, contenders).into_iter().enumerate() {
                    positions[contender][position] += 1;
                }
            }
            assert!(
                positions.iter().flatten().all(|times| *times == 2),
                "{positions:?}"
            );
        }
    }
}
