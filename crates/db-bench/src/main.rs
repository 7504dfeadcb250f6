//! Benchmark of the audit writer beside the alternatives to it.
//!
//! Each file beside this one measures one part; `contenders/` holds the writer and its baselines. The method
//! and its reasons are in docs/decisions/0009-benchmark.md.

mod args;
mod clock;
mod concurrent;
mod contenders;
mod enqueue;
mod event;
mod ingest;
mod latency;
mod memory;
mod progress;
mod query;
mod report;
mod result;
mod schedule;
mod scrub;
mod server;
mod spool;
mod stats;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Options, Part};
use report::Report;
use server::BenchServer;

/// An error, which ends the run.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    // A task, like a server's handlers: the main thread would have to be woken for each reply.
    let measuring = tokio::spawn(async move { run(cli.part.unwrap_or(Part::All), &cli.options).await });
    match measuring.await.unwrap_or_else(|error| Err(error.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("db-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(part: Part, options: &Options) -> Result<()> {
    if let Part::MemorySample { flood } = part {
        return memory::sample(flood, options).await;
    }
    if part == Part::ScrubSample {
        return scrub::sample(options).await;
    }
    let mut report = Report::new(options.json);
    let wanted = |other| part == Part::All || part == other;
    let server = BenchServer::open(options).await?;
    if wanted(Part::Ingest) {
        ingest::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Scrub) {
        scrub::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Enqueue) {
        enqueue::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Latency) {
        latency::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Concurrent) {
        concurrent::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Spool) {
        spool::measure(&server, options, &mut report).await?;
    }
    if wanted(Part::Memory) {
        memory::measure(options, &mut report).await?;
    }
    if wanted(Part::Query) {
        query::measure(&server, options, &mut report).await?;
    }
    server.close().await?;
    Ok(report.finish()?)
}
