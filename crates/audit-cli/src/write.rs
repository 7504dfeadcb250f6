//! `auditlog write`: one event from options, or many from JSON lines.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, CompactString, Metadata, Outcome};
use indicatif::ProgressBar;
use uuid::Uuid;

use crate::args::DatabaseArgs;
use crate::batch::{BatchInserter, Totals};
use crate::database::{connect, open_or_create};
use crate::error::{CliError, CommandResult, Context, partial_if};
use crate::feed::Feed;
use crate::input::Input;
use crate::lines::{Line, Lines, MAX_LINE_BYTES};
use crate::output::{self, print_line, print_note};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog write --action auth.login --actor alice --ip 203.0.113.7
  auditlog write --action api_key.revoke --outcome denied --metadata '{\"key\":\"k1\"}'
  auditlog write events.ndjson
  journalctl -o cat -u shop-audit | auditlog write -

Each line of a file is a JSON object with the names of the columns: action (required), id, created_at, tenant_id, \
actor_id, actor_type, on_behalf_of, outcome, resource_type, resource_id, ip_address, user_agent, request_id, \
trace_id, operation_id, metadata. The id and the time identify an event: a line whose pair is stored already counts \
as already stored, whatever else it holds, and changes nothing. So lines with both can be written again. An ip_address \
that is no address is kept in the metadata, as _audit.ip_text. Numbers in metadata stay as they are written, as far as \
the database keeps them so (jsonb does not keep exponents); one with an exponent beyond 400 becomes text. Of members \
of the metadata with the same name only the last one is kept; a column that occurs twice is an error. A line that is \
not such an object, is longer than 16 MiB, or is rejected by the database, is reported with its number and skipped. \
Lines of a stream are written a second after they were read at the latest.

Exit codes: 0 done, 1 some lines were rejected, 2 invalid arguments, 3 the database or the file failed: the \
remaining lines were not processed.")]
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
        None => write_one(database, entry(args.event)?).await,
    }
}

async fn write_one(database: &DatabaseArgs, mut entry: AuditEntry) -> CommandResult {
    let id = *entry.id.get_or_insert_with(Uuid::now_v7);
    let database = open_or_create(database).await?;
    let conn = connect(&database).await?;
    let mut inserter = BatchInserter::new(database, conn, ProgressBar::hidden());
    inserter.push("the event".to_owned(), entry, 0);
    inserter.send().await?;
    match &inserter.totals {
        Totals { written: 1, .. } => print_line!("wrote {id}"),
        Totals { rejected: 0, .. } => print_line!("already stored: {id}"),
        _ => {}
    }
    Ok(partial_if(inserter.totals.rejected > 0))
}

fn entry(event: Event) -> Result<AuditEntry, CliError> {
    let mut entry =
        AuditEntry::new(event.action.unwrap_or_default()).outcome(event.outcome.unwrap_or_default());
    if let Some(metadata) = event.metadata {
        entry.metadata =
            object(&metadata).map_err(|reason| CliError::usage(format!("--metadata: {reason}")))?;
    }
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

/// Metadata of an object as JSON.
fn object(text: &str) -> Result<Metadata, String> {
    let metadata = Metadata::from_json(text).map_err(|error| error.to_string())?;
    match text.trim_start().starts_with('{') {
        true => Ok(metadata),
        false => Err("expected a JSON object, {…}".to_owned()),
    }
}

async fn write_lines(database: &DatabaseArgs, file: &Path) -> CommandResult {
    let input = Input::open(file)?;
    let database = open_or_create(database).await?;
    let conn = connect(&database).await?;
    let bar = output::progress(input.bytes, "writing");
    let mut inserter = BatchInserter::new(database, conn, bar.clone());
    let result = insert_lines(&mut inserter, input, &bar).await;
    bar.finish_and_clear();
    let Totals {
        written,
        already_stored,
        rejected,
    } = inserter.totals;
    let summary = format!(
        "wrote {}, {} already stored, {} rejected",
        output::entries(written),
        output::number(already_stored),
        output::counted(rejected, "line", "lines")
    );
    if let Err(error) = result {
        print_note!("{summary}; the remaining lines were not processed");
        return Err(error);
    }
    print_line!("{summary}");
    Ok(partial_if(rejected > 0))
}

async fn insert_lines(inserter: &mut BatchInserter, input: Input, bar: &ProgressBar) -> Result<(), CliError> {
    let Input { reader, name, .. } = input;
    let mut lines = Lines::new(reader);
    let mut feed = Feed::start(move || lines.read_chunk())?;
    let mut number: u64 = 0;
    loop {
        let Some(chunk) = feed.next_by(inserter.send_at()).await else {
            inserter.send().await?;
            continue;
        };
        let chunk = match chunk.context(|| name.clone()) {
            Ok(Some(chunk)) => chunk,
            end => {
                inserter.send().await?;
                return end.map(drop);
            }
        };
        for line in chunk {
            number += 1;
            insert_line(inserter, &format!("{name}:{number}"), line, bar);
            if inserter.is_full() {
                inserter.send().await?;
            }
        }
    }
}

fn insert_line(inserter: &mut BatchInserter, place: &str, line: Line, bar: &ProgressBar) {
    let bytes = match line {
        Line::Text(bytes) => bytes,
        Line::TooLong => {
            return inserter.reject(place, &format!("longer than {} MiB", MAX_LINE_BYTES >> 20));
        }
    };
    bar.inc(bytes.len() as u64);
    if bytes.trim_ascii().is_empty() {
        return;
    }
    match AuditEntry::from_json(&bytes) {
        Ok(entry) if entry.action.trim().is_empty() => inserter.reject(place, "the action is empty"),
        Ok(entry) => inserter.push(place.to_owned(), entry, bytes.len()),
        Err(error) => {
            // Each line is a document of its own, so only the column is of use.
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text);
            match error.column() {
                0 => inserter.reject(place, reason),
                column => inserter.reject(place, &format!("{reason} (column {column})")),
            }
        }
    }
}
