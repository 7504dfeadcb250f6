//! `auditlog spool`: shows the entries that are spooled on this machine's disk, and replays them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::spool::{self, Quarantine, Quarantined, ReplayScope, SpoolState, SpoolStatus};
use serde_json::{Value, json};

use crate::args::DatabaseArgs;
use crate::database::{connect, from_args};
use crate::error::{CliError, CommandResult, PARTIAL};
use crate::output::{self, Cell};

const STATUS_HEADER: [&str; 5] = ["file", "state", "entries", "bytes", "for"];
const QUARANTINE_HEADER: [&str; 5] = ["number", "quarantined (UTC)", "code", "action", "reason"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog spool --dir /var/spool/shop status
  auditlog spool --dir /var/spool/shop replay
  auditlog spool --dir /var/spool/shop replay --damaged
  auditlog spool --dir /var/spool/shop quarantine --json
  auditlog spool --dir /var/spool/shop quarantine --retry

A service replays its own spool; `replay` is for the spool of a service that will not run again. It skips the
files of a running service.")]
pub(crate) struct Args {
    /// The spool directory
    #[arg(long, env = "AUDIT_SPOOL_DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the spool files and the number of entries in them
    Status {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Write the entries of files that no process uses to the database, and remove the files
    Replay(ReplayArgs),
    /// Show the entries that the database rejected
    Quarantine {
        /// Print JSON lines, each with the entry as it was quarantined
        #[arg(long)]
        json: bool,
        /// Try to write them again, after the cause was fixed
        #[arg(long, conflicts_with = "json")]
        retry: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// Include files that are for another database, or do not say for which
    #[arg(long)]
    any_target: bool,
    /// Include files that were renamed to .damaged: readable entries are written again, and those that are
    /// already stored stay unchanged
    #[arg(long)]
    damaged: bool,
}

pub(crate) async fn run(database: &DatabaseArgs, Args { dir, action }: Args) -> CommandResult {
    if !dir.is_dir() {
        return Err(CliError::new(format!(
            "{}: there is no such directory",
            dir.display()
        )));
    }
    match action {
        Action::Status { json } => status(&dir, json),
        Action::Replay(args) => replay(database, &dir, &args).await,
        Action::Quarantine { retry: true, .. } => retry(database, &dir).await,
        Action::Quarantine { json, .. } => list_quarantine(&dir, json),
    }
}

fn status(dir: &Path, json: bool) -> CommandResult {
    let files = spool::status(dir)?;
    if json {
        files
            .iter()
            .for_each(|file| output::text(&status_json(file).to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    output::table(&STATUS_HEADER, files.iter().map(status_cells));
    let quarantined = quarantined(dir)?.len();
    if quarantined > 0 {
        eprintln!("{quarantined} entries are in quarantine: `auditlog spool quarantine` shows them");
    }
    Ok(ExitCode::SUCCESS)
}

fn status_cells(file: &SpoolStatus) -> Vec<Cell> {
    let (state, entries, bytes, target) = match &file.state {
        SpoolState::Waiting {
            in_use,
            entries,
            bytes,
            target,
            ..
        } => {
            let state = if *in_use {
                Cell::ok("in use")
            } else {
                Cell::warn("orphan")
            };
            (
                state,
                output::number(*entries),
                output::number(*bytes),
                target.clone(),
            )
        }
        SpoolState::NewerVersion(version) => {
            let hint = format!("format version {version}: replay it with a newer auditlog");
            (Cell::warn("newer"), String::new(), String::new(), hint)
        }
        SpoolState::Damaged => (
            Cell::error("damaged"),
            String::new(),
            String::new(),
            String::new(),
        ),
        SpoolState::Unreadable(reason) => (
            Cell::error("unreadable"),
            String::new(),
            String::new(),
            reason.clone(),
        ),
        _ => (
            Cell::plain("unknown"),
            String::new(),
            String::new(),
            String::new(),
        ),
    };
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    vec![
        Cell::plain(name),
        state,
        Cell::plain(entries),
        Cell::plain(bytes),
        Cell::plain(target),
    ]
}

fn status_json(file: &SpoolStatus) -> Value {
    let path = file.path.display().to_string();
    match &file.state {
        SpoolState::Waiting {
            in_use,
            target,
            entries,
            batches,
            bytes,
        } => json!({
            "path": path, "state": if *in_use { "in_use" } else { "orphan" }, "target": target,
            "entries": entries, "batches": batches, "bytes": bytes,
        }),
        SpoolState::Unreadable(reason) => json!({"path": path, "state": "unreadable", "reason": reason}),
        SpoolState::NewerVersion(version) => {
            json!({"path": path, "state": "newer_version", "version": version})
        }
        _ => json!({"path": path, "state": "damaged"}),
    }
}

async fn replay(database: &DatabaseArgs, dir: &Path, args: &ReplayArgs) -> CommandResult {
    let database = from_args(database)?;
    let scope = match args.any_target {
        true => ReplayScope::AnyDatabase,
        false => ReplayScope::SameDatabase,
    };
    if args.damaged {
        let renamed = spool::restore_damaged(dir, &database, scope)?;
        println!("reading {} damaged files again", output::number(renamed));
    }
    let orphaned_entries = |file: SpoolStatus| match file.state {
        SpoolState::Waiting {
            in_use: false,
            entries,
            ..
        } => entries,
        _ => 0,
    };
    let total = spool::status(dir)?.into_iter().map(orphaned_entries).sum();
    let bar = output::progress(Some(total), "replaying");
    let report = spool::replay(dir, &database, scope, |entries| bar.set_position(entries)).await;
    bar.finish_and_clear();
    let report = report?;
    println!(
        "wrote {} entries of {} files; {} were quarantined; {} files were skipped: in use, for another database, of a newer version, or unreadable",
        output::number(report.entries),
        output::number(report.files),
        output::number(report.quarantined),
        output::number(report.left)
    );
    let is_damaged =
        |file: &SpoolStatus| matches!(file.state, SpoolState::Damaged | SpoolState::Unreadable(_));
    let any_damaged = spool::status(dir)?.iter().any(is_damaged);
    if report.damaged > 0 {
        eprintln!(
            "{} files are damaged and were renamed: `auditlog spool status` shows them",
            report.damaged
        );
    } else if any_damaged {
        eprintln!("damaged or unreadable files remain: `auditlog spool status` shows them");
    }
    if let Some(reason) = report.failure {
        return Err(CliError::new(format!(
            "{database} does not accept entries, the remaining ones stay in the spool: {reason}"
        )));
    }
    Ok(if report.quarantined + report.damaged > 0 || any_damaged {
        ExitCode::from(PARTIAL)
    } else {
        ExitCode::SUCCESS
    })
}

/// The quarantined entries. Does not create the quarantine if there is none.
fn quarantined(dir: &Path) -> Result<Vec<Quarantined>, CliError> {
    if !Quarantine::exists(dir) {
        return Ok(Vec::new());
    }
    Ok(Quarantine::open(dir)?.list()?)
}

fn list_quarantine(dir: &Path, json: bool) -> CommandResult {
    let entries = quarantined(dir)?;
    if json {
        entries
            .iter()
            .for_each(|entry| output::text(&quarantine_json(entry).to_string()));
    } else {
        output::table(&QUARANTINE_HEADER, entries.iter().map(quarantine_cells));
    }
    Ok(ExitCode::SUCCESS)
}

fn quarantine_cells(quarantined: &Quarantined) -> Vec<Cell> {
    let action = quarantined
        .entry
        .as_ref()
        .map_or("(cannot be read)", |entry| &entry.action);
    vec![
        Cell::plain(quarantined.id.to_string()),
        Cell::plain(
            quarantined
                .set_aside_at
                .to_rfc3339_opts(SecondsFormat::Secs, true),
        ),
        Cell::plain(quarantined.sqlstate.as_deref().unwrap_or_default()),
        Cell::plain(action),
        Cell::plain(&quarantined.reason),
    ]
}

fn quarantine_json(quarantined: &Quarantined) -> Value {
    json!({
        "number": quarantined.id,
        "quarantined_at": quarantined.set_aside_at.to_rfc3339(),
        "sqlstate": quarantined.sqlstate,
        "reason": quarantined.reason,
        // The checksum of the entry, a space, the entry.
        "line": String::from_utf8_lossy(&quarantined.line),
    })
}

async fn retry(database: &DatabaseArgs, dir: &Path) -> CommandResult {
    if !Quarantine::exists(dir) {
        println!("wrote 0 entries, 0 remain in quarantine");
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = connect(&from_args(database)?).await?;
    let mut quarantine = Quarantine::open(dir)?;
    let written = quarantine.retry(&mut conn).await?;
    let remaining = quarantine.list()?.len() as u64;
    println!(
        "wrote {} entries, {} remain in quarantine",
        output::number(written),
        output::number(remaining)
    );
    Ok(if remaining > 0 {
        ExitCode::from(PARTIAL)
    } else {
        ExitCode::SUCCESS
    })
}
