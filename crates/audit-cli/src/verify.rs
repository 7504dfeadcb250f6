//! `auditlog verify`: accounts for the entries of each writer.

use std::process::ExitCode;

use chrono::SecondsFormat;
use db_services::audit::{self, Verdict, WriterAccount};

use crate::args::Verify;
use crate::database::{connect, existing};
use crate::failure::{Done, IN_PART};
use crate::output::{self, Cell};

const HEADER: [&str; 11] = [
    "writer",
    "service",
    "last seen (UTC)",
    "verdict",
    "stored",
    "dropped",
    "lost",
    "quarantined",
    "repeated",
    "missing",
    "unknown",
];

pub(crate) async fn run(url: Option<&str>, Verify::Writers { json }: Verify) -> Done {
    let mut conn = connect(&existing(url)?).await?;
    let bar = output::waiting("accounting");
    let accounts = audit::verify_writers(&mut conn).await;
    bar.finish_and_clear();
    let accounts = accounts?;
    if json {
        for account in &accounts {
            output::text(&serde_json::to_string(account)?);
        }
    } else {
        output::table(&HEADER, accounts.iter().map(cells));
        explain(&accounts);
    }
    let missing = accounts.iter().any(|account| account.verdict == Verdict::Missing);
    Ok(if missing {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}

fn cells(account: &WriterAccount) -> Vec<Cell> {
    let verdict = match account.verdict {
        Verdict::Complete => Cell::good("complete"),
        Verdict::Missing => Cell::bad("missing"),
        other => Cell::doubtful(other.as_str()),
    };
    let unknown = match account.accepted_unknown_at_most {
        Some(0) => "0".to_owned(),
        Some(most) => format!("at most {} accepted", output::number(most)),
        None => "no bound".to_owned(),
    };
    vec![
        Cell::plain(account.writer_id.to_string()),
        Cell::plain(account.service.as_deref().unwrap_or_default()),
        Cell::plain(account.last_seen.to_rfc3339_opts(SecondsFormat::Secs, true)),
        verdict,
        Cell::plain(output::number(account.stored)),
        Cell::plain(output::number(account.dropped)),
        Cell::plain(output::number(account.declared_lost)),
        Cell::plain(output::number(account.quarantined)),
        Cell::plain(output::number(account.repeated)),
        Cell::plain(output::number(account.missing)),
        Cell::plain(unknown),
    ]
}

/// Explains on standard error what is missing and what the figures do not include.
fn explain(accounts: &[WriterAccount]) {
    for account in accounts
        .iter()
        .filter(|account| account.verdict == Verdict::Missing)
    {
        let ranges: Vec<String> = account
            .missing_ranges
            .iter()
            .take(10)
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        eprintln!(
            "writer {}: {} entries are neither stored nor declared (numbers {}{}), {} numbers have several rows",
            account.writer_id,
            output::number(account.missing),
            ranges.join(", "),
            if account.missing_ranges.len() > 10 {
                ", …"
            } else {
                ""
            },
            output::number(account.reused_numbers)
        );
    }
    if accounts
        .iter()
        .any(|account| account.accepted_unknown_at_most != Some(0))
    {
        eprintln!("{UNBOUNDED}");
    }
}

/// What the bound of a writer without a clean end leaves out.
const UNBOUNDED: &str = "\
unknown: entries that the writer's queue accepted. Not included, and not bounded: entries that a full queue refused
and the writer could not declare any more. Entries that wait in a spool directory are in `auditlog spool`.";
