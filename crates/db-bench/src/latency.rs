//! How long one caller waits that awaits each entry, and how many entries it writes in a second.
//!
//! All contenders write into one table, in short alternating blocks: what slows the machine for a while
//! slows all of them, and a ratio is the median of what the blocks' own pairs come to. The order changes
//! from block to block, so that no contender always follows the same one.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use db_services::audit::{AuditWriter, with_writer};

use crate::Fallible;
use crate::args::Options;
use crate::ingest::{ANCESTOR, SEA_ORM, SQLX, node_is_there};
use crate::peers::{Single, node, ours, sea_orm, single, sqlx};
use crate::place::{Place, Table};
use crate::progress;
use crate::report::Report;
use crate::row::Goal::{AtLeast, AtMost};
use crate::row::Series;
use crate::stats::percentile;

const OURS: &str = "write_audit_log, awaited";
const HELD: &str = "single insert, held connection";

/// What a statement takes the server, about.
const PAUSE: Duration = Duration::from_micros(100);

/// Blocks for each of the other parts' blocks: these are shorter.
const FINER: usize = 8;

/// Calls of each contender before the blocks: a runtime that compiles as it runs needs many to be warm.
const WARM_UP: usize = 300;

/// Calls at the beginning of a block that are not counted: the contender has been idle.
const REWARM: usize = 5;

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let fresh = place.fresh(Table::Own).await?;
    let (writer, guard) = ours::start(&fresh.url)?;
    let mut contenders = contenders(&fresh.url, writer, options).await?;
    let per_block = (options.events / 2_000).max(5);
    let blocks = options.blocks * FINER;
    let mut hop = Series::new("to another thread and back: p50", "µs");
    let bar = progress::bar("latency", blocks);
    for contender in &mut contenders {
        contender.peer.block(0..WARM_UP).await?;
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
    guard.shutdown(ours::PATIENCE).await;
    fresh.settle(emitted).await
}

fn show(contenders: &[Contender], hop: Series, report: &mut Report) -> Fallible<()> {
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

/// The writer, the held connection, and those of the others that take part.
async fn contenders(url: &str, writer: AuditWriter, options: &Options) -> Fallible<Vec<Contender>> {
    let mut contenders = vec![
        Contender::new(OURS, 1.0, Peer::Ours(writer)),
        Contender::new(HELD, 1.0, Peer::Held(single::HeldOwn::connect(url).await?)),
    ];
    if options.takes_part(SQLX) {
        let peer = Peer::Sqlx(sqlx::Held::connect(url).await?);
        contenders.push(Contender::new("sqlx, held connection", 1.0, peer));
    }
    if options.takes_part(SEA_ORM) {
        let peer = Peer::SeaOrm(sea_orm::Pooled::connect(url, "audit_logs").await?);
        contenders.push(Contender::new("sea-orm, pool", 1.2, peer));
    }
    if node_is_there(options, ANCESTOR).await {
        contenders.push(Contender::new(
            ANCESTOR,
            2.7,
            Peer::Ancestor(node::Blocks::start(url)?),
        ));
    }
    Ok(contenders)
}

/// One who takes part, and what was measured of it in each block.
struct Contender {
    peer: Peer,
    /// How many times its rate the writer is to reach.
    goal: f64,
    rate: Series,
    p50: Series,
    p99: Series,
}

impl Contender {
    fn new(name: &str, goal: f64, peer: Peer) -> Self {
        let series = |figure, unit| Series::new(format!("{name}: {figure}"), unit);
        Self {
            peer,
            goal,
            rate: series("rate", "rows/s"),
            p50: series("p50", "µs"),
            p99: series("p99", "µs"),
        }
    }

    async fn measure(&mut self, numbers: Range<usize>) -> Fallible<()> {
        let counted = numbers.start + REWARM..numbers.end;
        let rows = counted.len() as f64;
        self.peer.block(numbers.start..counted.start).await?;
        let Block { seconds, calls } = self.peer.block(counted).await?;
        self.rate.values.push(rows / seconds);
        self.p50.values.extend(percentile(&calls, 0.5));
        self.p99.values.extend(percentile(&calls, 0.99));
        Ok(())
    }
}

enum Peer {
    Ours(AuditWriter),
    Held(single::HeldOwn),
    Sqlx(sqlx::Held),
    SeaOrm(sea_orm::Pooled),
    Ancestor(node::Blocks),
}

impl Peer {
    /// Inserts these rows one by one.
    async fn block(&mut self, numbers: Range<usize>) -> Fallible<Block> {
        match self {
            Self::Ours(writer) => with_writer(writer.clone(), timed(&mut ours::Awaited, numbers)).await,
            Self::Held(peer) => timed(peer, numbers).await,
            Self::Sqlx(peer) => timed(peer, numbers).await,
            Self::SeaOrm(peer) => timed(peer, numbers).await,
            // Each call is beyond the reach of this clock.
            Self::Ancestor(peer) => Ok(Block {
                seconds: peer.insert(numbers).await?,
                calls: Vec::new(),
            }),
        }
    }
}

/// What a block took.
struct Block {
    seconds: f64,
    /// Microseconds of each call.
    calls: Vec<f64>,
}

async fn timed(peer: &mut impl Single, numbers: Range<usize>) -> Fallible<Block> {
    let mut calls = Vec::with_capacity(numbers.len());
    let begun = Instant::now();
    for nth in numbers {
        let called = Instant::now();
        peer.insert(nth).await?;
        calls.push(called.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Block {
        seconds: begun.elapsed().as_secs_f64(),
        calls,
    })
}

/// In which order the contenders have this block: each is first, and follows each neighbour, equally often.
fn order(block: usize, contenders: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contenders).collect();
    order.rotate_left(block / 2 % contenders);
    if block % 2 == 1 {
        order.reverse();
    }
    order
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_is_equally_often_at_each_place() {
        for contenders in 2..=5 {
            let mut places = vec![vec![0; contenders]; contenders];
            for block in 0..2 * contenders {
                for (place, who) in order(block, contenders).into_iter().enumerate() {
                    places[who][place] += 1;
                }
            }
            assert!(places.iter().flatten().all(|times| *times == 2), "{places:?}");
        }
    }
}
