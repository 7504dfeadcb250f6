//! `auditlog partitions`: lists and creates monthly partitions, and empties the default partition.

use std::process::ExitCode;

use audit_ops::partitions::{self, MAX_PARTITIONS, Partition};
use audit_ops::{OpsError, session};
use chrono::{DateTime, Months, Utc};
use db_services::client::Connection;

use crate::args::{DatabaseArgs, date};
use crate::database::maintenance_connection;
use crate::error::{CliError, CommandResult, EXIT_CODES, PARTIAL, USAGE};
use crate::output::{self, Cell, print_line, print_note};

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog partitions list
  auditlog partitions ensure                      for the next 24 months; in a daily job
  auditlog partitions ensure --from 2019-01       before an import of old events
  auditlog partitions move-default                empties the default partition

Requires the table's owner or a member of audit_maintainer. PostgreSQL only.

Exit codes: 0 done, 1 some rows stay in the default partition (move-default), 2 invalid arguments, 3 the database \
failed.")]
pub(crate) enum Args {
    /// Show the partitions with their rows and sizes
    #[command(after_help = EXIT_CODES)]
    List {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Create the missing partitions, cut months of more than about a million rows into segments, and create the look-up
    /// indexes of what has ended
    #[command(after_help = "\
To be repeated each day. A writer's login only creates partitions: segments and indexes require the table's owner or a member of audit_maintainer.

Exit codes: 0 done, 2 invalid arguments, 3 the database failed.")]
    Ensure {
        /// From the month of this date on [default: now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        from: Option<DateTime<Utc>>,
        /// Up to the month of this date [default: 24 months from now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        to: Option<DateTime<Utc>>,
        /// How many months the trail keeps: each gets an equal share of at most 150 partitions
        #[arg(long, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u16).range(1..))]
        keep_months: u16,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Move rows from the default partition to monthly partitions, which it creates
    #[command(after_help = "\
Rows stay in the default partition if there would be too many partitions (--max-partitions), and if no month can have \
their time. They can be read there like any other.

Exit codes: 0 done, 1 rows outside every possible month stay in the default partition, 2 invalid arguments, 3 the \
database failed, or there would be too many partitions.")]
    MoveDefault {
        #[command(flatten)]
        limit: LimitArgs,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// How many partitions the trail may have. Each costs every query over all months time and about eight locks
    /// (max_locks_per_transaction * max_connections)
    #[arg(long, value_name = "N", default_value_t = MAX_PARTITIONS)]
    max_partitions: u16,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let mut conn = maintenance_connection(database).await?;
    match args {
        Args::List { json } => list(&mut conn, json).await,
        Args::Ensure {
            from,
            to,
            keep_months,
            limit,
        } => {
            let now = Utc::now();
            let in_two_years = now.checked_add_months(Months::new(24)).unwrap_or(now);
            let range = (from.unwrap_or(now), to.unwrap_or(in_two_years));
            ensure(&mut conn, range, limit.max_partitions, keep_months).await
        }
        Args::MoveDefault { limit } => empty_default_partition(&mut conn, limit.max_partitions).await,
    }
}

async fn list(conn: &mut Connection, json: bool) -> CommandResult {
    let all = session::bounded_long(conn, partitions::list).await?;
    if json {
        for partition in &all {
            output::json(partition)?;
        }
    } else {
        output::table(
            &["partition", "from (UTC)", "rows", "size", "segments"],
            all.iter().map(cells),
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(partition: &Partition) -> Vec<Cell> {
    let name = match (&partition.month, partition.has_rows) {
        // The default partition should be empty, and so should one that is not a whole month.
        (None, true) => Cell::warn(&partition.name),
        _ => Cell::plain(&partition.name),
    };
    vec![
        name,
        Cell::plain(partition.from_time.as_deref().unwrap_or_default()),
        Cell::plain(output::number(partition.row_count.unsigned_abs())),
        Cell::plain(output::size(partition.bytes)),
        Cell::plain(match partition.segments {
            0 | 1 => String::new(),
            several => several.to_string(),
        }),
    ]
}

async fn ensure(
    conn: &mut Connection,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    max_partitions: u16,
    keep_months: u16,
) -> CommandResult {
    let bar = output::progress(Some(0), "creating partitions");
    let created = partitions::ensure(conn, from, to, max_partitions, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let created = created.map_err(|error| match error {
        OpsError::TooManyMonths(_) => CliError::from(error).with_exit_code(USAGE),
        _ => error.into(),
    })?;
    print_line!("created {}", output::counted(created, "partition", "partitions"));
    maintain(conn, keep_months).await?;
    // A user who may create partitions may lack the right to read the default partition.
    if let Ok(months) = session::bounded_long(conn, partitions::default_partition_months).await
        && !months.is_empty()
    {
        print_note!(
            "the default partition has rows of {}, which got no partition: `auditlog partitions move-default`",
            output::counted(months.len() as u64, "month", "months")
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn maintain(conn: &mut Connection, keep_months: u16) -> Result<(), CliError> {
    let bar = output::progress(None, "cutting and indexing");
    let done = partitions::maintain(conn, keep_months, |done| {
        bar.set_position(done.segments + done.indexes)
    })
    .await;
    bar.finish_and_clear();
    let done = done?;
    if done.segments > 0 {
        print_line!("added {}", output::counted(done.segments, "segment", "segments"));
    }
    if done.indexes > 0 {
        print_line!("created {}", output::counted(done.indexes, "index", "indexes"));
    }
    Ok(())
}

async fn empty_default_partition(conn: &mut Connection, max_partitions: u16) -> CommandResult {
    let months = session::bounded_long(conn, partitions::default_partition_months).await?;
    let bar = output::progress(Some(months.len() as u64), "moving rows");
    let (mut moved_rows, mut moved_months, mut remaining_rows) = (0, 0, 0);
    let mut result = Ok(());
    for month in &months {
        if month.month.is_none() {
            remaining_rows += month.row_count.unsigned_abs();
            continue;
        }
        let moved = session::bounded_long(conn, async |conn| {
            partitions::move_month(conn, month, max_partitions).await
        });
        match moved.await {
            Ok(rows) => {
                moved_rows += rows;
                moved_months += 1;
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print_line!(
        "moved {} to {}",
        output::counted(moved_rows, "row", "rows"),
        output::counted(moved_months, "partition", "partitions")
    );
    result?;
    if remaining_rows == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    print_note!(
        "{} outside every possible month stay in the default partition",
        output::counted(remaining_rows, "row", "rows")
    );
    Ok(ExitCode::from(PARTIAL))
}
