//! The `auditlog` command, for operators of an audit trail.
//!
//! Exit codes: 0 done; 1 partly done: input was rejected, entries are missing, or something remains to be done;
//! 2 invalid arguments; 3 the database or a file failed. Of `doctor`: 0 fine; 1 critical; 2 warnings; 3 it could
//! not be run.

mod actions;
mod args;
mod batch;
mod cloudtrail;
mod completions;
mod database;
mod doctor;
mod error;
mod export;
mod feed;
mod gzip;
mod hash;
mod hold;
mod import;
mod input;
mod lines;
mod list;
mod man;
mod migrate;
mod output;
mod partitions;
mod query_args;
mod reading;
mod records;
mod restore;
mod retention;
mod show;
mod spool;
mod stats;
mod tail;
mod verify;
mod write;
mod zone;

use std::any::Any;
use std::env::VarError;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use error::CliError;
use log::Level;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    args::color(&arguments).write_global();
    let verdict = match args::terms_last(arguments) {
        Ok(arguments) => match Cli::try_parse_from(&arguments) {
            Ok(cli) => run(cli),
            Err(error) => usage_error(&error, &arguments),
        },
        Err(error) => error.report(),
    };
    output::finish(verdict)
}

fn run(cli: Cli) -> ExitCode {
    show_log();
    // A panic is an error of this program, and its exit code is that of an error. tokio panics where no thread can be
    // started.
    std::panic::set_hook(Box::new(|_| {}));
    match catch_unwind(AssertUnwindSafe(|| run_to_end(cli))) {
        Ok(verdict) => verdict,
        Err(payload) => CliError::new(panic_text(payload.as_ref())).report(),
    }
}

fn run_to_end(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::from(error).report(),
    };
    let verdict = runtime.block_on(async {
        ignore_size_signal();
        run_verb(cli).await.unwrap_or_else(|error| error.report())
    });
    // It would wait for a thread that still looks up a host's name.
    runtime.shutdown_background();
    verdict
}

async fn run_verb(cli: Cli) -> error::CommandResult {
    let Cli {
        database, command, ..
    } = cli;
    match command {
        Command::Migrate(args) => migrate::run(&database, args).await,
        Command::Write(args) => write::run(&database, *args).await,
        Command::Import(args) => import::run(&database, args).await,
        Command::List(args) => list::run(&database, args).await,
        Command::Show(args) => show::run(&database, args).await,
        Command::Stats(args) => stats::run(&database, args).await,
        Command::Tail(args) => tail::run(&database, args).await,
        Command::Export(args) => export::run(&database, args).await,
        Command::Actions(args) => actions::run(&database, args).await,
        Command::Hash(args) => hash::run(&args),
        Command::Spool(args) => spool::run(&database, args).await,
        Command::Verify(args) => verify::run(&database, args).await,
        Command::Partitions(args) => partitions::run(&database, args).await,
        Command::Retention(args) => retention::run(&database, args).await,
        Command::Hold(args) => hold::run(&database, args).await,
        Command::Restore(args) => restore::run(&database, args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Doctor(args) => doctor::run(&database, args).await,
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    match text.unwrap_or("no message") {
        text if text.contains("spawn") => {
            format!("the operating system cannot start a thread (see `ulimit -u`): {text}")
        }
        text => format!("internal error, please report it: {text}"),
    }
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
    ExitCode::from(if args::verb(arguments).is_some_and(|verb| verb == "doctor") {
        error::FAILED
    } else {
        error::USAGE
    })
}
