//! How far does the process grow while the database is stopped and a producer runs at full speed?
//!
//! Each sample is a process of its own: memory that an allocator has kept from before would hide the
//! growth.

use std::process::Stdio;
use std::time::{Duration, Instant};

use db_services::audit::{with_writer, write_audit_log};
use db_test::Server;
use tokio::process::Command;

use crate::Fallible;
use crate::args::Options;
use crate::event::Event;
use crate::peers::ours;
use crate::progress;
use crate::report::Report;
use crate::row::Goal::AtMost;
use crate::row::Series;

/// The writer's bound, in MiB.
const BOUND: usize = 64;

/// What the process may take beyond it, in MiB: the ledger, the drivers, the allocator's rounding.
const BEYOND: usize = 16;

/// Entries that are committed before the database is stopped.
const BEFORE: usize = 5_000;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> Fallible<()> {
    let mut growth = Series::new("growth of the process, 64 MiB queue", "MiB");
    let samples = options.rounds.clamp(1, 3);
    let bar = progress::bar("memory", samples);
    for _ in 0..samples {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["memory-sample", "--seconds", &options.seconds.to_string()]);
        let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
        if !done.status.success() {
            return Err("memory: a sample failed".into());
        }
        growth.values.push(String::from_utf8(done.stdout)?.trim().parse()?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report.add(growth.row(Some(AtMost((BOUND + BEYOND) as f64))))?)
}

/// One sample: prints by how many MiB the process grew.
pub(crate) async fn sample(options: &Options) -> Fallible<()> {
    let server = Server::start(&[])?;
    let url = server.migrated()?;
    let bound = |builder: db_services::audit::AuditWriterBuilder| {
        builder.queue_capacity(usize::MAX).queue_bytes(BOUND << 20)
    };
    let (writer, guard) = ours::start_with(&url, bound)?;
    ours::produce(&writer, BEFORE).await?;
    server.stop_immediate()?;
    let before = resident()?;
    let limit = Duration::from_secs_f64(options.seconds);
    let runtime = tokio::runtime::Handle::current();
    let producer = writer.clone();
    let most = tokio::task::spawn_blocking(move || {
        let flood = async {
            let (begun, mut most) = (Instant::now(), before);
            let mut nth = 0;
            while begun.elapsed() < limit {
                write_audit_log(Event::entry(nth));
                nth += 1;
                if nth.is_multiple_of(8_192) {
                    most = most.max(resident()?);
                }
            }
            Ok::<_, crate::Failure>(most.max(resident()?))
        };
        runtime.block_on(with_writer(producer, flood))
    })
    .await??;
    let stats = writer.stats();
    if stats.dropped == 0 {
        return Err("void: the queue did not fill; more --seconds are needed".into());
    }
    println!("{:.1}", (most.saturating_sub(before)) as f64 / f64::from(1 << 20));
    guard.shutdown(Duration::ZERO).await;
    Ok(())
}

/// The memory of this process that is resident, in bytes.
fn resident() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS in /proc/self/status")?;
    Ok(kib.parse::<u64>()? * 1024)
}
