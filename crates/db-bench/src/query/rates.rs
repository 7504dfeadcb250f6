//! How fast all rows leave the trail: by the feed and by `auditlog export`, beside `COPY … TO`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use db_services::audit::feed::{self, Position};
use db_services::audit::query::AuditFilter;
use db_services::client::Database;
use futures_util::TryStreamExt;
use tokio::process::Command;
use tokio_postgres::types::ToSql;

use super::trail::{FILL, short};
use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;
use crate::server::{BenchDatabase, BenchServer, Table, connect};

/// The most rows of the trail: enough for a rate.
const MAX_ROWS: usize = 1_000_000;

/// Rows of a transaction, as a busy writer commits them.
const TRANSACTION: usize = 1_000;

/// Rows of a batch of the feed.
const BATCHES: [u32; 2] = [1_000, 10_000];

/// The rounds at most.
const MAX_ROUNDS: usize = 5;

/// How often the memory of an export is read.
const SAMPLED_EVERY: Duration = Duration::from_millis(10);

/// The part of the rows whose export shows that memory does not grow with them.
const PART: usize = 10;

pub(super) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.rows.clamp(PART, MAX_ROWS);
    let program = build_auditlog().await?;
    let database = server.create_database(Table::Own).await?;
    fill(&database, rows).await?;
    let name = |what: &str| format!("{what}, {} rows", short(rows));
    let mut copied = Series::new(name("COPY … TO, own table"), "rows/s");
    let mut fed = BATCHES.map(|batch| Series::new(name(&format!("feed, batches of {batch}")), "rows/s"));
    let mut exported = Series::new(name("auditlog export"), "rows/s");
    let mut memory = Series::new(name("auditlog export, peak memory"), "MiB");
    let part_of_rows = format!("auditlog export, peak memory, {} rows", short(rows / PART));
    let mut memory_of_part = Series::new(part_of_rows, "MiB");
    let rounds = options.rounds.clamp(1, MAX_ROUNDS);
    let bar = progress::bar("query", rounds);
    bar.set_message("feed and export");
    for _ in 0..rounds {
        copied.values.push(rate(rows, copy(&database)).await?);
        for (batch, series) in BATCHES.into_iter().zip(&mut fed) {
            series.values.push(rate(rows, read_feed(&database, batch)).await?);
        }
        let (exported_rate, peak) = export(&program, &database, rows).await?;
        exported.values.push(exported_rate);
        memory.values.push(peak);
        memory_of_part
            .values
            .push(export(&program, &database, rows / PART).await?.1);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.add(copied.row(None))?;
    for series in fed.iter().chain([&exported]) {
        report.add(series.against(&copied, None))?;
    }
    report.add(memory_of_part.row(None))?;
    report.add(memory.against(&memory_of_part, Some(AtMost(1.5))))?;
    database.verify_and_drop(rows).await
}

/// The time over which the rows are distributed.
const MICROSECONDS: usize = 60_000_000;

/// Fills the trail of the last minute with transactions like a writer's.
async fn fill(database: &BenchDatabase<'_>, rows: usize) -> Result<()> {
    let client = connect(&database.url).await?;
    let fill = client.prepare(FILL).await?;
    let begun = Utc::now() - TimeDelta::microseconds(MICROSECONDS as i64);
    let bar = progress::bar("query", rows.div_ceil(TRANSACTION));
    bar.set_message("filling the trail to export");
    for first in (0..rows).step_by(TRANSACTION) {
        let at = |nth: usize| begun + TimeDelta::microseconds((MICROSECONDS * nth / rows) as i64);
        let until = (first + TRANSACTION).min(rows);
        let count = (until - first) as i64;
        let parameters: [&(dyn ToSql + Sync); 4] = [&at(first), &at(until), &count, &(first as i64)];
        client.execute(&fill, &parameters).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    client.batch_execute("VACUUM (ANALYZE) audit_logs").await?;
    Ok(())
}

/// Rows per second of what returns the number of rows that it has read.
async fn rate(rows: usize, reading: impl Future<Output = Result<usize>>) -> Result<f64> {
    let begun = Instant::now();
    let read = reading.await?;
    match read == rows {
        true => Ok(rows as f64 / begun.elapsed().as_secs_f64()),
        false => Err(format!("void: {read} of {rows} rows were read").into()),
    }
}

/// Reads all rows as lines of text.
async fn copy(database: &BenchDatabase<'_>) -> Result<usize> {
    let client = connect(&database.url).await?;
    let lines = client
        .copy_out("COPY (SELECT * FROM audit_logs) TO STDOUT")
        .await?;
    let ends = |chunk: &[u8]| chunk.iter().filter(|byte| **byte == b'\n').count();
    Ok(lines
        .try_fold(0, async |lines, chunk| Ok(lines + ends(&chunk)))
        .await?)
}

async fn read_feed(database: &BenchDatabase<'_>, batch_rows: u32) -> Result<usize> {
    let mut conn = Database::from_url(&database.url)?.connection().await?;
    let filter = AuditFilter::new();
    let (mut position, mut read) = (Position::beginning(), 0);
    loop {
        let batch = feed::next(&mut conn, &position, &filter, batch_rows).await?;
        read += batch.rows.len();
        position = batch.position;
        if !batch.more {
            return Ok(read);
        }
    }
}

/// Exports this many rows with the program. Returns its rows per second, and its most resident memory in MiB.
async fn export(program: &Path, database: &BenchDatabase<'_>, rows: usize) -> Result<(f64, f64)> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("trail.ndjson");
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(["export", "--no-record", "--database-url", &database.url])
        .args(["--limit", &rows.to_string(), "--out"])
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let status = format!("/proc/{}/status", child.id().ok_or("the export has ended")?);
    let mut peak = 0;
    let ended = loop {
        // A process that has ended has no memory.
        peak = peak.max(crate::memory::kib(&status, "VmHWM:").unwrap_or(0));
        if let Ok(ended) = tokio::time::timeout(SAMPLED_EVERY, child.wait()).await {
            break ended?;
        }
    };
    let took = begun.elapsed();
    let exported = rows_of(&out)?;
    // 1: there are more rows than the limit.
    if !matches!(ended.code(), Some(0 | 1)) || exported != rows {
        return Err(format!("void: the export ended with {ended} and {exported} rows").into());
    }
    Ok((rows as f64 / took.as_secs_f64(), peak as f64 / 1024.0))
}

fn rows_of(file: &Path) -> Result<usize> {
    let lines = std::io::BufRead::lines(std::io::BufReader::new(std::fs::File::open(file)?));
    Ok(lines.count())
}

/// Builds `auditlog` as this program was built, and returns its path.
async fn build_auditlog() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let dir = this.parent().ok_or("the benchmark is in no directory")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "audit-cli"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().await?;
    match built.success() {
        true => Ok(dir.join("auditlog")),
        false => Err("auditlog does not compile".into()),
    }
}
