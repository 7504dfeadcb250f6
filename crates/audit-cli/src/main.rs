//! The `auditlog` command, for operators of an audit trail.
//!
//! Exit codes: 0 done; 1 partly done: input was rejected, entries are missing, or something remains to be done;
//! 2 invalid arguments; 3 the database or a file failed. Of `doctor`: 0 fine; 1 critical; 2 warnings; 3 it could
//! not be run.

mod args;
mod batch;
mod cloudtrail;
mod database;
mod doctor;
mod error;
mod feed;
mod gzip;
mod hold;
mod import;
mod lines;
mod list;
mod migrate;
mod output;
mod partitions;
mod records;
mod restore;
mod retention;
mod spool;
mod verify;
mod write;

use std::env::VarError;
use std::ffi::OsString;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use error::CliError;
use log::Level;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    args::color(&arguments).write_global();
    let verdict = match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => usage_error(&error, &arguments),
    };
    output::finish(verdict)
}

fn run(cli: Cli) -> ExitCode {
    show_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::from(error).report(),
    };
    let _guard = runtime.enter();
    ignore_size_signal();
    let Cli {
        database, command, ..
    } = cli;
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

/// Shows the library's warnings on standard error; RUST_LOG selects other levels.
fn show_log() {
    use std::io::Write;
    env_logger::Builder::new()
        .parse_filters(&levels())
        .parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default())
        .format(|line, record| {
            let level = match record.level() {
                Level::Error => "error",
                Level::Warn => "warning",
                Level::Info => "info",
                Level::Debug | Level::Trace => "debug",
            };
            let style = line.default_level_style(record.level());
            let message = output::safe(&record.args().to_string());
            writeln!(line, "{style}{level}{style:#}: {message}")
        })
        .init();
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error. By default its signal, SIGXFSZ, ends the
/// process, and nothing reports what was done.
fn ignore_size_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        /// The number on Linux (except on MIPS), macOS and the BSDs.
        const SIGXFSZ: i32 = 25;
        // The handler stays when the stream is dropped. Without it the signal does what it always does.
        let _ = signal(SignalKind::from_raw(SIGXFSZ));
    }
}

/// The levels of RUST_LOG. They are checked here, because env_logger panics if it cannot print its own complaint.
fn levels() -> String {
    const DEFAULT: &str = "warn";
    let levels = match std::env::var("RUST_LOG") {
        Ok(levels) => levels,
        Err(VarError::NotPresent) => return DEFAULT.to_owned(),
        Err(VarError::NotUnicode(levels)) => levels.to_string_lossy().into_owned(),
    };
    match env_filter::Builder::new().try_parse(&levels) {
        Ok(_) => levels,
        Err(error) => {
            output::note(&format!("warning: RUST_LOG is ignored: {error}"));
            DEFAULT.to_owned()
        }
    }
}

/// Prints clap's message: an error in the arguments, or the help. The exit code is clap's, except for `doctor`,
/// where that code means warnings.
fn usage_error(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.exit_code() == 0 {
        output::help(&error.render());
        return ExitCode::SUCCESS;
    }
    // clap quotes the arguments, in which there may be a password or a control character.
    let quoted: String = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    if output::safe(&quoted) != quoted {
        output::note_lines(error.render().to_string().trim_end());
    } else {
        // There is nowhere to report that standard error cannot be written to.
        let _ = error.print();
    }
    ExitCode::from(if is_doctor(arguments) {
        error::FAILED
    } else {
        error::USAGE
    })
}

/// Whether invalid arguments are those of `doctor`. Behind an unknown option clap finds no verb.
fn is_doctor(arguments: &[OsString]) -> bool {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(arguments);
    match matches
        .ok()
        .as_ref()
        .and_then(|matches| matches.subcommand_name())
    {
        Some(verb) => verb == "doctor",
        None => arguments.iter().any(|argument| argument == "doctor"),
    }
}
