//! How fast is it? The audit writers side by side with what else could be used.
//!
//! Each file beside this one measures one part; `peers/` has the contenders. How it measures, and why
//! so, is in docs/decisions/0009-benchmark.md.

mod args;
mod clock;
mod concurrent;
mod event;
mod handoff;
mod ingest;
mod latency;
mod lookups;
mod memory;
mod peers;
mod place;
mod progress;
mod report;
mod rounds;
mod row;
mod spool;
mod stats;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Options, What};
use place::Place;
use report::Report;

/// Whatever can go wrong here ends the run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Fallible<T> = Result<T, Failure>;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    // A task, as a server's handlers are: the main thread would have to be woken for each answer.
    let measuring = tokio::spawn(async move { run(cli.what.unwrap_or(What::All), &cli.options).await });
    match measuring.await.unwrap_or_else(|error| Err(error.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("db-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: What, options: &Options) -> Fallible<()> {
    if let What::MemorySample { flood } = what {
        return memory::sample(flood, options).await;
    }
    let mut report = Report::new(options.json);
    let wanted = |part| what == What::All || what == part;
    let place = Place::open(options).await?;
    if wanted(What::Ingest) {
        ingest::measure(&place, options, &mut report).await?;
    }
    if wanted(What::Handoff) {
        handoff::measure(&place, options, &mut report).await?;
    }
    if wanted(What::Latency) {
        latency::measure(&place, options, &mut report).await?;
    }
    if wanted(What::Concurrent) {
        concurrent::measure(&place, options, &mut report).await?;
    }
    if wanted(What::Spool) {
        spool::measure(&place, options, &mut report).await?;
    }
    if wanted(What::Memory) {
        memory::measure(options, &mut report).await?;
    }
    if wanted(What::Lookups) {
        lookups::measure(&place, options, &mut report).await?;
    }
    place.close().await?;
    Ok(report.finish()?)
}
