//! `auditlog import`: imports the events of another system, each with its own id and time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use db_services::audit::{self, AuditEntry};
use db_services::client::Connection;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::args::DatabaseArgs;
use crate::cloudtrail;
use crate::database::{connect, open_or_create};
use crate::error::{CliError, CommandResult, Context, PARTIAL, chain};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog import cloudtrail trail/*.json trail/*.json.gz

An import can be repeated: each event keeps its id and time, and is stored once.")]
pub(crate) struct Args {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Source {
    /// AWS CloudTrail log files as AWS delivers them, .json or .json.gz
    Cloudtrail {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// How many events were imported so far.
#[derive(Default)]
struct Totals {
    events: u64,
    new: u64,
    rejected: u64,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let Source::Cloudtrail { files } = args.source;
    let mut conn = connect(&open_or_create(database).await?).await?;
    let bar = output::progress(Some(files.len() as u64), "importing");
    let mut totals = Totals::default();
    for file in &files {
        import_file(&mut conn, file, &mut totals, &|line| {
            bar.suspend(|| eprintln!("{line}"))
        })
        .await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!(
        "read {} events from {} files: {} new, {} already stored, {} rejected",
        output::number(totals.events + totals.rejected),
        output::number(files.len() as u64),
        output::number(totals.new),
        output::number(totals.events - totals.new),
        output::number(totals.rejected)
    );
    Ok(if totals.rejected > 0 {
        ExitCode::from(PARTIAL)
    } else {
        ExitCode::SUCCESS
    })
}

async fn import_file(
    conn: &mut Connection,
    file: &Path,
    totals: &mut Totals,
    report: &dyn Fn(String),
) -> Result<(), CliError> {
    let records = match read(file) {
        Ok(records) => records,
        Err(error) => {
            report(format!("{}: {error}", file.display()));
            totals.rejected += 1;
            return Ok(());
        }
    };
    let mut entries: Vec<AuditEntry> = Vec::with_capacity(records.len());
    for (at, record) in records.into_iter().enumerate() {
        match cloudtrail::entry(record) {
            Ok(entry) => entries.push(entry),
            Err(reason) => {
                report(format!("{}: record {}: {reason}", file.display(), at + 1));
                totals.rejected += 1;
            }
        }
    }
    if let Err(error) = audit::ensure_partitions(conn, entries.iter().map(|entry| entry.created_at)).await {
        report(format!(
            "{}: partitions for its months could not be created, so its events go to the default partition: {}",
            file.display(),
            chain(&error)
        ));
    }
    let new = audit::insert_many(conn, &entries)
        .await
        .context(|| file.display().to_string())?;
    totals.events += entries.len() as u64;
    totals.new += new as u64;
    Ok(())
}

/// A log file as AWS delivers it.
#[derive(Deserialize)]
struct LogFile {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

fn read(file: &Path) -> Result<Vec<Value>, CliError> {
    let open = BufReader::new(File::open(file)?);
    let input: Box<dyn Read> = if file.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(open)))
    } else {
        Box::new(open)
    };
    let log: LogFile = serde_json::from_reader(input).context(|| "not a CloudTrail log file".to_owned())?;
    Ok(log.records)
}
