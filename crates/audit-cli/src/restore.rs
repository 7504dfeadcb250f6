//! `auditlog restore`: checks archives, and restores their rows.

use std::path::{Path, PathBuf};

use audit_ops::archive::{self, LedgerVerdict, Trust, VerifiedArchive};
use audit_ops::retention::{self, LedgerEntry};
use audit_ops::{OpsError, session};
use clap::builder::NonEmptyStringValueParser;

use crate::args::DatabaseArgs;
use crate::database::{from_args, maintenance_connection};
use crate::error::{CliError, CommandResult, Context, chain, partial_if};
use crate::output::{self, print_line, print_note};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog restore --check /var/backups/audit                     do they match their manifests, and the ledger?
  auditlog restore /var/backups/audit/audit_logs_2024-01.4f1d22a9c0de0817.ndjson.gz
  auditlog --database-url postgres://me@localhost/case_4711 restore /var/backups/audit --accept 'case 4711, compared \
with the ledger of shop_audit'

An archive is restored if an entry of the ledger has its month, range, number of rows and digest. Every row is restored with every column as it was; rows that are stored already stay unchanged. Requires the \
table's owner. A restored month is still due to be dropped: create a hold for it first, or restore into \
another database, which must be migrated. PostgreSQL only.

Exit codes: 0 done, 1 an archive does not match its manifest or the ledger, or lacks one of its two files (--check), or \
rows are left out because the archive lacks a value of theirs, 2 invalid arguments, 3 the database or a file failed.")]
pub(crate) struct Args {
    /// A directory of archives, or one of an archive's two files
    path: PathBuf,
    /// Compare the archives with their manifests, and with the ledger if a PostgreSQL database is named. Restore nothing
    #[arg(long)]
    check: bool,
    /// Restore archives that the ledger does not have, or not like that, for this reason. The ledger records it
    #[arg(long, value_name = "REASON", conflicts_with = "check", value_parser = NonEmptyStringValueParser::new())]
    accept: Option<String>,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    // Check all archives before restoring any row.
    let (archives, bad) = check(&args.path)?;
    if args.check {
        return check_ledger(database, &archives, bad).await;
    }
    if bad > 0 {
        return Err(CliError::new("nothing was restored"));
    }
    let trust = args.accept.map_or(Trust::Ledger, Trust::Operator);
    let mut conn = maintenance_connection(database).await?;
    let mut left_out = 0;
    for archive in &archives {
        let month = &archive.manifest.month;
        let bar = output::progress(Some(archive.manifest.rows), "restoring");
        let report = archive::restore(&mut conn, archive, &trust, &mut |rows| bar.set_position(rows)).await;
        bar.finish_and_clear();
        let report = report.context(|| format!("{month} was not restored"))?;
        print_line!(
            "restored {month}: {}, {} already stored",
            output::counted(report.inserted, "row", "rows"),
            output::number(report.already_stored)
        );
        if report.unreadable > 0 {
            print_note!(
                "{month}: {} left out, the archive lacks a value that could not be turned into text",
                output::counted(report.unreadable, "row is", "rows are")
            );
        }
        left_out += report.unreadable;
    }
    Ok(partial_if(left_out > 0))
}

/// Prints what could be compared for each archive that matches its manifest, and what could not.
async fn check_ledger(database: &DatabaseArgs, archives: &[VerifiedArchive], bad: usize) -> CommandResult {
    let ledger = ledger(database).await;
    let mut bad = bad;
    for archive in archives {
        let manifest = &archive.manifest;
        print_line!(
            "{}: {}, digest {}; file, lines and values match the manifest; {}",
            manifest.month,
            output::counted(manifest.rows, "row", "rows"),
            manifest.digest,
            match &ledger {
                Ok(entries) => {
                    let verdict = archive::compare_with_ledger(manifest, entries);
                    bad += usize::from(matches!(verdict, LedgerVerdict::Different { .. }));
                    ledger_text(&verdict)
                }
                Err(reason) => format!("not compared with a ledger: {reason}"),
            }
        );
    }
    Ok(partial_if(bad > 0))
}

/// The ledger of the database that is named, or why there is none.
async fn ledger(args: &DatabaseArgs) -> Result<Vec<LedgerEntry>, String> {
    match from_args(args) {
        Ok(database) if database.sqlite_path().is_some() => {
            return Err("no PostgreSQL database is named".to_owned());
        }
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    let mut conn = maintenance_connection(args)
        .await
        .map_err(|error| error.to_string())?;
    let entries = session::bounded(&mut conn, retention::ledger).await;
    entries.map_err(|error| chain(&error))
}

fn ledger_text(verdict: &LedgerVerdict) -> String {
    match verdict {
        LedgerVerdict::Same { entry, is_same_file } => {
            let file = match is_same_file {
                true => "and the file",
                false => "but not this file",
            };
            format!("entry {entry} of the ledger has the month, range, rows and digest, {file}")
        }
        LedgerVerdict::Different {
            entry,
            figure,
            found,
            expected,
        } => format!(
            "DIFFERS from entry {entry} of the ledger: {figure} is {found}, the ledger says {expected}"
        ),
        _ => "the ledger has no entry about it: nothing could be compared".to_owned(),
    }
}

/// The archives at a path that match their manifests, and how many do not. Each of those is reported.
fn check(path: &Path) -> Result<(Vec<VerifiedArchive>, usize), CliError> {
    let (mut archives, mut bad) = (Vec::new(), 0);
    for manifest in archive::manifests(path)? {
        let bar = output::spinner("checking");
        let checked = archive::check(&manifest);
        bar.finish_and_clear();
        match checked {
            Ok(archive) => archives.push(archive),
            Err(error @ OpsError::Archive { .. }) => {
                bad += 1;
                print_note!("{}: {}", manifest.display(), chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((archives, bad))
}
