//! `auditlog write`: one event from options, or many from JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use db_services::audit::{self, AuditEntry, CompactString, Outcome};
use db_services::client::Connection;
use diesel_async::AsyncConnection;
use indicatif::ProgressBar;
use serde_json::Value;
use uuid::Uuid;

use crate::args::DatabaseArgs;
use crate::database::{connect, open_or_create};
use crate::error::{CliError, CommandResult, Context, PARTIAL, chain};
use crate::output;

/// The longest line in bytes: far longer than any entry, and far smaller than the memory.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Lines are sent in batches of this many, or fewer once they have this many bytes.
const MAX_BATCH_LINES: usize = 1_000;
const MAX_BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog write --action auth.login --actor alice --ip 203.0.113.7
  auditlog write --action api_key.revoke --outcome denied --metadata '{\"key\":\"k1\"}'
  auditlog write events.ndjson
  journalctl -o cat -u shop-audit | auditlog write -

Each line of a file is a JSON object with the names of the columns: action (required), id, created_at,
tenant_id, actor_id, actor_type, on_behalf_of, outcome, resource_type, resource_id, ip_address, user_agent,
request_id, trace_id, operation_id, metadata. Lines with both id and created_at can be written again: they
are stored once. A line that is not such an object, or is longer than 16 MiB, is reported with its number and
skipped; the exit code is then 1. If metadata has a key twice, the last value is used.")]
#[command(override_usage = "auditlog write --action <ACTION> [OPTIONS]\n       auditlog write <FILE>")]
pub(crate) struct Args {
    /// A file of JSON lines, one event per line; - for standard input
    #[arg(conflicts_with = "event", required_unless_present = "action")]
    file: Option<PathBuf>,
    #[command(flatten)]
    event: Event,
}

#[derive(Debug, clap::Args)]
#[group(id = "event", multiple = true)]
struct Event {
    /// The action, as noun.verb
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    action: Option<String>,
    /// The actor who did it
    #[arg(long, value_name = "ID")]
    actor: Option<CompactString>,
    /// The kind of actor: user, service, api_key, system, anonymous
    #[arg(long, value_name = "KIND")]
    actor_type: Option<CompactString>,
    /// The user that the actor acted for
    #[arg(long, value_name = "ID")]
    on_behalf_of: Option<CompactString>,
    /// The customer or account it belongs to
    #[arg(long, value_name = "ID")]
    tenant: Option<CompactString>,
    /// The outcome: success, failure, denied, unknown
    #[arg(long)]
    outcome: Option<Outcome>,
    /// The kind of resource that it was done to
    #[arg(long, value_name = "KIND")]
    resource_type: Option<CompactString>,
    /// The resource that it was done to
    #[arg(long, value_name = "ID")]
    resource_id: Option<CompactString>,
    /// The network address it came from
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// The client software
    #[arg(long, value_name = "NAME")]
    user_agent: Option<CompactString>,
    /// The request it was part of
    #[arg(long, value_name = "ID")]
    request_id: Option<CompactString>,
    /// The distributed trace it was part of
    #[arg(long, value_name = "ID")]
    trace_id: Option<CompactString>,
    /// The operation that joins several events
    #[arg(long, value_name = "UUID")]
    operation_id: Option<Uuid>,
    /// Further details, a JSON object
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// When it happened, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    created_at: Option<DateTime<Utc>>,
    /// The event's id [default: a new UUID version 7]
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    match args.file {
        Some(file) => write_lines(database, &file).await,
        None => {
            let mut entry = entry(args.event)?;
            let id = *entry.id.get_or_insert_with(Uuid::now_v7);
            let mut conn = connect(&open_or_create(database).await?).await?;
            let inserted = audit::insert_many(&mut conn, &[entry]).await?;
            println!("{} {id}", if inserted == 1 { "wrote" } else { "already stored:" });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn entry(event: Event) -> Result<AuditEntry, CliError> {
    let metadata = match event.metadata.as_deref().map(serde_json::from_str) {
        None => Value::Null,
        Some(Ok(object @ Value::Object(_))) => object,
        Some(Ok(_)) => return Err(CliError::usage("--metadata: expected a JSON object, {…}")),
        Some(Err(error)) => return Err(CliError::usage(format!("--metadata: {error}"))),
    };
    let mut entry = AuditEntry::new(event.action.unwrap_or_default())
        .outcome(event.outcome.unwrap_or_default())
        .metadata(metadata);
    entry.id = event.id;
    entry.created_at = event.created_at.unwrap_or(entry.created_at);
    entry.actor_id = event.actor;
    entry.actor_type = event.actor_type;
    entry.on_behalf_of = event.on_behalf_of;
    entry.tenant_id = event.tenant;
    entry.resource_type = event.resource_type;
    entry.resource_id = event.resource_id;
    entry.ip_address = event.ip;
    entry.user_agent = event.user_agent;
    entry.request_id = event.request_id;
    entry.trace_id = event.trace_id;
    entry.operation_id = event.operation_id;
    Ok(entry)
}

async fn write_lines(database: &DatabaseArgs, file: &Path) -> CommandResult {
    let (input, length): (Box<dyn Read>, _) = if file == Path::new("-") {
        (Box::new(std::io::stdin()), None)
    } else {
        let open = File::open(file).context(|| file.display().to_string())?;
        let length = open
            .metadata()
            .ok()
            .filter(|data| data.is_file())
            .map(|data| data.len());
        (Box::new(open), length)
    };
    let conn = connect(&open_or_create(database).await?).await?;
    let mut writer = LineWriter {
        conn,
        name: if length.is_some() {
            file.display().to_string()
        } else {
            "line".to_owned()
        },
        bar: output::progress(length, "writing"),
        batch: Vec::with_capacity(MAX_BATCH_LINES),
        batch_bytes: 0,
        written: 0,
        already_stored: 0,
        rejected: 0,
    };
    let result = writer.write_all(BufReader::new(input)).await;
    writer.bar.finish_and_clear();
    let summary = format!(
        "wrote {} entries, {} were already stored, {} lines were rejected",
        output::number(writer.written),
        output::number(writer.already_stored),
        output::number(writer.rejected)
    );
    match result {
        Ok(()) => println!("{summary}"),
        Err(_) => eprintln!("{summary}, the remaining lines were not processed"),
    }
    result?;
    Ok(if writer.rejected > 0 {
        ExitCode::from(PARTIAL)
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes the lines of a file to the database, in batches.
struct LineWriter {
    conn: Connection,
    /// The name of the input in messages, before a line's number.
    name: String,
    bar: ProgressBar,
    /// Entries that were not sent yet, with their line numbers.
    batch: Vec<(u64, AuditEntry)>,
    /// The size of their lines.
    batch_bytes: usize,
    written: u64,
    already_stored: u64,
    rejected: u64,
}

impl LineWriter {
    async fn write_all(&mut self, mut input: impl BufRead) -> Result<(), CliError> {
        for number in 1.. {
            match next_line(&mut input)? {
                Line::End => break,
                Line::TooLong => self.reject(number, &format!("longer than {} MiB", MAX_LINE_BYTES >> 20)),
                Line::Text(bytes) => {
                    self.bar.inc(bytes.len() as u64);
                    self.parse(number, &bytes);
                }
            }
            if self.batch.len() == MAX_BATCH_LINES || self.batch_bytes >= MAX_BATCH_BYTES {
                self.send().await?;
            }
        }
        self.send().await
    }

    fn parse(&mut self, number: u64, bytes: &[u8]) {
        // A file may begin with a byte order mark.
        let bytes = if number == 1 {
            bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
        } else {
            bytes
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match serde_json::from_slice::<AuditEntry>(bytes) {
            Ok(mut entry) => {
                // An entry may be sent twice: in its batch, and then alone.
                entry.id.get_or_insert_with(Uuid::now_v7);
                self.batch.push((number, entry));
                self.batch_bytes += bytes.len();
            }
            Err(error) => {
                // Each line is a document of its own, so only the column is of use.
                let text = error.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text);
                self.reject(number, &format!("{reason} (column {})", error.column()));
            }
        }
    }

    /// Sends the batch. If the database rejects it, sends each entry alone, so that only the rejected entries
    /// are skipped.
    async fn send(&mut self) -> Result<(), CliError> {
        let (numbers, entries): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        self.batch_bytes = 0;
        if let Ok(inserted) = insert_all(&mut self.conn, &entries).await {
            self.count(inserted, entries.len());
            return Ok(());
        }
        for (number, entry) in numbers.into_iter().zip(entries) {
            match audit::insert_many(&mut self.conn, std::slice::from_ref(&entry)).await {
                Ok(inserted) => self.count(inserted, 1),
                Err(error) => {
                    // If the database no longer answers, the line is not the cause.
                    audit::latest(&mut self.conn, 1).await?;
                    self.reject(number, &chain(&error));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, inserted: usize, sent: usize) {
        self.written += inserted as u64;
        self.already_stored += (sent - inserted) as u64;
    }

    fn reject(&mut self, number: u64, reason: &str) {
        self.rejected += 1;
        self.bar.suspend(|| eprintln!("{}:{number}: {reason}", self.name));
    }
}

/// Inserts all entries of a batch or, on an error, none, so that they are counted correctly when they are sent
/// again one by one.
async fn insert_all(conn: &mut Connection, entries: &[AuditEntry]) -> Result<usize, CliError> {
    Ok(match conn {
        Connection::Postgres(conn) => {
            AsyncConnection::transaction(conn, async |conn| audit::insert_many(conn, entries).await).await?
        }
        // A batch is one transaction there.
        Connection::Sqlite(conn) => audit::insert_many(conn, entries).await?,
    })
}

enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

/// Reads a line with its newline. Reads over a line that exceeds the limit.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let limit = MAX_LINE_BYTES as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(Line::End);
    }
    if line.len() <= MAX_LINE_BYTES || line.ends_with(b"\n") {
        return Ok(Line::Text(line));
    }
    while !line.ends_with(b"\n") {
        line.clear();
        if input.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
            break;
        }
    }
    Ok(Line::TooLong)
}
