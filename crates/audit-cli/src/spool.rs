//! `auditlog spool`: entries that wait on this machine's disk, and their way into the database.

use std::path::Path;
use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::spool::{
    self, Quarantine, Quarantined, ReplayScope, Retried, SpoolState, SpoolStatus,
};
use serde_json::{Value, json};

use crate::args::{Spool, SpoolAction};
use crate::database::{connect, named};
use crate::failure::{Done, Failure, IN_PART};
use crate::output::{self, Cell};

pub(crate) async fn run(url: Option<&str>, Spool { dir, action }: Spool) -> Done {
    if !dir.is_dir() {
        return Err(Failure::new(format!(
            "{}: there is no such directory",
            dir.display()
        )));
    }
    match action {
        SpoolAction::Status { json } => status(&dir, json),
        SpoolAction::Replay { any_target, damaged } => replay(url, &dir, any_target, damaged).await,
        SpoolAction::Quarantine {
            retry: true,
            any_target,
            ..
        } => retry(url, &dir, any_target).await,
        SpoolAction::Quarantine { json, .. } => quarantine(&dir, json),
    }
}

fn status(dir: &Path, json: bool) -> Done {
    let files = spool::status(dir)?;
    if json {
        files
            .iter()
            .for_each(|file| output::text(&status_json(file).to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["file", "state", "entries", "bytes", "for"];
    output::table(&header, files.iter().map(status_cells));
    let (kept, _) = quarantined(dir)?;
    if !kept.is_empty() {
        eprintln!(
            "{} entries are in quarantine: `auditlog spool quarantine` shows them",
            kept.len()
        );
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
                Cell::good("in use")
            } else {
                Cell::doubtful("orphan")
            };
            (
                state,
                output::number(*entries),
                output::number(*bytes),
                target.clone(),
            )
        }
        SpoolState::NewerVersion(version) => {
            let why = format!("format version {version}: replay it with a newer auditlog");
            (Cell::doubtful("newer"), String::new(), String::new(), why)
        }
        SpoolState::Damaged => (Cell::bad("damaged"), String::new(), String::new(), String::new()),
        SpoolState::Unreadable(reason) => (
            Cell::bad("unreadable"),
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

async fn replay(url: Option<&str>, dir: &Path, any_target: bool, damaged: bool) -> Done {
    let database = named(url)?;
    let scope = scope(any_target);
    if damaged {
        let restored = spool::restore_damaged(dir, &database, scope)?;
        println!("{} damaged files are read again", output::number(restored));
    }
    let waiting = |file: SpoolStatus| match file.state {
        SpoolState::Waiting {
            in_use: false,
            entries,
            ..
        } => entries,
        _ => 0,
    };
    let total = spool::status(dir)?.into_iter().map(waiting).sum();
    let bar = output::progress(Some(total), "replaying");
    let done = spool::replay(dir, &database, scope, |entries| bar.set_position(entries)).await;
    bar.finish_and_clear();
    let done = done?;
    println!(
        "wrote {} entries of {} files; {} were put into quarantine; {} files were left alone: in use, for another database, of a newer version, or unreadable now",
        output::number(done.entries),
        output::number(done.files),
        output::number(done.quarantined),
        output::number(done.left)
    );
    let is_bad = |file: &SpoolStatus| matches!(file.state, SpoolState::Damaged | SpoolState::Unreadable(_));
    let is_any_bad = spool::status(dir)?.iter().any(is_bad);
    if done.damaged > 0 {
        eprintln!(
            "{} files are damaged and were renamed: `auditlog spool status` shows them",
            done.damaged
        );
    } else if is_any_bad {
        eprintln!("damaged or unreadable files are left: `auditlog spool status` shows them");
    }
    match done.failure {
        Some(reason) => Err(Failure::new(format!(
            "{database} takes no more, the rest stays in the spool: {reason}"
        ))),
        None if done.quarantined + done.damaged > 0 || is_any_bad => Ok(ExitCode::from(IN_PART)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn scope(any_target: bool) -> ReplayScope {
    if any_target {
        ReplayScope::AnyDatabase
    } else {
        ReplayScope::SameDatabase
    }
}

/// The entries of all quarantines of a directory, and whether all could be read.
fn quarantined(dir: &Path) -> Result<(Vec<Quarantined>, bool), Failure> {
    let (mut entries, mut is_whole) = (Vec::new(), true);
    for opened in Quarantine::open_all(dir)? {
        match opened.and_then(|mut open| open.list()) {
            Ok(kept) => entries.extend(kept),
            Err(error) => {
                is_whole = false;
                eprintln!("a quarantine cannot be read: {error}");
            }
        }
    }
    for path in Quarantine::damaged(dir)? {
        is_whole = false;
        eprintln!(
            "{} is a quarantine that was damaged and renamed; `sqlite3 FILE .recover` reads what can be read",
            path.display()
        );
    }
    Ok((entries, is_whole))
}

fn quarantine(dir: &Path, json: bool) -> Done {
    let (entries, is_whole) = quarantined(dir)?;
    if json {
        entries
            .iter()
            .for_each(|entry| output::text(&quarantined_json(entry).to_string()));
    } else {
        let header = ["number", "set aside (UTC)", "code", "action", "for", "reason"];
        output::table(&header, entries.iter().map(quarantined_cells));
    }
    Ok(ExitCode::from(if is_whole { 0 } else { IN_PART }))
}

fn quarantined_cells(kept: &Quarantined) -> Vec<Cell> {
    let action = kept
        .entry
        .as_ref()
        .map_or("(cannot be read)", |entry| &entry.action);
    vec![
        Cell::plain(kept.id.to_string()),
        Cell::plain(kept.set_aside_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        Cell::plain(kept.sqlstate.as_deref().unwrap_or_default()),
        Cell::plain(action),
        Cell::plain(kept.target.as_deref().unwrap_or("(unknown)")),
        Cell::plain(&kept.reason),
    ]
}

fn quarantined_json(kept: &Quarantined) -> Value {
    json!({
        "number": kept.id,
        "set_aside_at": kept.set_aside_at.to_rfc3339(),
        "sqlstate": kept.sqlstate,
        "target": kept.target,
        "reason": kept.reason,
        // The sum of the line, a space, the entry.
        "line": String::from_utf8_lossy(&kept.line),
    })
}

async fn retry(url: Option<&str>, dir: &Path, any_target: bool) -> Done {
    if !Quarantine::exists(dir) {
        println!("wrote 0 entries, 0 stay in quarantine");
        return Ok(ExitCode::SUCCESS);
    }
    let database = named(url)?;
    // Says what is wrong with the database before anything is tried.
    drop(connect(&database).await?);
    let (mut stored, mut failure) = (0, None);
    for opened in Quarantine::open_all(dir)? {
        // One that cannot be opened is reported below.
        let Ok(mut quarantine) = opened else { continue };
        let done = quarantine.retry(&database, scope(any_target)).await?;
        stored += done.stored;
        report_left(&done, &database.to_string());
        failure = done.failure;
        if failure.is_some() {
            break;
        }
    }
    let (rest, is_whole) = quarantined(dir)?;
    println!(
        "wrote {} entries, {} stay in quarantine",
        output::number(stored),
        output::number(rest.len() as u64)
    );
    match failure {
        Some(reason) => Err(Failure::new(format!(
            "{database} takes no more, the rest stays in quarantine: {reason}"
        ))),
        None if rest.is_empty() && is_whole => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(IN_PART)),
    }
}

/// Says why entries stay in the quarantine.
fn report_left(done: &Retried, database: &str) {
    for (reason, entries) in &done.rejected {
        eprintln!(
            "{database} still rejects {entries} entries: {}",
            output::printable(reason)
        );
    }
    if done.other_target > 0 {
        eprintln!(
            "{} entries are for another database and were left: name that one, or write them to {database} as well with --any-target",
            done.other_target
        );
    }
    if done.unknown_target > 0 {
        eprintln!(
            "{} entries do not say which database they are for, since an older version kept them, and were left: --any-target writes them to {database}",
            done.unknown_target
        );
    }
    if done.unreadable > 0 {
        eprintln!("{} lines cannot be read and were left", done.unreadable);
    }
}
