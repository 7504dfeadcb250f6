//! `auditlog verify`: accounts for the entries of each writer.

use audit_ops::session;
use chrono::SecondsFormat;
use db_services::audit::{self, Verdict, WriterAccount};

use crate::args::DatabaseArgs;
use crate::database::{connect, open_to_read};
use crate::error::{CommandResult, partial_if};
use crate::output::{self, Cell, print_note};

const HEADER: [&str; 11] = [
    "writer",
    "service",
    "last seen (UTC)",
    "verdict",
    "stored",
    "expired",
    "lost",
    "quarantined",
    "repeated",
    "missing",
    "unknown",
];

/// How many missing ranges of a writer are printed.
const MAX_RANGES: usize = 10;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Account for the sequence numbers of each writer
    #[command(after_help = "\
Examples:
  auditlog verify writers
  auditlog verify writers --json | jq 'select(.verdict == \"missing\")'

Verdicts:
  complete   it stopped cleanly, and every entry is stored, or was dropped by retention with a record
  declared   the same, except that some entries were declared lost or rejected (`quarantined`)
  open       it is still running, or did not stop cleanly: at most `unknown` accepted entries are missing
  missing    entries are neither stored nor declared, or several rows have the same number (exit code 1)

`repeated` entries were submitted twice and are stored once, under another number. \
`unknown` does not include entries that a full queue dropped and that the writer could not declare before it \
was killed: it declares them within about a second, or after an outage once the database accepts rows again. \
There is no bound on their number. It does not include entries in a spool either: see `auditlog spool`.

Exit codes: 0 nothing is missing, 1 entries are missing, 2 invalid arguments, 3 the database failed.")]
    Writers {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(database: &DatabaseArgs, Args::Writers { json }: Args) -> CommandResult {
    let mut conn = connect(&open_to_read(database)?).await?;
    let bar = output::spinner("accounting");
    let accounts = session::bounded_long(&mut conn, audit::verify_writers).await;
    bar.finish_and_clear();
    let accounts = accounts?;
    if json {
        for account in &accounts {
            output::json(account)?;
        }
    } else {
        output::table(&HEADER, accounts.iter().map(cells));
        if accounts.is_empty() {
            print_note!("no writer has written to this trail: there is nothing to account for");
        }
        explain(&accounts);
    }
    let missing = accounts.iter().any(|account| account.verdict == Verdict::Missing);
    Ok(partial_if(missing))
}

fn cells(account: &WriterAccount) -> Vec<Cell> {
    let verdict = match account.verdict {
        Verdict::Complete => Cell::ok("complete"),
        Verdict::Missing => Cell::error("missing"),
        other => Cell::warn(other.as_str()),
    };
    let unknown = match account.accepted_unknown_at_most {
        Some(0) => "0".to_owned(),
        Some(most) => format!("at most {} accepted", output::number(most)),
        None => "no bound".to_owned(),
    };
    vec![
        Cell::id(account.writer_id.to_string()),
        Cell::plain(account.service.as_deref().unwrap_or_default()),
        Cell::plain(account.last_seen.to_rfc3339_opts(SecondsFormat::Secs, true)),
        verdict,
        Cell::plain(output::number(account.stored)),
        Cell::plain(output::number(account.expired)),
        Cell::plain(output::number(account.declared_lost)),
        Cell::plain(output::number(account.quarantined)),
        Cell::plain(output::number(account.repeated)),
        Cell::plain(output::number(account.missing)),
        Cell::plain(unknown),
    ]
}

/// Prints to standard error which numbers are missing, and what the figures do not include.
fn explain(accounts: &[WriterAccount]) {
    for account in accounts
        .iter()
        .filter(|account| account.verdict == Verdict::Missing)
    {
        let ranges: Vec<String> = account
            .missing_ranges
            .iter()
            .take(MAX_RANGES)
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        print_note!(
            "writer {}: {} neither stored nor declared (numbers {}{}), {} with several rows",
            account.writer_id,
            output::entries(account.missing),
            ranges.join(", "),
            if account.missing_ranges.len() > MAX_RANGES {
                ", …"
            } else {
                ""
            },
            output::counted(account.reused_numbers, "number", "numbers")
        );
    }
    if accounts
        .iter()
        .any(|account| account.accepted_unknown_at_most != Some(0))
    {
        output::note_lines(UNBOUNDED);
    }
}

/// What the bound of a writer that did not stop cleanly does not include.
const UNBOUNDED: &str = "\
unknown: entries that the writer's queue accepted. Not included, and not bounded: entries that a full queue dropped
and the writer could not declare. For entries in a spool directory see `auditlog spool`.";
