//! The `auditlog` command, for operators of an audit trail.
//!
//! Exit codes: 0 done; 1 partly done: input was rejected, entries are missing, or something remains to be done;
//! 2 invalid arguments; 3 the database or a file failed. Of `doctor`: 0 fine; 1 critical; 2 warnings; 3 it could
//! not be run.

mod args;
mod cloudtrail;
mod database;
mod doctor;
mod error;
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

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use error::CliError;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    // Show the library's warnings; RUST_LOG selects other levels.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::from(error).report(),
    };
    let Cli { database, command } = cli;
    let result = runtime.block_on(async {
        match command {
            Command::Migrate(args) => migrate::run(&database, args).await,
            Command::Write(args) => write::run(&database, *args).await,
            Command::Import(args) => import::run(&database, args).await,
            Command::List(args) => list::run(&database, args).await,
            Command::Spool(args) => spool::run(&database, args).await,
            Command::Verify(args) => verify::run(&database, args).await,
            Command::Partitions(args) => partitions::run(&database, args).await,
            Command::Retention(args) => retention::run(&database, args).await,
            Command::Hold(args) => hold::run(&database, args).await,
            Command::Restore(args) => restore::run(&database, args).await,
            Command::Doctor(args) => doctor::run(&database, args).await,
        }
    });
    result.unwrap_or_else(|error| error.report())
}

/// Prints clap's message: an error in the arguments, or the help. The exit code is clap's, except for `doctor`,
/// where that code means warnings.
fn usage_error(error: &clap::Error) -> ExitCode {
    let matches = Cli::command().ignore_errors(true).try_get_matches();
    let is_doctor = matches.is_ok_and(|matches| matches.subcommand_name() == Some("doctor"));
    // There is no way to report that standard error is closed.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_doctor => ExitCode::from(error::FAILED),
        _ => ExitCode::from(error::USAGE),
    }
}
