//! Growth of the process while the database is stopped and a producer runs at full speed.
//!
//! Each sample is a process of its own: memory that an allocator has kept from before would hide the
//! growth. With a spool the entries are long texts, whose encoding in the spool may be longer: a control
//! character becomes six bytes.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use db_services::audit::{
    AuditEntry, AuditWriter, AuditWriterBuilder, Durability, RetryPolicy, limits, with_writer,
    write_audit_log,
};
use db_test::Server;
use tokio::process::Command;

use crate::Result;
use crate::args::Options;
use crate::contenders::audit_writer;
use crate::event::Event;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;

/// The writer's bound, in MiB.
const BOUND: usize = 64;

/// The memory that the process may take beyond the bound, in MiB: ledger, drivers, rounding of the allocator.
const BEYOND: usize = 16;

/// The limit of the spool in bytes: several times the bound.
const SPOOL_BYTES: u64 = 256 << 20;

/// Entries that are committed before the database is stopped.
const BEFORE: usize = 5_000;

/// What the producer writes, and whether the writer has a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    /// The usual events, and no spool.
    Events,
    /// Long texts of plain ASCII, and a spool.
    SpooledAscii,
    /// Long texts of control characters, and a spool.
    SpooledControl,
}

impl Flood {
    fn title(self) -> &'static str {
        match self {
            Self::Events => "growth of the process, 64 MiB queue",
            Self::SpooledAscii => "growth of the process, 64 MiB queue and spool, ASCII",
            Self::SpooledControl => "growth of the process, 64 MiB queue and spool, control characters",
        }
    }

    fn entry(self, nth: usize) -> AuditEntry {
        match self {
            Self::Events => Event::entry(nth),
            Self::SpooledAscii => long_texts('a'),
            Self::SpooledControl => long_texts('\u{1}'),
        }
    }

    fn set_up(self, builder: AuditWriterBuilder, dir: &Path) -> AuditWriterBuilder {
        let builder = builder.queue_capacity(usize::MAX).queue_bytes(BOUND << 20);
        if self == Self::Events {
            return builder;
        }
        let mut retry = RetryPolicy::default();
        retry.spill_after = Duration::from_millis(20);
        builder
            .retry(retry)
            .durability(Durability::Spill(dir.to_owned()))
            .spool_bytes(SPOOL_BYTES)
    }
}

/// An entry whose texts are as long as they may be, of this character alone.
fn long_texts(character: char) -> AuditEntry {
    let text = |chars: usize| character.to_string().repeat(chars);
    AuditEntry::new("document.read")
        .tenant(text(limits::TEXT_CHARS))
        .actor(text(limits::TEXT_CHARS))
        .resource("document", text(limits::RESOURCE_ID_CHARS))
        .user_agent(text(limits::USER_AGENT_CHARS))
        .request_id(text(limits::TEXT_CHARS))
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let samples = options.rounds.clamp(1, 3);
    let floods = Flood::value_variants();
    let bar = progress::bar("memory", samples * floods.len());
    for flood in floods {
        let mut growth = Series::new(flood.title(), "MiB");
        for _ in 0..samples {
            growth.values.push(in_a_process(*flood, options).await?);
            bar.inc(1);
        }
        report.add(growth.row(Some(AtMost((BOUND + BEYOND) as f64))))?;
    }
    bar.finish_and_clear();
    Ok(())
}

async fn in_a_process(flood: Flood, options: &Options) -> Result<f64> {
    let name = flood.to_possible_value().ok_or("no such sample")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "memory-sample",
        name.get_name(),
        "--seconds",
        &options.seconds.to_string(),
    ]);
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    if !done.status.success() {
        return Err("memory: a sample failed".into());
    }
    Ok(String::from_utf8(done.stdout)?.trim().parse()?)
}

/// Measures one sample and prints by how many MiB the process grew.
pub(crate) async fn sample(flood: Flood, options: &Options) -> Result<()> {
    let server = Server::start(&[])?;
    let url = server.migrated()?;
    let dir = tempfile::tempdir()?;
    let (writer, guard) = audit_writer::start_with(&url, |builder| flood.set_up(builder, dir.path()))?;
    audit_writer::produce(&writer, BEFORE).await?;
    server.stop_immediate()?;
    let before = resident()?;
    let most = offer(&writer, flood, Duration::from_secs_f64(options.seconds)).await?;
    let stats = writer.stats();
    if stats.dropped == 0 {
        return Err("void: the queue did not fill; more --seconds are needed".into());
    }
    if flood != Flood::Events && stats.spooled == 0 {
        return Err("void: nothing was spooled; more --seconds are needed".into());
    }
    println!("{:.1}", most.saturating_sub(before) as f64 / f64::from(1 << 20));
    guard.shutdown(Duration::ZERO).await;
    Ok(())
}

/// Writes entries for this long, and returns the most memory that was resident.
async fn offer(writer: &AuditWriter, flood: Flood, limit: Duration) -> Result<u64> {
    let runtime = tokio::runtime::Handle::current();
    let producer = writer.clone();
    let producing = async move {
        let (begun, mut most) = (Instant::now(), resident()?);
        let mut nth = 0;
        while begun.elapsed() < limit {
            write_audit_log(flood.entry(nth));
            nth += 1;
            if nth.is_multiple_of(8_192) {
                most = most.max(resident()?);
            }
        }
        Ok(most.max(resident()?))
    };
    tokio::task::spawn_blocking(move || runtime.block_on(with_writer(producer, producing))).await?
}

/// The resident memory of this process, in bytes.
fn resident() -> Result<u64> {
    Ok(kib("/proc/self/status", "VmRSS:")? * 1024)
}

/// A figure of a process's status file, in KiB.
pub(crate) fn kib(status: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(status)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or_else(|| format!("no {name} in {status}"))?.parse()?)
}
