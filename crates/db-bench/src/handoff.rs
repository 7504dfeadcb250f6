//! What does a caller pay for an event that it forgets?
//!
//! Paced, as in a service: bursts of ten and a pause of a millisecond, so that no queue fills. Each
//! call is timed by itself, less what two readings of the clock take.

use std::time::{Duration, Instant};

use db_services::audit::{install, write_audit_log};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::Fallible;
use crate::args::Options;
use crate::event::Event;
use crate::peers::ours;
use crate::place::{Place, Table};
use crate::progress;
use crate::report::Report;
use crate::row::Goal::AtMost;
use crate::row::Series;
use crate::stats::percentile;

const PRODUCERS: usize = 2;
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// What is measured, in this order in each block.
struct Measured {
    ours: [Series; 2],
    appender: [Series; 2],
    build: Series,
    build_and_hand: Series,
    tracing: Series,
}

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let bursts = (options.events / 1_000).max(2);
    let fresh = place.fresh(Table::Own).await?;
    let (writer, guard) = ours::start(&fresh.url)?;
    ours::produce(&writer, BURST).await?;
    // The writer of the process, as an application has it.
    install(writer)?;
    let (peer, file) = Peer::start()?;
    let blocks = options.blocks;
    let measured = tokio::task::spawn_blocking(move || {
        let mut measured = Measured::new();
        let bar = progress::bar("handoff", blocks);
        for _ in 0..blocks {
            block(&mut measured, bursts, &peer);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if peer.writer.error_counter().dropped_lines() > 0 {
            return Err("void: tracing-appender dropped lines");
        }
        Ok(measured)
    })
    .await??;
    let done = guard.shutdown(ours::PATIENCE).await;
    drop(file);
    let written = BURST + options.blocks * bursts * BURST * (PRODUCERS + 1);
    if done.lost > 0 {
        return Err(format!("void: {} entries were lost", done.lost).into());
    }
    fresh.settle(written).await?;
    measured.report(report)
}

/// A block of each.
fn block(measured: &mut Measured, bursts: usize, peer: &Peer) {
    let clock = clock();
    let calls = together(|| paced(bursts, Event::entry, |entry| drop(write_audit_log(entry))));
    note(&mut measured.ours, &calls, clock);
    let calls = together(|| {
        let mut appender = peer.writer.clone();
        paced(bursts, line, |line| {
            drop(std::io::Write::write_all(&mut appender, &line))
        })
    });
    note(&mut measured.appender, &calls, clock);
    let said: Vec<Event> = (0..BURST).map(Event::nth).collect();
    let calls = paced(
        bursts,
        |nth| &said[nth % BURST],
        |event| drop(std::hint::black_box(entry(event))),
    );
    measured
        .build
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
    let calls = paced(
        bursts,
        |nth| &said[nth % BURST],
        |event| drop(write_audit_log(entry(event))),
    );
    measured
        .build_and_hand
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
    let calls = tracing::subscriber::with_default(peer.subscriber(), || {
        paced(bursts, |nth| &said[nth % BURST], trace)
    });
    measured
        .tracing
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
}

/// Calls in bursts, with a pause before each; what is handed over is made ready before the burst.
/// Nanoseconds of each call.
fn paced<T>(bursts: usize, mut make: impl FnMut(usize) -> T, mut hand: impl FnMut(T)) -> Vec<f64> {
    let mut calls = Vec::with_capacity(bursts * BURST);
    for burst in 0..bursts {
        std::thread::sleep(PAUSE);
        let ready: Vec<T> = (0..BURST).map(|nth| make(burst * BURST + nth)).collect();
        for item in ready {
            let begun = Instant::now();
            hand(item);
            calls.push(begun.elapsed().as_nanos() as f64);
        }
    }
    calls
}

/// The same from every producer at once, all their calls.
fn together(produce: impl Fn() -> Vec<f64> + Sync) -> Vec<f64> {
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS).map(|_| scope.spawn(&produce)).collect();
        producers
            .into_iter()
            .filter_map(|producer| producer.join().ok())
            .flatten()
            .collect()
    })
}

/// What the two readings of the clock around a call take, in nanoseconds.
fn clock() -> f64 {
    let nothing = paced(20, |nth| nth, |nth| _ = std::hint::black_box(nth));
    percentile(&nothing, 0.5).unwrap_or_default()
}

fn note([middle, tail]: &mut [Series; 2], calls: &[f64], clock: f64) {
    middle
        .values
        .extend(percentile(calls, 0.5).map(|call| call - clock));
    tail.values
        .extend(percentile(calls, 0.99).map(|call| call - clock));
}

/// The entry of an event whose parts the caller has at hand.
fn entry(event: &Event) -> db_services::audit::AuditEntry {
    db_services::audit::AuditEntry::new(event.action)
        .tenant(event.tenant.as_str())
        .actor(event.actor.as_str())
        .actor_type(event.actor_type)
        .resource(event.resource_type, event.resource.as_str())
        .ip(event.ip)
        .user_agent(event.user_agent)
        .request_id(event.request.as_str())
        .detail("field", "title")
        .detail("version", 7)
        .detail("reason", "edited in the browser")
        .detail("trusted", true)
}

/// The same as a tracing event.
fn trace(event: &Event) {
    tracing::info!(
        action = event.action,
        tenant = event.tenant,
        actor = event.actor,
        actor_type = event.actor_type,
        resource_type = event.resource_type,
        resource = event.resource,
        ip = %event.ip,
        user_agent = event.user_agent,
        request = event.request,
        field = "title",
        version = 7,
        reason = "edited in the browser",
        trusted = true,
    );
}

/// An event as a line of a log, ready to be handed over.
fn line(nth: usize) -> Vec<u8> {
    let event = Event::nth(nth);
    format!(
        "{{\"id\":\"{}\",\"at\":\"{}\",\"tenant\":\"{}\",\"actor\":\"{}\",\"action\":\"{}\",\"resource\":\"{}\",\
         \"ip\":\"{}\",\"user_agent\":\"{}\",\"request\":\"{}\",\"metadata\":{}}}\n",
        event.id,
        event.created_at,
        event.tenant,
        event.actor,
        event.action,
        event.resource,
        event.ip,
        event.user_agent,
        event.request,
        event.metadata,
    )
    .into_bytes()
}

/// tracing-appender on a file, as it comes.
struct Peer {
    writer: NonBlocking,
    _guard: WorkerGuard,
}

impl Peer {
    fn start() -> std::io::Result<(Self, tempfile::NamedTempFile)> {
        let file = tempfile::NamedTempFile::new()?;
        let (writer, guard) = NonBlockingBuilder::default().finish(file.reopen()?);
        Ok((
            Self {
                writer,
                _guard: guard,
            },
            file,
        ))
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        tracing_subscriber::fmt()
            .json()
            .with_writer(self.writer.clone())
            .finish()
    }
}

impl Measured {
    fn new() -> Self {
        let pair =
            |what| [("p50", what), ("p99", what)].map(|(p, what)| Series::new(format!("{what}: {p}"), "ns"));
        Self {
            ours: pair("write_audit_log, 2 producers"),
            appender: pair("tracing-appender, 2 producers"),
            build: Series::new("build an entry", "ns"),
            build_and_hand: Series::new("build an entry and write_audit_log", "ns"),
            tracing: Series::new("tracing JSON event", "ns"),
        }
    }

    fn report(self, report: &mut Report) -> Fallible<()> {
        let [middle, tail] = &self.ours;
        let [appender, appender_tail] = &self.appender;
        report.add(middle.row(Some(AtMost(100.0))))?;
        report.add(tail.row(Some(AtMost(1_000.0))))?;
        report.add(middle.against(appender, Some(AtMost(1.0))))?;
        report.add(tail.against(appender_tail, None))?;
        report.add(self.build_and_hand.against(&self.tracing, Some(AtMost(0.2))))?;
        for series in [appender, appender_tail, &self.build, &self.tracing] {
            report.add(series.row(None))?;
        }
        Ok(())
    }
}
