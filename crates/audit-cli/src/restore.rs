//! `auditlog restore`: checks archives, and restores their rows.

use std::path::PathBuf;
use std::process::ExitCode;

use audit_ops::archive;

use crate::args::DatabaseArgs;
use crate::database::maintenance_connection;
use crate::error::{CommandResult, Context};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog restore --check /var/backups/audit                     do the archives match their manifests?
  auditlog restore /var/backups/audit/audit_logs_2024-01.4f1d22a9c0de0817.ndjson.gz
  auditlog --database-url postgres://me@localhost/case_4711 restore /var/backups/audit

Every row is restored with every column as it was; rows that are stored already stay unchanged. Requires the
table's owner. A restored month is still due to be dropped: create a hold for it first, or restore into
another database, which must be migrated. PostgreSQL only.")]
pub(crate) struct Args {
    /// A directory of archives, or one of an archive's two files
    path: PathBuf,
    /// Compare the archives with their manifests, without a database
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    // Check all archives before restoring any row.
    let mut archives = Vec::new();
    for manifest in archive::manifests(&args.path)? {
        let bar = output::spinner("checking");
        let checked = archive::check(&manifest);
        bar.finish_and_clear();
        archives.push(checked?);
    }
    if args.check {
        for archive in &archives {
            let manifest = &archive.manifest;
            println!(
                "{}: {} rows, digest {}",
                manifest.month,
                output::number(manifest.rows),
                manifest.digest
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = maintenance_connection(database).await?;
    for archive in &archives {
        let month = &archive.manifest.month;
        let bar = output::progress(Some(archive.manifest.rows), "restoring");
        let report = archive::restore(&mut conn, archive, &mut |rows| bar.set_position(rows)).await;
        bar.finish_and_clear();
        let report = report.context(|| format!("{month} was not restored"))?;
        println!(
            "restored {month}: {} rows, {} were already stored",
            output::number(report.inserted),
            output::number(report.already_stored)
        );
    }
    Ok(ExitCode::SUCCESS)
}
