//! Completes an export to a file: the names of the files, and the position.

use std::path::Path;

use audit_ops::session;
use audit_ops::unfinished::Existing;
use chrono::{DateTime, SecondsFormat, Utc};
use db_services::audit::feed::{self, Position};
use db_services::client::Database;
use db_services::files::sync_names;

use super::copy::End;
use super::interrupt::interrupted;
use super::manifest::Manifest;
use super::stream::Ended;
use super::{Args, Export, Written, file, with_remedy};
use crate::error::{CliError, CommandResult, Context, partial_if};
use crate::output::{self, print_line, print_note};
use crate::reading::of_feed;

/// Gives the files their names, and saves the position.
pub(super) async fn complete(
    database: &Database,
    args: &Args,
    path: &Path,
    written: Written,
) -> CommandResult {
    let Written {
        mut export,
        end,
        unfinished,
        ended,
        manifest: (unfinished_manifest, file),
    } = written;
    let manifest = manifest(args, path, &export, &end, &ended);
    let manifest_path = Manifest::path(path);
    file::write(file, &manifest.text()?, &manifest_path)?;
    // Something that has the name since this began has its own manifest.
    file::ensure_free(path, args.existing())?;
    // A program that waits for the file finds its manifest.
    file::rename(unfinished_manifest, &manifest_path, Existing::Replaced)?;
    if let Err(error) = file::rename(unfinished, path, args.existing()) {
        if !path.exists() {
            let _ = std::fs::remove_file(&manifest_path);
        }
        return Err(error);
    }
    sync_names(file::directory(path)).context(|| path.display().to_string())?;
    if let Some(name) = &args.position {
        let saving = save(&mut export, name, &end.position);
        let saved = tokio::select! {
            biased;
            saved = saving => saved,
            // A statement of SQLite cannot be left.
            code = interrupted(), if database.sqlite_path().is_none() => {
                print_note!(
                    "auditlog: interrupted: {} is complete, and where it ends may be saved or not",
                    path.display()
                );
                return Ok(code);
            }
        };
        saved.map_err(|error| {
            error.in_context(&format!(
                "{} is complete, but where it ends is not saved",
                path.display()
            ))
        })?;
    }
    print_line!(
        "exported {} to {} ({})",
        output::entries(end.rows),
        path.display(),
        output::size(i64::try_from(ended.file.bytes).unwrap_or(i64::MAX))
    );
    if end.has_more {
        match &args.position {
            Some(name) => print_note!("more entries: --position {name} with another --out"),
            None => print_note!("more entries: --after {}", manifest_path.display()),
        }
    }
    Ok(partial_if(end.has_more))
}

async fn save(export: &mut Export, name: &str, position: &Position) -> Result<(), CliError> {
    let saved = export.saved.as_ref();
    let saved = session::bounded(&mut export.conn, async |conn| {
        of_feed(feed::save(conn, name, saved, Some(position)).await)
    });
    Ok(saved.await.map_err(with_remedy)??)
}

fn manifest(args: &Args, path: &Path, export: &Export, end: &End, ended: &Ended) -> Manifest {
    let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    Manifest {
        format: Manifest::format(),
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        file_bytes: ended.file.bytes,
        file_sha256: ended.file.sha256.clone(),
        compression: args.compression().name().map(str::to_owned),
        lines: args.format.name().to_owned(),
        rows: end.rows,
        bytes: ended.lines.bytes,
        sha256: ended.lines.sha256.clone(),
        query: export.filter.to_string(),
        database: end.position.origin(),
        first_position: export.first.to_string(),
        last_position: end.position.to_string(),
        position_name: args.position.clone(),
        has_more: end.has_more,
        began_at: shown(export.began),
        ended_at: shown(Utc::now()),
        made_by: concat!("auditlog ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
