//! Time of a call that enqueues an entry and does not await it.
//!
//! Calls come in bursts of ten with a pause of a millisecond, as in a service, so that no queue fills.
//! Each call is timed separately, minus the time of two readings of the clock.

use std::time::{Duration, Instant};

use db_services::audit::{install, write_audit_log};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::Result;
use crate::args::Options;
use crate::contenders::audit_writer;
use crate::event::Event;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;
use crate::server::{BenchServer, Table};
use crate::stats::percentile;

const PRODUCERS: usize = 2;
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// The series, in the order in which a block measures them.
struct Measurements {
    ours: [Series; 2],
    appender: [Series; 2],
    build: Series,
    build_and_hand: Series,
    tracing: Series,
}

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let bursts = (options.events / 1_000).max(2);
    let database = server.create_database(Table::Own).await?;
    let (writer, guard) = audit_writer::start(&database.url)?;
    audit_writer::produce(&writer, BURST).await?;
    // As the writer of the process, like in an application.
    install(writer)?;
    let (appender, file) = Appender::start()?;
    let blocks = options.blocks;
    let measured = tokio::task::spawn_blocking(move || {
        let mut measured = Measurements::new();
        let bar = progress::bar("enqueue", blocks);
        for _ in 0..blocks {
            block(&mut measured, bursts, &appender);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if appender.writer.error_counter().dropped_lines() > 0 {
            return Err("void: tracing-appender dropped lines");
        }
        Ok(measured)
    })
    .await??;
    let done = guard.shutdown(audit_writer::TIMEOUT).await;
    drop(file);
    let written = BURST + options.blocks * bursts * BURST * (PRODUCERS + 1);
    if done.lost > 0 {
        return Err(format!("void: {} entries were lost", done.lost).into());
    }
    database.verify_and_drop(written).await?;
    measured.report(report)
}

/// Measures one block of each series.
fn block(measured: &mut Measurements, bursts: usize, appender: &Appender) {
    let clock = clock();
    let calls = together(|| paced(bursts, Event::entry, |entry| drop(write_audit_log(entry))));
    record(&mut measured.ours, &calls, clock);
    let calls = together(|| {
        let mut writer = appender.writer.clone();
        paced(bursts, line, |line| {
            drop(std::io::Write::write_all(&mut writer, &line))
        })
    });
    record(&mut measured.appender, &calls, clock);
    let events: Vec<Event> = (0..BURST).map(Event::nth).collect();
    let calls = paced(
        bursts,
        |nth| &events[nth % BURST],
        |event| drop(std::hint::black_box(entry(event))),
    );
    measured
        .build
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
    let calls = paced(
        bursts,
        |nth| &events[nth % BURST],
        |event| drop(write_audit_log(entry(event))),
    );
    measured
        .build_and_hand
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
    let calls = tracing::subscriber::with_default(appender.subscriber(), || {
        paced(bursts, |nth| &events[nth % BURST], trace)
    });
    measured
        .tracing
        .values
        .extend(percentile(&calls, 0.5).map(|call| call - clock));
}

/// Calls `hand` in bursts, with a pause before each burst; the arguments are built before the burst.
/// Returns the nanoseconds of each call.
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

/// Runs all producers at once, and returns the times of all their calls.
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

/// The nanoseconds that the two readings of the clock around a call take.
fn clock() -> f64 {
    let nothing = paced(20, |nth| nth, |nth| _ = std::hint::black_box(nth));
    percentile(&nothing, 0.5).unwrap_or_default()
}

fn record([middle, tail]: &mut [Series; 2], calls: &[f64], clock: f64) {
    middle
        .values
        .extend(percentile(calls, 0.5).map(|call| call - clock));
    tail.values
        .extend(percentile(calls, 0.99).map(|call| call - clock));
}

/// Builds the entry of an event whose parts the caller has.
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

/// Emits the same as a tracing event.
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

/// An event as a formatted log line.
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

/// tracing-appender with default settings, writing to a file.
struct Appender {
    writer: NonBlocking,
    _guard: WorkerGuard,
}

impl Appender {
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

impl Measurements {
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

    fn report(self, report: &mut Report) -> Result<()> {
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
