//! `auditlog import`: another system's events, each with its own id and time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use db_services::audit::{self, AuditEntry};
use db_services::client::Connection;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::args::{Import, Source};
use crate::cloudtrail;
use crate::database::{connect, writable};
use crate::failure::{Done, Failure, IN_PART};
use crate::output;

/// Events of which the import is told so far.
#[derive(Default)]
struct Totals {
    events: u64,
    new: u64,
    bad: u64,
}

pub(crate) async fn run(url: Option<&str>, args: Import) -> Done {
    let Source::Cloudtrail { files } = args.source;
    let mut conn = connect(&writable(url).await?).await?;
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
        "read {} events from {} files: {} new, {} there already, {} bad",
        output::number(totals.events + totals.bad),
        output::number(files.len() as u64),
        output::number(totals.new),
        output::number(totals.events - totals.new),
        output::number(totals.bad)
    );
    Ok(if totals.bad > 0 {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}

async fn import_file(
    conn: &mut Connection,
    file: &Path,
    totals: &mut Totals,
    say: &dyn Fn(String),
) -> Result<(), Failure> {
    let records = match read(file) {
        Ok(records) => records,
        Err(reason) => {
            say(format!("{}: {reason}", file.display()));
            totals.bad += 1;
            return Ok(());
        }
    };
    let mut entries: Vec<AuditEntry> = Vec::with_capacity(records.len());
    for (at, record) in records.into_iter().enumerate() {
        match cloudtrail::entry(record) {
            Ok(entry) => entries.push(entry),
            Err(reason) => {
                say(format!("{}: record {}: {reason}", file.display(), at + 1));
                totals.bad += 1;
            }
        }
    }
    if let Err(error) = audit::ensure_partitions(conn, entries.iter().map(|entry| entry.created_at)).await {
        say(format!(
            "{}: its months were not made, the default partition takes them: {error}",
            file.display()
        ));
    }
    let new = audit::insert_many(conn, &entries)
        .await
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
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

fn read(file: &Path) -> Result<Vec<Value>, String> {
    let open = BufReader::new(File::open(file).map_err(|error| error.to_string())?);
    let input: Box<dyn Read> = if file.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(open)))
    } else {
        Box::new(open)
    };
    let parsed: Result<LogFile, _> = serde_json::from_reader(input);
    parsed
        .map(|log| log.records)
        .map_err(|error| format!("no CloudTrail log file: {error}"))
}
