//! `auditlog restore`: checks archives, and restores their rows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::OpsError;
use audit_ops::archive::{self, VerifiedArchive};

use crate::args::DatabaseArgs;
use crate::database::maintenance_connection;
use crate::error::{CliError, CommandResult, Context, chain, partial_if};
use crate::output::{self, print_line, print_note};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog restore --check /var/backups/audit                     do the archives match their manifests?
  auditlog restore /var/backups/audit/audit_logs_2024-01.4f1d22a9c0de0817.ndjson.gz
  auditlog --database-url postgres://me@localhost/case_4711 restore /var/backups/audit

Every row is restored with every column as it was; rows that are stored already stay unchanged. Requires the \
table's owner. A restored month is still due to be dropped: create a hold for it first, or restore into \
another database, which must be migrated. PostgreSQL only.

Exit codes: 0 done, 1 an archive does not match its manifest or lacks one of its two files (--check), 2 invalid \
arguments, 3 the database or a file failed.")]
pub(crate) struct Args {
    /// A directory of archives, or one of an archive's two files
    path: PathBuf,
    /// Compare the archives with their manifests, without a database
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    // Check all archives before restoring any row.
    let (archives, bad) = check(&args.path)?;
    if args.check {
        for archive in &archives {
            let manifest = &archive.manifest;
            print_line!(
                "{}: {}, digest {}",
                manifest.month,
                output::counted(manifest.rows, "row", "rows"),
                manifest.digest
            );
        }
        return Ok(partial_if(bad > 0));
    }
    if bad > 0 {
        return Err(CliError::new("nothing was restored"));
    }
    let mut conn = maintenance_connection(database).await?;
    for archive in &archives {
        let month = &archive.manifest.month;
        let bar = output::progress(Some(archive.manifest.rows), "restoring");
        let report = archive::restore(&mut conn, archive, &mut |rows| bar.set_position(rows)).await;
        bar.finish_and_clear();
        let report = report.context(|| format!("{month} was not restored"))?;
        print_line!(
            "restored {month}: {}, {} already stored",
            output::counted(report.inserted, "row", "rows"),
            output::number(report.already_stored)
        );
    }
    Ok(ExitCode::SUCCESS)
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
