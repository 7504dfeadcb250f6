//! `auditlog export`: writes the entries that a query asks for to a file or to standard output, in the order of the feed.

mod complete;
mod copy;
mod file;
mod format;
mod interrupt;
mod manifest;
mod stream;

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::pin::pin;

use audit_ops::unfinished::{Existing, Unfinished};
use audit_ops::{OpsError, session};
use chrono::{DateTime, Utc};
use db_services::audit::Reading;
use db_services::audit::feed::{self, Position};
use db_services::audit::query::AuditFilter;
use db_services::client::{Connection, Database};
use indicatif::ProgressBar;

use crate::args::DatabaseArgs;
use crate::database::{connect, open_existing};
use crate::error::{CliError, CommandResult, Context, partial_if};
use crate::output::{self, print_note};
use crate::query_args::{LANGUAGE, QueryArgs};
use crate::reading::{RecordArgs, as_tenant, of_feed};
use complete::complete;
use copy::{End, copy};
use format::Format;
use interrupt::interrupted;
use manifest::Manifest;
use stream::{Compression, Ended, Stream, Target};

#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  auditlog export --out trail.ndjson.zst --zstd
  auditlog export --format csv actor:alice since:7d > alice.csv
  auditlog export --position siem --out siem-$(date +%s).ndjson     what is new since the last one
  auditlog export --after may.ndjson.manifest.json --out june.ndjson
  while auditlog export --position siem --limit 1000000 --out part-$(date +%s).ndjson.gz --gzip; [ $? = 1 ]; do :; done

{LANGUAGE}

Entries come in the order in which their transactions were committed, each once. Those of transactions that are open come \
with the next export from --position or --after. JSON lines are those of `auditlog list --json`. CSV has the same columns, \
and empty cells for what is null. Before a cell that begins with = + - @ (also in their \
wide forms), a tab, a line break or an apostrophe there is an apostrophe, so that no spreadsheet that separates at commas computes it.

FILE appears when it is complete and on the disk, for its owner alone (mode 0600). FILE.manifest.json, which appears before \
it, has the number of rows, the SHA-256 of the file and of its uncompressed lines, the query, and the positions. The \
position is saved last: if the command is killed in between, the next export has the same entries again, unless \
`--position NAME --after FILE.manifest.json` goes on behind the file, which must lie beside its manifest. Ctrl-C, SIGTERM and \
SIGHUP leave no file and end the command with 130, 143 and 129; what a killed one leaves (FILE.*.partial) is removed by the next \
export to FILE. One export at a time writes a FILE.

The export is recorded in the trail before anything is read (action audit.exported): the query without secrets, the login, \
and the user of this machine (USER). --no-record exports without a record.

Exit codes: 0 done, 1 there are more entries than --limit, 2 invalid arguments, 3 the database or a file failed."))]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// The format of the lines
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Write to this file, with a manifest beside it, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    force: bool,
    /// Compress with gzip
    #[arg(long, conflicts_with = "zstd")]
    gzip: bool,
    /// Compress with Zstandard
    #[arg(long)]
    zstd: bool,
    /// Go on where the last export under this name ended, and save under it in the database where this one ends
    #[arg(long, value_name = "NAME", requires = "out")]
    position: Option<String>,
    /// Go on where the export of this manifest ended
    #[arg(long, value_name = "MANIFEST")]
    after: Option<PathBuf>,
    /// At most this many entries
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    record: RecordArgs,
}

impl Args {
    fn compression(&self) -> Compression {
        match (self.gzip, self.zstd) {
            (true, _) => Compression::Gzip,
            (_, true) => Compression::Zstd,
            _ => Compression::None,
        }
    }

    fn existing(&self) -> Existing {
        match self.force {
            true => Existing::Replaced,
            false => Existing::Kept,
        }
    }
}

/// An export that is ready to be read.
struct Export {
    conn: Connection,
    filter: AuditFilter,
    /// What is saved under the name.
    saved: Option<Position>,
    first: Position,
    began: DateTime<Utc>,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let database = match &args.position {
        // Without a record it writes to the database as well.
        Some(_) => open_existing(database)?,
        None => args.record.open(database)?,
    };
    let Some(path) = &args.out else {
        if args.compression() != Compression::None && std::io::stdout().is_terminal() {
            return Err(CliError::usage(
                "a terminal shows no compressed data: add --out FILE",
            ));
        }
        return to_stdout(&database, &args).await;
    };
    file::ensure_free(path, args.existing())?;
    Manifest::ensure_free(&Manifest::path(path), args.existing())?;
    let bar = output::spinner("exporting");
    let stop = Cell::new(false);
    let written = {
        let mut writing = pin!(to_file(&database, &args, path, &bar, &stop));
        tokio::select! {
            biased;
            code = interrupted() => {
                stop.set(true);
                // A statement of SQLite cannot be left; it takes seconds at most.
                if database.sqlite_path().is_some() {
                    let _ = writing.await;
                }
                Err(code)
            }
            written = &mut writing => Ok(written),
        }
    };
    bar.finish_and_clear();
    match written {
        Ok(written) => complete(&database, &args, path, written?).await,
        Err(code) => {
            print_note!("auditlog: interrupted, {} was not written", path.display());
            Ok(code)
        }
    }
}

/// A signal ends this as it ends other commands: there is no file to remove, and writing to a pipe that nobody reads would keep
/// a handler from running.
async fn to_stdout(database: &Database, args: &Args) -> CommandResult {
    let mut export = prepare(database, args).await?;
    let mut stream = Stream::new(Target::Stdout, args.compression())?;
    let bar = ProgressBar::hidden();
    let end = copy(&mut export, args, &mut stream, &bar, &Cell::new(false)).await?;
    stream.finish()?;
    Ok(partial_if(end.has_more))
}

/// A file that is on the disk and has no name yet.
struct Written {
    export: Export,
    end: End,
    unfinished: Unfinished,
    ended: Ended,
    /// Empty until the file is complete.
    manifest: (Unfinished, File),
}

async fn to_file(
    database: &Database,
    args: &Args,
    path: &Path,
    bar: &ProgressBar,
    stop: &Cell<bool>,
) -> Result<Written, CliError> {
    let mut export = prepare(database, args).await?;
    let (unfinished, file) = file::create(path)?;
    // A name that is too long shows now, and not at the end.
    let manifest = file::create(&Manifest::path(path))?;
    let at = || path.display().to_string();
    let mut stream = Stream::new(Target::File(BufWriter::new(file)), args.compression()).context(at)?;
    let end = copy(&mut export, args, &mut stream, bar, stop).await?;
    let ended = stream.finish().context(at)?;
    Ok(Written {
        export,
        end,
        unfinished,
        ended,
        manifest,
    })
}

/// Connects, finds where to begin, and records the export.
async fn prepare(database: &Database, args: &Args) -> Result<Export, CliError> {
    let filter = args.query.filter()?;
    let after = args.after.as_deref().map(Manifest::last_position).transpose()?;
    let mut conn = match &args.position {
        Some(_) => connect(database).await?,
        None => args.record.connect_to(database).await?,
    };
    let saved = session::bounded(&mut conn, async |conn| {
        let saved = match &args.position {
            Some(name) => of_feed(feed::load(conn, name).await)?,
            None => Ok(None),
        };
        as_tenant(conn, args.query.tenant.as_deref()).await?;
        args.record.record(conn, Reading::of(&filter).exported()).await?;
        Ok::<_, OpsError>(saved)
    })
    .await
    .map_err(with_remedy)??;
    Ok(Export {
        conn,
        filter,
        first: after
            .or_else(|| saved.clone())
            .unwrap_or_else(Position::beginning),
        saved,
        began: Utc::now(),
    })
}

/// The error, with the right that a login needs to use positions.
fn with_remedy(error: OpsError) -> CliError {
    let is_refused = ["permission denied", "audit_feed_"]
        .iter()
        .all(|text| error.to_string().contains(text));
    match is_refused {
        true => CliError::from(error).in_context(
            "--position needs the rights of the auditor (GRANT audit_auditor TO the login); without them, go on with --after",
        ),
        false => error.into(),
    }
}
