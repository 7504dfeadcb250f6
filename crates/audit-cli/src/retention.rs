//! `auditlog retention`: which months are past their time, and how do they go?

use std::path::Path;
use std::process::ExitCode;

use audit_ops::archive;
use audit_ops::retention::{self, LedgerEntry, PlannedMonth, Rule};
use db_services::client::Connection;

use crate::args::{Apply, Keep, Retention};
use crate::database::for_upkeep;
use crate::failure::{Done, Failure, IN_PART};
use crate::output::{self, Cell};

const PLAN: [&str; 5] = ["month", "rows", "size", "holds", "verdict"];

const LEDGER: [&str; 8] = [
    "entry", "event", "month", "rows", "digest", "by", "at (UTC)", "reason",
];

pub(crate) async fn run(url: Option<&str>, action: Retention) -> Done {
    let mut conn = for_upkeep(url).await?;
    match action {
        Retention::Plan { keep, json } => plan(&mut conn, keep, json).await,
        Retention::Apply(args) => apply(&mut conn, args).await,
        Retention::Ledger { json } => ledger(&mut conn, json).await,
    }
}

async fn plan(conn: &mut Connection, keep: Keep, json: bool) -> Done {
    let rule = Rule {
        trust_clock: keep.trust_clock,
        ..Rule::keep(keep.months)
    };
    let months = retention::plan(conn, &rule).await?;
    if json {
        for month in &months {
            output::text(&serde_json::to_string(month)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let worth_a_line = |month: &&PlannedMonth| month.verdict != "keep" || month.row_count > 0;
    output::table(&PLAN, months.iter().filter(worth_a_line).map(planned));
    explain(&months);
    Ok(ExitCode::SUCCESS)
}

fn planned(month: &PlannedMonth) -> Vec<Cell> {
    let holds: Vec<_> = month.holds.iter().map(ToString::to_string).collect();
    let verdict = match month.verdict.as_str() {
        "drop" => Cell::bad("drop"),
        "keep" => Cell::good("keep"),
        other => Cell::doubtful(other),
    };
    vec![
        Cell::plain(month.month.as_ref().unwrap_or(&month.partition)),
        Cell::plain(output::number(month.row_count.unsigned_abs())),
        Cell::plain(output::size(month.bytes)),
        Cell::plain(holds.join(" ")),
        verdict,
    ]
}

/// Says on standard error what stays although it is old; true if that asks for somebody's attention.
fn explain(months: &[PlannedMonth]) -> bool {
    let count = |verdict: &str| months.iter().filter(|month| month.verdict == verdict).count();
    if count("held") > 0 {
        eprintln!(
            "{} months are past their time and under a legal hold",
            count("held")
        );
    }
    let doubtful = count("too_few_recent");
    if doubtful > 0 {
        eprintln!(
            "{doubtful} months are past their time by the server's clock, but fewer later months hold rows than are to \
             be kept; if the clock is right, add --trust-clock"
        );
    }
    doubtful > 0
}

async fn apply(conn: &mut Connection, args: Apply) -> Done {
    let mut rule = Rule {
        force: args.force,
        max_months: args.max_months,
        trust_clock: args.keep.trust_clock,
        ..Rule::keep(args.keep.months)
    };
    if let Some(reason) = args.reason {
        rule.reason = reason;
    }
    if rule.keep_months < 12 && !rule.force {
        return Err(Failure::usage(
            "fewer than 12 months are kept only with --force (PCI DSS 10.5.1 asks for twelve)",
        ));
    }
    let months = retention::plan(conn, &rule).await?;
    let mut in_part = explain(&months);
    let mut due: Vec<_> = months.iter().filter(|month| month.goes()).collect();
    if due.len() > args.max_months.unsigned_abs() as usize {
        eprintln!(
            "{} months are due, the oldest {} go now (--max-months)",
            due.len(),
            args.max_months
        );
        due.truncate(args.max_months.unsigned_abs() as usize);
        in_part = true;
    }
    if due.is_empty() {
        println!("no month is to be dropped");
    } else {
        confirm(&due, args.archive.as_deref(), args.yes)?;
        for month in due {
            drop_month(conn, month, &rule, args.archive.as_deref()).await?;
        }
    }
    Ok(if in_part {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}

fn confirm(due: &[&PlannedMonth], archive: Option<&Path>, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    output::table(&PLAN, due.iter().map(|month| planned(month)));
    let rows: i64 = due.iter().map(|month| month.row_count).sum();
    let kept = match archive {
        Some(dir) => format!("after archiving them in {}", dir.display()),
        None => "without an archive".to_owned(),
    };
    let question = format!(
        "Drop {} months with about {} rows, {kept}?",
        due.len(),
        output::number(rows.unsigned_abs())
    );
    output::confirm(&question)
}

async fn drop_month(
    conn: &mut Connection,
    month: &PlannedMonth,
    rule: &Rule,
    dir: Option<&Path>,
) -> Result<(), Failure> {
    let name = month.month.as_ref().unwrap_or(&month.partition);
    let archived = match dir {
        Some(dir) => {
            let bar = output::progress(Some(month.row_count.unsigned_abs()), "archiving");
            let told = &mut |rows| bar.set_position(rows);
            let archived = archive::write(conn, month, dir, told).await;
            bar.finish_and_clear();
            Some(
                archived
                    .map_err(|error| Failure::new(format!("{name} was not archived, and stays: {error}")))?,
            )
        }
        None => None,
    };
    let bar = output::waiting("dropping");
    let entry = retention::drop_month(conn, &month.partition, rule, archived.as_ref()).await;
    bar.finish_and_clear();
    let entry = entry.map_err(|error| Failure::new(format!("{name} was not dropped: {error}")))?;
    match archived {
        Some(archived) => println!(
            "dropped {name}, entry {entry} of the ledger; its {} rows are in {}",
            output::number(archived.manifest.rows),
            archived.path.display()
        ),
        None => println!("dropped {name}, entry {entry} of the ledger"),
    }
    Ok(())
}

async fn ledger(conn: &mut Connection, json: bool) -> Done {
    let entries = retention::ledger(conn).await?;
    if json {
        for entry in &entries {
            output::text(&serde_json::to_string(entry)?);
        }
    } else {
        output::table(&LEDGER, entries.iter().map(on_record));
    }
    Ok(ExitCode::SUCCESS)
}

fn on_record(entry: &LedgerEntry) -> Vec<Cell> {
    vec![
        Cell::plain(entry.id.to_string()),
        if entry.forced {
            Cell::doubtful(&format!("{} (forced)", entry.event))
        } else {
            Cell::plain(&entry.event)
        },
        Cell::plain(&entry.month),
        Cell::plain(output::number(entry.row_count.unsigned_abs())),
        Cell::plain(&entry.digest),
        Cell::plain(&entry.done_by),
        Cell::plain(&entry.done_at),
        Cell::plain(&entry.reason),
    ]
}
