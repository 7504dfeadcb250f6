//! `auditlog import`: imports the events of another system, each with its own id and time.

use std::path::{Path, PathBuf};

use crate::args::DatabaseArgs;
use crate::batch::BatchInserter;
use crate::cloudtrail;
use crate::database::{connect, open_or_create};
use crate::error::{CliError, CommandResult, partial_if};
use crate::feed::Feed;
use crate::gzip::{self, Content};
use crate::output::{self, print_line, print_note};
use crate::records::{Record, Records};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog import cloudtrail trail/*.json trail/*.json.gz

An import can be repeated: each event keeps its id and time, which identify it. A record whose pair is stored already \
counts as already stored, whatever else it holds. Of members with the same name the last one counts. A record that is \
no event, or is larger than 16 MiB, is reported and skipped. Files are decompressed by their content, whatever their \
names. Records of a pipe are stored a second after they were read at the latest.

Exit codes: 0 all events are stored, 1 some were rejected or a file could not be read to its end, 2 invalid \
arguments, 3 the database failed.")]
pub(crate) struct Args {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Source {
    /// AWS CloudTrail log files as AWS delivers them, .json or .json.gz
    #[command(after_help = "\
Exit codes: 0 all events are stored, 1 some were rejected or a file could not be read to its end, 2 invalid \
arguments, 3 the database failed.")]
    Cloudtrail {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let Source::Cloudtrail { files } = args.source;
    let database = open_or_create(database).await?;
    let conn = connect(&database).await?;
    let bar = output::progress(Some(files.len() as u64), "importing");
    let mut inserter = BatchInserter::new(database, conn, bar.clone());
    let mut unreadable = 0;
    let mut result = Ok(());
    for file in &files {
        match import_file(&mut inserter, file).await {
            Ok(()) => {}
            Err(Failure::Input(error)) => {
                unreadable += 1;
                inserter.note(&format!("{}: {error}", file.display()));
            }
            Err(Failure::Database(error)) => {
                result = Err(error);
                break;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let totals = &inserter.totals;
    let summary = format!(
        "imported {}, {} already stored, {} rejected, {} not read to the end",
        output::counted(totals.written, "event", "events"),
        output::number(totals.already_stored),
        output::number(totals.rejected),
        output::counted(unreadable, "file", "files")
    );
    if let Err(error) = result {
        print_note!("{summary}; the remaining events were not processed");
        return Err(error);
    }
    print_line!("{summary}");
    Ok(partial_if(totals.rejected + unreadable > 0))
}

/// Why a file was not imported to its end.
enum Failure {
    Input(std::io::Error),
    Database(CliError),
}

async fn import_file(inserter: &mut BatchInserter, path: &Path) -> Result<(), Failure> {
    let Content { reader, is_stream } = gzip::open(path).map_err(Failure::Input)?;
    let mut records = Records::new(reader, is_stream);
    let mut feed = Feed::start(move || records.read_chunk()).map_err(Failure::Input)?;
    let mut number: u64 = 0;
    let end = loop {
        let chunk = match feed.next_by(inserter.send_at()).await {
            Some(Ok(Some(chunk))) => chunk,
            Some(Ok(None)) => break Ok(()),
            Some(Err(error)) => break Err(Failure::Input(error)),
            None => {
                send(inserter).await?;
                continue;
            }
        };
        for record in chunk {
            number += 1;
            insert_record(inserter, format!("{}: record {number}", path.display()), record);
            if inserter.is_full() {
                send(inserter).await?;
            }
        }
    };
    send(inserter).await?;
    end
}

async fn send(inserter: &mut BatchInserter) -> Result<(), Failure> {
    inserter.ensure_partitions().await;
    inserter.send().await.map_err(Failure::Database)
}

fn insert_record(inserter: &mut BatchInserter, place: String, record: Record) {
    let json = match record {
        Record::Json(json) => json,
        Record::TooLarge => return inserter.reject(&place, "too large"),
    };
    match cloudtrail::entry(&json) {
        Ok(entry) => inserter.push(place, entry, json.len()),
        Err(reason) => inserter.reject(&place, &reason),
    }
}
