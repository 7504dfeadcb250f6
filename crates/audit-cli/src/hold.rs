//! `auditlog hold`: what must not be dropped?

use std::process::ExitCode;

use audit_ops::holds::{self, Hold as OnRecord};

use crate::args::{Covers, Hold};
use crate::database::for_upkeep;
use crate::failure::Done;
use crate::output::{self, Cell};

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

pub(crate) async fn run(url: Option<&str>, action: Hold) -> Done {
    let mut conn = for_upkeep(url).await?;
    match action {
        Hold::Add {
            covers:
                Covers {
                    tenant,
                    from,
                    to,
                    everything: _,
                },
            reason,
        } => {
            let covers = holds::Covers {
                tenant_id: tenant,
                from_time: from,
                to_time: to,
            };
            println!("made hold {}", holds::add(&mut conn, &covers, &reason).await?);
        }
        Hold::Release { id, reason } => {
            holds::release(&mut conn, id, &reason).await?;
            println!("released hold {id}");
        }
        Hold::List { all, json } => {
            let mut holds = holds::list(&mut conn).await?;
            holds.retain(|hold| all || hold.released_at.is_none());
            if json {
                for hold in &holds {
                    output::text(&serde_json::to_string(hold)?);
                }
            } else {
                output::table(&HEADER, holds.iter().map(cells));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(hold: &OnRecord) -> Vec<Cell> {
    let text = |value: &Option<String>| Cell::plain(value.as_deref().unwrap_or_default());
    let released = match (&hold.released_at, &hold.released_by, &hold.release_reason) {
        (Some(at), Some(by), Some(reason)) => format!("{at} by {by}: {reason}"),
        _ => String::new(),
    };
    let tenant = hold.tenant_id.as_deref().unwrap_or("(all)");
    vec![
        Cell::plain(hold.id.to_string()),
        Cell::plain(tenant),
        text(&hold.from_time),
        text(&hold.to_time),
        Cell::plain(&hold.reason),
        Cell::plain(&hold.created_by),
        Cell::plain(&hold.created_at),
        Cell::plain(released),
    ]
}
