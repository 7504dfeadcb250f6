//! Which commands are there, with which options?

mod upkeep;

use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::builder::styling::{AnsiColor, Styles};
use db_services::audit::{CompactString, Outcome};
use uuid::Uuid;

pub(crate) use upkeep::{Apply, Covers, Hold, Keep, Partitions, Restore, Retention};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Operate the audit trail: create its table, write to it, import into it, look at it.
#[derive(Debug, clap::Parser)]
#[command(
    name = "auditlog",
    version,
    styles = STYLES,
    after_help = "\
Examples:
  auditlog write --action auth.login --actor alice     a first entry, into ./audit.db
  auditlog list                                        look at it
  auditlog --database-url postgres://app@localhost/shop migrate
  auditlog import cloudtrail 2023-07-10/*.json.gz
  auditlog verify writers                              is anything missing?
  auditlog retention plan --keep 13months              what is past its time?
  auditlog doctor                                      is it as safe as it is meant to be?

Exit codes: 0 done, 1 done but some input was bad, entries are missing or something stays undone, 2 wrong arguments, 3 the database or a file failed."
)]
pub(crate) struct Args {
    /// The database: postgres://user:password@host/name or sqlite://path. Without it
    /// AUDIT_DATABASE_URL, then DATABASE_URL, then sqlite://audit.db
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Bring the database's tables up to this version
    Migrate(Migrate),
    /// Write one event from options, or many from a file of JSON lines
    Write(Box<Write>),
    /// Import the audit events of another system
    Import(Import),
    /// Show the newest entries
    List(List),
    /// Look at what waits on this machine's disk, and write it
    Spool(Spool),
    /// Check the trail
    #[command(subcommand)]
    Verify(Verify),
    /// Make months ahead, and put rows of no month into one
    #[command(subcommand)]
    Partitions(Partitions),
    /// Drop months that are past their time, on record
    #[command(subcommand)]
    Retention(Retention),
    /// Keep rows that a court or an audit asks for, whatever their age
    #[command(subcommand)]
    Hold(Hold),
    /// Put archived months back
    Restore(Restore),
    /// Examine whether the trail is as safe as it is meant to be, and try to break it
    Doctor(Doctor),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog migrate              run what is missing
  auditlog migrate --status     show which migrations the database has
  auditlog migrate --revert     undo the newest one")]
pub(crate) struct Migrate {
    /// Undo the newest migration instead
    #[arg(long, conflicts_with = "status")]
    pub(crate) revert: bool,
    /// With --revert: even if the table holds entries, which may be lost with it
    #[arg(long, requires = "revert")]
    pub(crate) force: bool,
    /// Show which migrations the database has, change nothing
    #[arg(long)]
    pub(crate) status: bool,
}

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
left out; the exit code is then 1. Of a metadata key that is there twice, the last counts.")]
#[command(override_usage = "auditlog write --action <ACTION> [OPTIONS]\n       auditlog write <FILE>")]
pub(crate) struct Write {
    /// A file of JSON lines, an event each; - for standard input
    #[arg(conflicts_with = "event", required_unless_present = "action")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) event: Event,
}

#[derive(Debug, clap::Args)]
#[group(id = "event", multiple = true)]
pub(crate) struct Event {
    /// What was done, as noun.verb
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) action: Option<String>,
    /// Who did it
    #[arg(long, value_name = "ID")]
    pub(crate) actor: Option<CompactString>,
    /// What kind of actor: user, service, api_key, system, anonymous
    #[arg(long, value_name = "KIND")]
    pub(crate) actor_type: Option<CompactString>,
    /// Whom the actor acted for
    #[arg(long, value_name = "ID")]
    pub(crate) on_behalf_of: Option<CompactString>,
    /// The customer or account it belongs to
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<CompactString>,
    /// How it ended: success, failure, denied, unknown
    #[arg(long)]
    pub(crate) outcome: Option<Outcome>,
    /// What kind of thing it was done to
    #[arg(long, value_name = "KIND")]
    pub(crate) resource_type: Option<CompactString>,
    /// Which thing it was done to
    #[arg(long, value_name = "ID")]
    pub(crate) resource_id: Option<CompactString>,
    /// The network address it came from
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<IpAddr>,
    /// The client software
    #[arg(long, value_name = "NAME")]
    pub(crate) user_agent: Option<CompactString>,
    /// The request it was part of
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<CompactString>,
    /// The distributed trace it was part of
    #[arg(long, value_name = "ID")]
    pub(crate) trace_id: Option<CompactString>,
    /// The operation that joins several events
    #[arg(long, value_name = "UUID")]
    pub(crate) operation_id: Option<Uuid>,
    /// Anything else, a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,
    /// When it happened, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) created_at: Option<DateTime<Utc>>,
    /// The event's own id [default: a new UUID version 7]
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<Uuid>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog import cloudtrail trail/*.json trail/*.json.gz

An import can be repeated: each event keeps its id and time, and is stored once.")]
pub(crate) struct Import {
    #[command(subcommand)]
    pub(crate) source: Source,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Source {
    /// AWS CloudTrail log files as AWS delivers them, .json or .json.gz
    Cloudtrail {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog list --limit 100
  auditlog list --json | jq 'select(.outcome == \"denied\")'

On a terminal a table; otherwise a line each, with tabs between the columns; --json gives JSON lines with
all columns, metadata as the database holds it.")]
pub(crate) struct List {
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// JSON lines with all columns
    #[arg(long)]
    pub(crate) json: bool,
    /// Show what the writers put on record about themselves as well (actions that begin with audit.)
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog spool --dir /var/spool/shop status
  auditlog spool --dir /var/spool/shop replay
  auditlog spool --dir /var/spool/shop replay --damaged
  auditlog spool --dir /var/spool/shop quarantine --json
  auditlog spool --dir /var/spool/shop quarantine --retry

A service replays its spool by itself; `replay` is for one that is gone for good. Files that a running service
uses are left alone. Entries are written to the database that they were meant for alone, unless --any-target
says that they belong to this one.")]
pub(crate) struct Spool {
    /// The spool directory
    #[arg(long, env = "AUDIT_SPOOL_DIR")]
    pub(crate) dir: PathBuf,
    #[command(subcommand)]
    pub(crate) action: SpoolAction,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SpoolAction {
    /// Show the files, and what waits in them
    Status {
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Write the entries of files that no process uses to the database, and remove them
    Replay {
        /// Also those that were meant for another database, or do not say for which
        #[arg(long)]
        any_target: bool,
        /// Also those that were renamed to .damaged: what can be read of them is written again, and what is
        /// stored already is left as it is
        #[arg(long)]
        damaged: bool,
    },
    /// Show the entries that the database refused
    #[command(after_help = "\
Exit codes of --retry: 0 nothing stays in the quarantine, 1 something stays, 3 the database or a file failed.")]
    Quarantine {
        /// JSON lines, each with the entry as it was kept
        #[arg(long)]
        json: bool,
        /// Try to write them again, once the database was fixed
        #[arg(long, conflicts_with = "json")]
        retry: bool,
        /// With --retry: also those that were meant for another database, or that an older version kept, which
        /// did not note for which
        #[arg(long, requires = "retry")]
        any_target: bool,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verify {
    /// Account for the entries that each writer numbered
    #[command(after_help = "\
Examples:
  auditlog verify writers
  auditlog verify writers --json | jq 'select(.verdict == \"missing\")'

Verdicts:
  complete   it ended cleanly, and every entry is stored, or was dropped by the retention, on record
  declared   the same, except that some entries were declared lost or rejected (`quarantined`)
  open       it still runs, or it ended uncleanly: `unknown` is how many accepted entries that cost at most
  missing    entries are neither stored nor declared, or several rows have one number (exit code 1)

`repeated` entries were submitted twice and are stored once, under another number.
`unknown` leaves out entries that a full queue refused and that the writer could not declare before it was
killed: it declares them within about a second, and in an outage once the database accepts rows again. No
figure bounds them. It also leaves out entries that a spool holds: see `auditlog spool`.")]
    Writers {
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  DATABASE_URL=$AUDIT_DATABASE_URL auditlog doctor     with the application's own rights
  auditlog doctor --json | jq 'select(.severity == \"critical\")'
  auditlog doctor --markdown report.md                 for an assessor's file
  auditlog doctor --invasive                           all of it, in a quiet hour

It reads the catalog, and then tries to change, delete, forge and read what this user should not, against
rows that it inserts for it, in a transaction that is rolled back. No statement waits for a lock for longer
than 200 ms. The server's log shows what was refused. docs/doctor.md explains each code.

Exit codes: 0 fine, 1 critical (rows can be changed, forged or lost, or a tenant's seen by another),
2 warnings only, 3 wrong arguments, or it could not be run.")]
pub(crate) struct Doctor {
    /// Also try TRUNCATE, ALTER, DETACH and DROP, for which writers wait for a moment; undone as well
    #[arg(long)]
    pub(crate) invasive: bool,
    /// A tenant that has rows, for a user who may read but not write
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// JSON lines, one for each check and finding
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report in Markdown to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}
