//! `auditlog list`: shows the newest entries.

use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::{self, AuditLog};

use crate::args::DatabaseArgs;
use crate::database::{connect, open_existing};
use crate::error::CommandResult;
use crate::output::{self, Cell};

const HEADER: [&str; 7] = [
    "time (UTC)",
    "outcome",
    "action",
    "actor",
    "tenant",
    "resource",
    "address",
];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog list --limit 100
  auditlog list --json | jq 'select(.outcome == \"denied\")'

On a terminal the output is a table; otherwise it is a line for each entry with tabs between the columns.
--json prints JSON lines with all columns, and metadata as the database holds it.")]
pub(crate) struct Args {
    /// How many entries
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON lines with all columns
    #[arg(long)]
    json: bool,
    /// Include the entries that writers record about themselves (actions that begin with audit.)
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let database = open_existing(database)?;
    let mut conn = connect(&database).await?;
    let rows = if args.all {
        audit::latest_with_records(&mut conn, args.limit).await?
    } else {
        audit::latest(&mut conn, args.limit).await?
    };
    if args.json {
        for row in &rows {
            output::text(&serde_json::to_string(row)?);
        }
    } else {
        output::table(&HEADER, rows.iter().map(cells));
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &AuditLog) -> Vec<Cell> {
    let text = |value: &Option<String>| Cell::plain(value.as_deref().unwrap_or_default());
    let resource: Vec<_> = [&row.resource_type, &row.resource_id]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let address = row.ip_address.map(|net| net.addr().to_string());
    vec![
        Cell::plain(row.created_at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        Cell::outcome(&row.outcome),
        Cell::plain(&row.action),
        text(&row.actor_id),
        text(&row.tenant_id),
        Cell::plain(resource.join(" ")),
        text(&address),
    ]
}
