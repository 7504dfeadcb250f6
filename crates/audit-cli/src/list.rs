//! `auditlog list`: shows the newest entries.

use std::process::ExitCode;

use audit_ops::session;
use chrono::SecondsFormat;
use db_services::audit::{self, AuditLog};

use crate::args::DatabaseArgs;
use crate::database::{connect, open_to_read};
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

On a terminal the output is a table; otherwise it is a line for each entry with tabs between the columns. \
--json prints JSON lines with all columns, and metadata as the database holds it.

A time that is infinity in PostgreSQL is shown as +262142-12-31T23:59:59.999999999Z, and -infinity as \
-262143-01-01T00:00:00Z: rows of a client that set such a time.

On a terminal that is too narrow, tenants, resources and addresses are shortened in the middle.

Exit codes: 0 done, 2 invalid arguments, 3 the database failed.")]
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
    let database = open_to_read(database)?;
    let mut conn = connect(&database).await?;
    let rows = session::bounded(&mut conn, async |conn| match args.all {
        true => audit::latest_with_records(conn, args.limit).await,
        false => audit::latest(conn, args.limit).await,
    })
    .await?;
    if args.json {
        for row in &rows {
            output::json(row)?;
        }
    } else {
        output::table(&HEADER, rows.iter().map(cells));
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &AuditLog) -> Vec<Cell> {
    let id = |value: &Option<String>| Cell::id(value.as_deref().unwrap_or_default());
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
        Cell::plain(row.actor_id.as_deref().unwrap_or_default()),
        id(&row.tenant_id),
        Cell::id(resource.join(" ")),
        id(&address),
    ]
}
