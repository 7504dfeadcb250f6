//! `auditlog hold`: creates, lists and releases legal holds.

use std::process::ExitCode;

use audit_ops::holds::{self, Coverage, Hold, HoldScope};
use audit_ops::session;
use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;

use crate::args::{DatabaseArgs, date};
use crate::database::maintenance_connection;
use crate::error::{CliError, CommandResult, EXIT_CODES};
use crate::output::{self, Cell, print_line, print_note};

const HEADER: [&str; 8] = [
    "hold",
    "tenant",
    "from (UTC)",
    "to (UTC)",
    "reason",
    "by",
    "at (UTC)",
    "released",
];

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog hold add --tenant acme --reason 'case 4711'
  auditlog hold add --from 2024-01-01 --to 2024-07-01 --reason 'audit of the first half-year'
  auditlog hold list
  auditlog hold release 1 --reason 'case 4711 was closed'

A month is not dropped while a hold covers a row of it. `add` says how many rows that are now, and warns if there is \
none. Holds and releases are never removed from the \
record. Requires the table's owner or a member of audit_maintainer. PostgreSQL only.

Exit codes: 0 done, 2 invalid arguments, 3 the database failed.")]
pub(crate) enum Args {
    /// Create a hold, which keeps rows whatever their age
    #[command(after_help = EXIT_CODES)]
    Add {
        #[command(flatten)]
        scope: ScopeArgs,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Show the active holds
    #[command(after_help = EXIT_CODES)]
    List {
        /// Include released holds
        #[arg(long)]
        all: bool,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Release a hold
    #[command(after_help = EXIT_CODES)]
    Release {
        /// Its number
        #[arg(value_name = "HOLD")]
        id: i64,
        /// The reason, for the record
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
    },
}

/// The rows that a hold covers.
#[derive(Debug, clap::Args)]
#[group(id = "scope", required = true, multiple = true)]
pub(crate) struct ScopeArgs {
    /// The rows of this tenant
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Rows from this time on
    #[arg(long, value_name = "DATE", value_parser = date)]
    from: Option<DateTime<Utc>>,
    /// Rows before this time
    #[arg(long, value_name = "DATE", value_parser = date)]
    to: Option<DateTime<Utc>>,
    /// All rows, including future ones
    #[arg(long, conflicts_with_all = ["tenant", "from", "to"])]
    everything: bool,
}

impl From<ScopeArgs> for HoldScope {
    fn from(args: ScopeArgs) -> Self {
        // `everything` only replaces the restrictions: without one, a hold covers all rows.
        Self {
            tenant_id: args.tenant,
            from_time: args.from,
            to_time: args.to,
        }
    }
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    if let Args::Add { scope, .. } = &args
        && let (Some(from), Some(to)) = (scope.from, scope.to)
        && from >= to
    {
        return Err(CliError::usage("--from has to be before --to"));
    }
    let mut conn = maintenance_connection(database).await?;
    match args {
        Args::Add { scope, reason } => {
            let scope = scope.into();
            let hold =
                session::bounded(&mut conn, async |conn| holds::add(conn, &scope, &reason).await).await?;
            print_line!("created hold {hold}");
            // The hold exists, whatever becomes of this.
            let coverage =
                session::bounded(&mut conn, async |conn| holds::coverage(conn, &scope).await).await?;
            report(coverage);
        }
        Args::Release { id, reason } => {
            session::bounded(&mut conn, async |conn| holds::release(conn, id, &reason).await).await?;
            print_line!("released hold {id}");
        }
        Args::List { all, json } => {
            let mut holds = session::bounded(&mut conn, holds::list).await?;
            holds.retain(|hold| all || hold.released_at.is_none());
            if json {
                for hold in &holds {
                    output::json(hold)?;
                }
            } else {
                output::table(&HEADER, holds.iter().map(cells));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says on standard error what a new hold covers.
fn report(coverage: Coverage) {
    let Coverage {
        months, row_count, ..
    } = coverage;
    if row_count == 0 {
        print_note!("warning: it covers no row now; are the tenant and the times the intended ones?");
        return;
    }
    let rows = match row_count < COUNTED {
        true => output::counted(row_count.unsigned_abs(), "row", "rows"),
        false => format!("at least {} rows", output::number(COUNTED.unsigned_abs())),
    };
    print_note!(
        "it covers {rows} in {} now",
        output::counted(months.unsigned_abs(), "partition", "partitions")
    );
}

/// From this number on the count of rows is not exact.
const COUNTED: i64 = 100_000;

fn cells(hold: &Hold) -> Vec<Cell> {
    let text = |value: &Option<String>| Cell::plain(value.as_deref().unwrap_or_default());
    let released = match (&hold.released_at, &hold.released_by, &hold.release_reason) {
        (Some(at), Some(by), Some(reason)) => format!("{at} by {by}: {reason}"),
        _ => String::new(),
    };
    let tenant = hold.tenant_id.as_deref().unwrap_or("(all)");
    vec![
        Cell::plain(hold.id.to_string()),
        Cell::id(tenant),
        text(&hold.from_time),
        text(&hold.to_time),
        Cell::prose(&hold.reason),
        Cell::plain(&hold.created_by),
        Cell::plain(&hold.created_at),
        Cell::prose(released),
    ]
}
