//! `auditlog restore`: checks archives, and restores their rows.

use std::path::{Path, PathBuf};

use audit_ops::archive::{self, LedgerVerdict, Trust, VerifiedArchive};
use audit_ops::retention::{self, LedgerEntry};
use audit_ops::session;
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

Exit codes: 0 done, 1 an archive does not match its manifest or the ledger, cannot be read, or lacks one of its two \
files (--check), or rows are left out, 2 invalid arguments, 3 the database or a file failed; with --check, the ledger of \
the named database could not be read.")]
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
    for archive in &archives {
        let month = &archive.manifest.month;
        let checked = archive::check_restorable(&mut conn, archive, &trust).await;
        checked.context(|| format!("nothing was restored: {month}"))?;
    }
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
                "{month}: {} left out, a value could not be turned into text, or is nested too deeply",
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
                Err(NoLedger::NotNamed) => {
                    "not compared with a ledger: no PostgreSQL database is named".to_owned()
                }
                Err(NoLedger::Failed(error)) => format!("not compared with a ledger: {error}"),
            }
        );
    }
    match ledger {
        Err(NoLedger::Failed(error)) => Err(error.in_context("no archive was compared with the ledger")),
        Ok(_) | Err(NoLedger::NotNamed) => Ok(partial_if(bad > 0)),
    }
}

/// Why there is no ledger to compare with.
enum NoLedger {
    /// Nobody asked for it.
    NotNamed,
    /// It could not be read.
    Failed(CliError),
}

/// The ledger of the database that is named.
async fn ledger(args: &DatabaseArgs) -> Result<Vec<LedgerEntry>, NoLedger> {
    let database = from_args(args).map_err(NoLedger::Failed)?;
    if database.sqlite_path().is_some() {
        return Err(NoLedger::NotNamed);
    }
    let conn = maintenance_connection(args).await;
    let mut conn = conn.map_err(NoLedger::Failed)?;
    let entries = session::bounded(&mut conn, retention::ledger).await;
    entries.map_err(|error| NoLedger::Failed(error.into()))
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

/// The archives at a path that match their manifests, and how many do not or cannot be read. Each of those is reported.
fn check(path: &Path) -> Result<(Vec<VerifiedArchive>, usize), CliError> {
    let (mut archives, mut bad) = (Vec::new(), 0);
    for manifest in archive::manifests(path)? {
        let bar = output::spinner("checking");
        let checked = archive::check(&manifest);
        bar.finish_and_clear();
        match checked {
            Ok(archive) => archives.push(archive),
            Err(error) => {
                bad += 1;
                print_note!("{}: {}", manifest.display(), chain(&error));
            }
        }
    }
    Ok((archives, bad))
}
