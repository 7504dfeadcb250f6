//! `auditlog list`: shows the entries that a query asks for.

use std::process::ExitCode;

use audit_ops::{OpsError, session};
use chrono::SecondsFormat;
use db_services::audit::query::{AuditQuery, Cursor, Page, Position};
use db_services::audit::{AuditLog, Reading, network_text};

use crate::args::DatabaseArgs;
use crate::error::CommandResult;
use crate::output::{self, Cell, print_note};
use crate::query_args::{LANGUAGE, QueryArgs};
use crate::reading::{self, RECORDED, ReadArgs};
use crate::zone::Zone;

/// The columns that a narrow terminal does without, the first one first. `--ids` needs the room of the last one.
const DROPPABLE: [&str; 4] = ["id", "address", "tenant", "resource"];
const DROPPABLE_WITH_IDS: [&str; 4] = ["address", "tenant", "resource", "outcome"];

#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  auditlog list actor:alice since:7d
  auditlog list 'action:auth.*' -outcome:success ip:10.0.0.0/8
  auditlog list --tenant acme --since 2026-11-01 --until today 'free text'
  auditlog list action:audit.viewed                        who looked at the trail?
  auditlog list --json -n 1000 | jq 'select(.outcome == \"denied\")'

{LANGUAGE}

On a terminal the output is a table with times of --time-zone. It leaves out columns for which the terminal is too narrow \
(--ids keeps the ids, for `auditlog show`), and shortens others in the middle. A pager shows what is longer than the \
screen: the command in PAGER, or `less`. Otherwise the output is a line for each entry, with tabs between all columns \
and times in UTC. --json prints JSON lines with all columns, and metadata as the database holds it.

If there are more entries than --limit, a note on standard error has the option that continues there.

A time that is infinity in PostgreSQL is shown as +262142-12-31T23:59:59.999999999Z, and -infinity as \
-262143-01-01T00:00:00Z: rows of a client that set such a time.

{RECORDED}

Exit codes: 0 done, 2 invalid arguments, 3 the database failed."))]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// How many entries
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Show the oldest entries first
    #[arg(long)]
    oldest_first: bool,
    /// Continue at this place, towards older entries
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["after", "oldest_first"])]
    before: Option<Cursor>,
    /// Continue at this place, towards newer entries, the oldest first
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Show the ids on a terminal of any width
    #[arg(long)]
    ids: bool,
    /// Print JSON lines with all columns
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    read: ReadArgs,
}

impl Args {
    fn position(&self) -> Position {
        match (&self.before, &self.after) {
            (Some(cursor), _) => Position::OlderThan(cursor.clone()),
            (None, Some(cursor)) => Position::NewerThan(cursor.clone()),
            (None, None) if self.oldest_first => Position::Oldest,
            (None, None) => Position::Newest,
        }
    }

    fn is_oldest_first(&self) -> bool {
        self.oldest_first || self.after.is_some()
    }
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let query = AuditQuery::new(args.query.filter()?);
    let mut conn = args.read.connect(database).await?;
    let position = args.position();
    let page = session::bounded(&mut conn, async |conn| {
        reading::as_tenant(conn, args.query.tenant.as_deref()).await?;
        let page = reading::answer(query.page(conn, &position, args.limit).await)?;
        if let Ok(page) = &page {
            let reading = Reading::of(query.filter()).rows(page.rows.len() as u64);
            args.read.record(conn, reading).await?;
        }
        Ok::<_, OpsError>(page)
    })
    .await??;
    show(&args, page)
}

fn show(args: &Args, mut page: Page) -> CommandResult {
    if args.is_oldest_first() {
        page.rows.reverse();
    }
    if args.json {
        for row in &page.rows {
            output::json(row)?;
        }
    } else {
        args.read.start_pager();
        table(args, &page.rows);
    }
    if page.has_more {
        match (args.is_oldest_first(), page.newer, page.older) {
            (true, Some(cursor), _) => print_note!("more entries: --after {cursor}"),
            (false, _, Some(cursor)) => print_note!("more entries: --before {cursor}"),
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(args: &Args, rows: &[AuditLog]) {
    let zone = output::is_terminal().then_some(&args.query.zone.time_zone);
    let time = match zone {
        Some(zone) => format!("time ({})", zone.name()),
        None => "time (UTC)".to_owned(),
    };
    let header = [
        &*time, "outcome", "action", "actor", "tenant", "resource", "address", "id",
    ];
    let droppable = if args.ids { &DROPPABLE_WITH_IDS } else { &DROPPABLE };
    let rows = rows.iter().map(|row| cells(row, zone)).collect();
    output::fitting_table(&header, rows, droppable);
}

pub(crate) fn cells(row: &AuditLog, zone: Option<&Zone>) -> Vec<Cell> {
    let id = |value: &Option<String>| Cell::id(value.as_deref().unwrap_or_default());
    let resource: Vec<_> = [&row.resource_type, &row.resource_id]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let address = row.ip_address.map(network_text);
    vec![
        Cell::plain(match zone {
            Some(zone) => zone.shown(row.created_at),
            None => row.created_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        }),
        Cell::outcome(&row.outcome),
        Cell::id(&row.action),
        id(&row.actor_id),
        id(&row.tenant_id),
        Cell::id(resource.join(" ")),
        id(&address),
        Cell::plain(row.id.to_string()),
    ]
}
