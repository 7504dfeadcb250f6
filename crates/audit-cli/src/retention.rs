//! `auditlog retention`: shows which months are due, drops them, and shows the ledger.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::retention::{self, LedgerEntry, PartitionVerdict, PlannedPartition, RetentionPolicy};
use audit_ops::{OpsError, archive, session};
use db_services::client::Connection;

use crate::args::DatabaseArgs;
use crate::database::maintenance_connection;
use crate::error::{CliError, CommandResult, Context, EXIT_CODES, partial_if};
use crate::output::{self, Cell, print_line, print_note};

const PLAN_HEADER: [&str; 5] = ["month", "rows", "size", "holds", "verdict"];

const LEDGER_HEADER: [&str; 8] = [
    "entry", "event", "month", "rows", "digest", "by", "at (UTC)", "reason",
];

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog retention plan --keep 13months
  auditlog retention apply --keep 13months --archive /var/backups/audit
  auditlog retention apply --keep 13months --archive /var/backups/audit --yes     in a monthly job
  auditlog retention ledger --json

Whole months are dropped, never single rows. Only an archive can restore them: `auditlog restore`. \
Requires the table's owner or a member of audit_maintainer, and for --archive of audit_auditor as well. \
PostgreSQL only.

Exit codes: 0 done (months under a legal hold stay), 1 some months that are due were not dropped (see the message), 2 invalid arguments, 3 the \
database or a file failed.")]
pub(crate) enum Args {
    /// Show what would be dropped, change nothing
    #[command(after_help = "\
Verdicts:
  drop            it is due
  keep            it is not old enough (such months without rows are not listed)
  held            a legal hold covers rows of it: `auditlog hold list`
  too_few_recent  too few later months hold rows, so the server's clock may be wrong. See --trust-clock
  not_monthly     the default partition, and partitions that were created manually

Exit codes: 0 done, 2 invalid arguments, 3 the database failed.")]
    Plan {
        #[command(flatten)]
        keep: KeepArgs,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Drop the months that are due, and record each in the ledger
    #[command(after_help = "\
Exit codes: 0 done (months under a legal hold stay), 1 some months that are due were not dropped (see the message), \
2 invalid arguments, 3 the database or a file failed: the months that are named were not dropped, the others were.")]
    Apply(ApplyArgs),
    /// Show what was dropped and restored
    #[command(after_help = EXIT_CODES)]
    Ledger {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
}

/// What to keep.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// How long rows are kept, as 13months or 7years
    #[arg(long = "keep", value_name = "TIME", value_parser = months)]
    months: i32,
    /// The server's clock is right: count months without rows as kept, and ignore entries of the ledger from the future
    #[arg(long)]
    trust_clock: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    keep: KeepArgs,
    /// Write each month to an archive in this directory before it is dropped
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// The reason, for the record [default: older than … months]
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How many months may be dropped within a day
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    max_months: i32,
    /// Keep fewer than 12 months (PCI DSS 10.5.1 requires twelve)
    #[arg(long)]
    force: bool,
    /// Drop rows with a value that cannot be turned into text, which no archive has, or is nested too deeply to be
    /// restored
    #[arg(long)]
    drop_unreadable: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

impl From<KeepArgs> for RetentionPolicy {
    fn from(args: KeepArgs) -> Self {
        Self {
            trust_clock: args.trust_clock,
            ..Self::keep(args.months)
        }
    }
}

/// Parses a duration in whole months.
fn months(text: &str) -> Result<i32, String> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse::<i32>().ok();
    let months = match unit.trim() {
        "month" | "months" => number,
        "year" | "years" => number.and_then(|years| years.checked_mul(12)),
        _ => None,
    };
    months
        .filter(|months| *months > 0)
        .ok_or_else(|| "expected whole months or years, as 13months or 7years".to_owned())
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let mut conn = maintenance_connection(database).await?;
    match args {
        Args::Plan { keep, json } => plan(&mut conn, keep, json).await,
        Args::Apply(args) => apply(&mut conn, args).await,
        Args::Ledger { json } => ledger(&mut conn, json).await,
    }
}

async fn plan(conn: &mut Connection, keep: KeepArgs, json: bool) -> CommandResult {
    let partitions = plan_for(conn, &keep.into()).await?;
    if json {
        for partition in &partitions {
            output::json(partition)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_listed = |partition: &&PlannedPartition| {
        partition.verdict != PartitionVerdict::Keep || partition.row_count > 0
    };
    output::table(&PLAN_HEADER, partitions.iter().filter(is_listed).map(plan_cells));
    explain(&partitions);
    Ok(ExitCode::SUCCESS)
}

async fn plan_for(
    conn: &mut Connection,
    policy: &RetentionPolicy,
) -> Result<Vec<PlannedPartition>, OpsError> {
    session::bounded_long(conn, async |conn| retention::plan(conn, policy).await).await
}

fn plan_cells(partition: &PlannedPartition) -> Vec<Cell> {
    let holds: Vec<_> = partition.holds.iter().map(ToString::to_string).collect();
    let word = partition.verdict.as_str();
    let verdict = match partition.verdict {
        PartitionVerdict::Drop => Cell::error(word),
        PartitionVerdict::Keep => Cell::ok(word),
        _ => Cell::warn(word),
    };
    vec![
        Cell::plain(month_or_name(partition)),
        Cell::plain(output::number(partition.row_count.unsigned_abs())),
        Cell::plain(output::size(partition.bytes)),
        Cell::id(holds.join(" ")),
        verdict,
    ]
}

fn month_or_name(partition: &PlannedPartition) -> &str {
    partition.month.as_ref().unwrap_or(&partition.name)
}

/// "1 month is", "2 months are".
fn months_are(count: usize) -> String {
    output::counted(count as u64, "month is", "months are")
}

/// Explains on standard error why old months are not dropped. Returns true if that needs attention.
fn explain(partitions: &[PlannedPartition]) -> bool {
    let count = |verdict| {
        partitions
            .iter()
            .filter(|partition| partition.verdict == verdict)
            .count()
    };
    let held = count(PartitionVerdict::Held);
    if held > 0 {
        print_note!("{} due, but under a legal hold", months_are(held));
    }
    let too_few_recent = count(PartitionVerdict::TooFewRecent);
    if too_few_recent > 0 {
        print_note!(
            "{} due by the server's clock, but fewer later months hold rows than are to be kept; if the clock is \
             right, add --trust-clock",
            months_are(too_few_recent)
        );
    }
    too_few_recent > 0
}

async fn apply(conn: &mut Connection, args: ApplyArgs) -> CommandResult {
    let mut policy = RetentionPolicy {
        force: args.force,
        drop_unreadable: args.drop_unreadable,
        max_months: args.max_months,
        ..args.keep.into()
    };
    if let Some(reason) = args.reason {
        policy.reason = reason;
    }
    if policy.keep_months < 12 && !policy.force {
        return Err(CliError::usage(
            "keeping fewer than 12 months requires --force (PCI DSS 10.5.1 requires twelve)",
        ));
    }
    let partitions = plan_for(conn, &policy).await?;
    let mut is_partial = explain(&partitions);
    let mut due: Vec<_> = partitions
        .iter()
        .filter(|partition| partition.is_droppable())
        .collect();
    let max_months = args.max_months.unsigned_abs() as usize;
    if due.len() > max_months {
        print_note!(
            "{} due; only the oldest {max_months} are dropped now (--max-months)",
            months_are(due.len())
        );
        due.truncate(max_months);
        is_partial = true;
    }
    if due.is_empty() {
        print_line!("no month is due");
    } else {
        if !args.yes {
            confirm(&due, args.archive.as_deref())?;
        }
        drop_months(conn, &due, &policy, args.archive.as_deref()).await?;
    }
    Ok(partial_if(is_partial))
}

/// Drops the months one by one. One that fails does not keep the others.
async fn drop_months(
    conn: &mut Connection,
    due: &[&PlannedPartition],
    policy: &RetentionPolicy,
    archive_dir: Option<&Path>,
) -> Result<(), CliError> {
    let mut failed = 0;
    for partition in due {
        if let Err(error) = drop_month(conn, partition, policy, archive_dir).await {
            failed += 1;
            print_note!("{error}");
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CliError::new(format!("{} not dropped", months_are(failed)))),
    }
}

fn confirm(due: &[&PlannedPartition], archive_dir: Option<&Path>) -> Result<(), CliError> {
    output::table(&PLAN_HEADER, due.iter().map(|partition| plan_cells(partition)));
    let rows: i64 = due.iter().map(|partition| partition.row_count).sum();
    let archiving = match archive_dir {
        Some(dir) => format!("after archiving them in {}", dir.display()),
        None => "without an archive".to_owned(),
    };
    let question = format!(
        "Drop {} with about {}, {archiving}?",
        output::counted(due.len() as u64, "month", "months"),
        output::counted(rows.unsigned_abs(), "row", "rows")
    );
    output::confirm(&question)
}

async fn drop_month(
    conn: &mut Connection,
    partition: &PlannedPartition,
    policy: &RetentionPolicy,
    archive_dir: Option<&Path>,
) -> Result<(), CliError> {
    let month = month_or_name(partition);
    let archive = match archive_dir {
        Some(dir) => {
            let bar = output::progress(Some(partition.row_count.unsigned_abs()), "archiving");
            let progress = &mut |rows| bar.set_position(rows);
            let written = archive::write(conn, partition, dir, progress).await;
            bar.finish_and_clear();
            Some(written.context(|| format!("{month} was not archived, and not dropped"))?)
        }
        None => None,
    };
    let bar = output::spinner("dropping");
    let entry = session::bounded_long(conn, async |conn| {
        retention::drop_month(conn, &partition.name, policy, archive.as_ref()).await
    })
    .await;
    bar.finish_and_clear();
    let entry = entry.context(|| format!("{month} was not dropped"))?;
    match archive {
        Some(archive) => print_line!(
            "dropped {month}, ledger entry {entry}; {} in {}",
            output::counted(archive.manifest.rows, "row is", "rows are"),
            archive.path.display()
        ),
        None => print_line!("dropped {month}, ledger entry {entry}"),
    }
    Ok(())
}

async fn ledger(conn: &mut Connection, json: bool) -> CommandResult {
    let entries = session::bounded(conn, retention::ledger).await?;
    if json {
        for entry in &entries {
            output::json(entry)?;
        }
    } else {
        output::table(&LEDGER_HEADER, entries.iter().map(ledger_cells));
    }
    Ok(ExitCode::SUCCESS)
}

fn ledger_cells(entry: &LedgerEntry) -> Vec<Cell> {
    let event = entry.event.as_str();
    vec![
        Cell::plain(entry.id.to_string()),
        match entry.overrides.is_empty() {
            true => Cell::plain(event),
            false => Cell::warn(&format!("{event} ({})", entry.overrides.join(", "))),
        },
        Cell::plain(&entry.month),
        Cell::plain(output::number(entry.row_count.unsigned_abs())),
        Cell::id(&entry.digest),
        Cell::plain(&entry.done_by),
        Cell::plain(&entry.done_at),
        Cell::prose(&entry.reason),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_period_is_whole_months_or_years() {
        for (text, expected) in [("13months", 13), ("1 month", 1), ("7years", 84), ("1year", 12)] {
            assert_eq!(months(text), Ok(expected));
        }
        for text in [
            "",
            "13",
            "0months",
            "-1months",
            "13m",
            "400days",
            "1.5years",
            "months",
            "999999999999years",
            "900000000years",
        ] {
            assert!(months(text).is_err(), "{text}");
        }
    }
}
