//! The `auditlog` command: who operates the trail.
//!
//! Exit codes: 0 done; 1 done in part, some input was bad, or something is missing or stays undone; 2 wrong arguments;
//! 3 the database or a file failed. Of `doctor`: 0 fine; 1 critical; 2 warnings; 3 it could not be run.

mod args;
mod cloudtrail;
mod database;
mod doctor;
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
use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
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
            Command::Doctor(args) => doctor::run(url, args).await,
        }
    });
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Says what is wrong with the arguments, or the help that was asked for. The exit code is clap's, except
/// where that one is a verdict.
fn misused(error: &clap::Error) -> ExitCode {
    let asked = Args::command().ignore_errors(true).try_get_matches();
    let of_doctor = asked.is_ok_and(|matches| matches.subcommand_name() == Some("doctor"));
    // Nothing can be done about a standard error that is closed.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if of_doctor => ExitCode::from(failure::FAILED),
        _ => ExitCode::from(failure::USAGE),
    }
}
