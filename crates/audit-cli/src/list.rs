//! `auditlog list`: what happened lately?

use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::{self, AuditLog};

use crate::args::List;
use crate::database::{connect, existing};
use crate::failure::Done;
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

pub(crate) async fn run(url: Option<&str>, args: List) -> Done {
    let database = existing(url)?;
    let mut conn = connect(&database).await?;
    let rows = match args.all {
        true => audit::latest_with_records(&mut conn, args.limit).await?,
        false => audit::latest(&mut conn, args.limit).await?,
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
