//! `auditlog spool`: entries that wait on this machine's disk, and their way into the database.

use std::path::Path;
use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::spool::{self, Quarantine, Quarantined, ReplayScope, SpoolState, SpoolStatus};
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
        SpoolAction::Quarantine { retry: true, .. } => retry(url, &dir).await,
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
    let aside = if Quarantine::exists(dir) {
        Quarantine::open(dir)?.list()?.len()
    } else {
        0
    };
    if aside > 0 {
        eprintln!("{aside} entries are in quarantine: `auditlog spool quarantine` shows them");
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
    let scope = if any_target {
        ReplayScope::AnyDatabase
    } else {
        ReplayScope::SameDatabase
    };
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

fn quarantine(dir: &Path, json: bool) -> Done {
    // Looking must not make one.
    let entries = if Quarantine::exists(dir) {
        Quarantine::open(dir)?.list()?
    } else {
        Vec::new()
    };
    if json {
        entries
            .iter()
            .for_each(|entry| output::text(&quarantined_json(entry).to_string()));
    } else {
        let header = ["number", "set aside (UTC)", "code", "action", "reason"];
        output::table(&header, entries.iter().map(quarantined_cells));
    }
    Ok(ExitCode::SUCCESS)
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
        Cell::plain(&kept.reason),
    ]
}

fn quarantined_json(kept: &Quarantined) -> Value {
    json!({
        "number": kept.id,
        "set_aside_at": kept.set_aside_at.to_rfc3339(),
        "sqlstate": kept.sqlstate,
        "reason": kept.reason,
        // The sum of the line, a space, the entry.
        "line": String::from_utf8_lossy(&kept.line),
    })
}

async fn retry(url: Option<&str>, dir: &Path) -> Done {
    if !Quarantine::exists(dir) {
        println!("wrote 0 entries, 0 stay in quarantine");
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = connect(&named(url)?).await?;
    let mut quarantine = Quarantine::open(dir)?;
    let stored = quarantine.retry(&mut conn).await?;
    let rest = quarantine.list()?.len() as u64;
    println!(
        "wrote {} entries, {} stay in quarantine",
        output::number(stored),
        output::number(rest)
    );
    Ok(if rest > 0 {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}
