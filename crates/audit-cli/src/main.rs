//! The `auditlog` command: who operates the trail.
//!
//! Exit codes: 0 done; 1 done in part, some input was bad, or something is missing or stays undone; 2 wrong arguments;
//! 3 the database or a file failed.

mod args;
mod cloudtrail;
mod database;
mod failure;
mod hold;
mod import;
mod list;
mod migrate;
mod output;
mod partitions;
mod restore;
mod retention;
mod spool;
mod verify;
mod write;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

fn main() -> ExitCode {
    let args = Args::parse();
    // Warnings of the library reach people; RUST_LOG changes what is shown.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::from(error).report(),
    };
    let url = args.database_url.as_deref();
    let done = runtime.block_on(async {
        match args.command {
            Command::Migrate(args) => migrate::run(url, args).await,
            Command::Write(args) => write::run(url, *args).await,
            Command::Import(args) => import::run(url, args).await,
            Command::List(args) => list::run(url, args).await,
            Command::Spool(args) => spool::run(url, args).await,
            Command::Verify(args) => verify::run(url, args).await,
            Command::Partitions(action) => partitions::run(url, action).await,
            Command::Retention(action) => retention::run(url, action).await,
            Command::Hold(action) => hold::run(url, action).await,
            Command::Restore(args) => restore::run(url, args).await,
        }
    });
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
