//! `auditlog spool`: shows the entries that are spooled on this machine's disk, and replays them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::session;
use audit_ops::spool::{self, Quarantine, Quarantined, ReplayScope, Retried, SpoolState, SpoolStatus};
use chrono::SecondsFormat;
use db_services::client::Database;
use serde_json::{Value, json};

use crate::args::DatabaseArgs;
use crate::database::{connect, from_args, open_existing};
use crate::error::{CliError, CommandResult, partial_if};
use crate::output::{self, Cell, print_line, print_note};

const STATUS_HEADER: [&str; 5] = ["file", "state", "entries", "bytes", "for"];
const QUARANTINE_HEADER: [&str; 6] = ["number", "quarantined (UTC)", "code", "action", "for", "reason"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog spool --dir /var/spool/shop status
  auditlog spool --dir /var/spool/shop replay
  auditlog spool --dir /var/spool/shop replay --damaged
  auditlog spool --dir /var/spool/shop quarantine --json
  auditlog spool --dir /var/spool/shop quarantine --retry

A service replays its own spool; `replay` is for the spool of a service that will not run again. It skips the \
files of a running service. Entries are written only to the database that they are for, unless --any-target is \
given.

Exit codes: 0 done, 1 something needs attention, 2 invalid arguments, 3 the database or a file failed. `status` and \
`replay` end with 1 if the directory has entries in quarantine, or files that are damaged, unreadable or of a newer \
version; entries that wait for their writer or their database are no reason. `quarantine` ends with 1 if a quarantine \
cannot be read or, with --retry, if entries remain in it.")]
pub(crate) struct Args {
    /// The spool directory
    #[arg(long, env = "AUDIT_SPOOL_DIR", hide_env_values = true)]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the spool files and the number of entries in them
    #[command(after_help = "\
Exit codes: 0 nothing needs attention, 1 entries are in quarantine, or files are damaged, unreadable or of a newer \
version, 2 invalid arguments, 3 the directory cannot be read.")]
    Status {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Write the entries of files that no process uses to the database, and remove the files
    Replay(ReplayArgs),
    /// Show the entries that the database rejected
    #[command(after_help = "\
Exit codes: 0 done (--retry: no entry remains in the quarantine), 1 a quarantine cannot be read (--retry: or entries \
remain), 2 invalid arguments, 3 the database or a file failed.")]
    Quarantine {
        /// Print JSON lines, each with the entry as it was quarantined
        #[arg(long)]
        json: bool,
        /// Try to write them again, after the cause was fixed
        #[arg(long, conflicts_with = "json")]
        retry: bool,
        /// With --retry, include entries that are for another database, or that an older version quarantined
        /// without its name
        #[arg(long, requires = "retry")]
        any_target: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done (files that a process uses or that are for another database are skipped), 1 entries are in \
quarantine, or files are damaged, unreadable or of a newer version, 2 invalid arguments, 3 the database or a file failed.")]
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
        Action::Quarantine {
            retry: true,
            any_target,
            ..
        } => retry(database, &dir, scope(any_target)).await,
        Action::Quarantine { json, .. } => list_quarantine(&dir, json),
    }
}

fn status(dir: &Path, json: bool) -> CommandResult {
    let files = spool::status(dir)?;
    if json {
        files
            .iter()
            .try_for_each(|file| output::json(&status_json(file)))?;
    } else {
        output::table(&STATUS_HEADER, files.iter().map(status_cells));
    }
    let has_quarantined = note_quarantined(dir)?;
    Ok(partial_if(has_quarantined || files.iter().any(needs_attention)))
}

/// True for a file that no writer and no replay of this version will empty.
fn needs_attention(file: &SpoolStatus) -> bool {
    !matches!(file.state, SpoolState::Waiting { .. })
}

/// Reports how many entries are in the quarantines. True if there are any, or some cannot be read.
fn note_quarantined(dir: &Path) -> Result<bool, CliError> {
    let (entries, is_complete) = quarantined(dir)?;
    if !entries.is_empty() {
        print_note!(
            "{} in quarantine: `auditlog spool quarantine` shows them",
            output::counted(entries.len() as u64, "entry is", "entries are")
        );
    }
    Ok(!entries.is_empty() || !is_complete)
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
        Cell::id(target),
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

fn scope(any_target: bool) -> ReplayScope {
    match any_target {
        true => ReplayScope::AnyDatabase,
        false => ReplayScope::SameDatabase,
    }
}

async fn replay(database: &DatabaseArgs, dir: &Path, args: &ReplayArgs) -> CommandResult {
    let database = from_args(database)?;
    let scope = scope(args.any_target);
    if args.damaged {
        let renamed = spool::restore_damaged(dir, &database, scope)?;
        print_line!(
            "reading {} again",
            output::counted(renamed, "damaged file", "damaged files")
        );
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
    print_line!(
        "wrote {} of {}; {} quarantined; {} skipped: in use, for another database, of a newer version, or unreadable",
        output::entries(report.entries),
        output::counted(report.files, "file", "files"),
        output::number(report.quarantined),
        output::counted(report.left, "file", "files")
    );
    let any_left = spool::status(dir)?.iter().any(needs_attention);
    let has_quarantined = note_quarantined(dir)?;
    if report.damaged > 0 {
        print_note!(
            "{} damaged and renamed: `auditlog spool status` shows them",
            output::counted(report.damaged, "file is", "files are")
        );
    } else if any_left {
        print_note!(
            "damaged or unreadable files, or files of a newer version, remain: `auditlog spool status` shows them"
        );
    }
    if let Some(reason) = report.failure {
        return Err(refused(&database, "the spool", &reason).await);
    }
    Ok(partial_if(has_quarantined || report.damaged > 0 || any_left))
}

/// The error of a database that does not accept entries. With who has locked a table, if somebody has: a writer's
/// statement that waits for it only lacks an answer.
async fn refused(database: &Database, place: &str, reason: &str) -> CliError {
    let lock = match session::lock_holders(database).await {
        Some(holders) => format!("; the server's {holders}"),
        None => String::new(),
    };
    CliError::new(format!(
        "{database} does not accept entries, the remaining ones stay in {place}: {reason}{lock}"
    ))
}

/// The entries of all quarantines of a directory, and whether all of them could be read.
fn quarantined(dir: &Path) -> Result<(Vec<Quarantined>, bool), CliError> {
    let (mut entries, mut is_complete) = (Vec::new(), true);
    for opened in Quarantine::open_all(dir)? {
        match opened.and_then(|mut quarantine| quarantine.list()) {
            Ok(found) => entries.extend(found),
            Err(error) => {
                is_complete = false;
                print_note!("a quarantine cannot be read: {error}");
            }
        }
    }
    for path in Quarantine::damaged(dir)? {
        is_complete = false;
        print_note!(
            "{} is a quarantine that was damaged and renamed; `sqlite3 FILE .recover` reads what can be read",
            path.display()
        );
    }
    Ok((entries, is_complete))
}

fn list_quarantine(dir: &Path, json: bool) -> CommandResult {
    let (entries, is_complete) = quarantined(dir)?;
    if json {
        entries
            .iter()
            .try_for_each(|entry| output::json(&quarantine_json(entry)))?;
    } else {
        output::table(&QUARANTINE_HEADER, entries.iter().map(quarantine_cells));
    }
    Ok(partial_if(!is_complete))
}

fn quarantine_cells(quarantined: &Quarantined) -> Vec<Cell> {
    let action = quarantined
        .entry
        .as_ref()
        .map_or("(cannot be read)", |entry| &entry.action);
    let quarantined_at = quarantined
        .quarantined_at
        .to_rfc3339_opts(SecondsFormat::Secs, true);
    vec![
        Cell::plain(quarantined.id.to_string()),
        Cell::plain(quarantined_at),
        Cell::plain(quarantined.sqlstate.as_deref().unwrap_or_default()),
        Cell::plain(action),
        Cell::id(quarantined.target.as_deref().unwrap_or("(unknown)")),
        Cell::prose(&quarantined.reason),
    ]
}

fn quarantine_json(quarantined: &Quarantined) -> Value {
    json!({
        "number": quarantined.id,
        "quarantined_at": quarantined.quarantined_at.to_rfc3339(),
        "sqlstate": quarantined.sqlstate,
        "target": quarantined.target,
        "reason": quarantined.reason,
        // The checksum of the entry, a space, the entry.
        "line": String::from_utf8_lossy(&quarantined.line),
    })
}

async fn retry(database: &DatabaseArgs, dir: &Path, scope: ReplayScope) -> CommandResult {
    if !Quarantine::exists(dir) {
        print_line!("wrote 0 entries, 0 in quarantine");
        return Ok(ExitCode::SUCCESS);
    }
    let database = open_existing(database)?;
    // Reports what is wrong with the database before anything is tried.
    drop(connect(&database).await?);
    let (mut written, mut failure) = (0, None);
    for opened in Quarantine::open_all(dir)? {
        // One that cannot be opened is reported below.
        let Ok(mut quarantine) = opened else { continue };
        let report = quarantine.retry(&database, scope).await?;
        written += report.stored;
        print_remaining(&report, &database.to_string());
        failure = report.failure;
        if failure.is_some() {
            break;
        }
    }
    let (remaining, is_complete) = quarantined(dir)?;
    print_line!(
        "wrote {}, {} in quarantine",
        output::entries(written),
        output::number(remaining.len() as u64)
    );
    match failure {
        Some(reason) => Err(refused(&database, "quarantine", &reason).await),
        None => Ok(partial_if(!remaining.is_empty() || !is_complete)),
    }
}

/// Prints why entries remain in the quarantine.
fn print_remaining(report: &Retried, database: &str) {
    for (reason, entries) in &report.rejected {
        print_note!(
            "{database} still rejects {}: {}",
            output::entries(*entries),
            reason
        );
    }
    if report.other_target > 0 {
        print_note!(
            "{} for another database, skipped: name that database, or add --any-target to write to {database}",
            output::entries(report.other_target)
        );
    }
    if report.unknown_target > 0 {
        print_note!(
            "{} of an older version without the name of a database, skipped: --any-target writes to {database}",
            output::entries(report.unknown_target)
        );
    }
    if report.unreadable > 0 {
        print_note!(
            "{} unreadable, skipped",
            output::counted(report.unreadable, "line", "lines")
        );
    }
}
