//! `auditlog partitions`: lists and creates monthly partitions, and empties the default partition.

use std::process::ExitCode;

use audit_ops::partitions::{self, Partition};
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
  auditlog partitions ensure                      for the next 24 months
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
    /// Create the missing partitions, for at most 1,200 months
    #[command(after_help = EXIT_CODES)]
    Ensure {
        /// From the month of this date on [default: now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        from: Option<DateTime<Utc>>,
        /// Up to the month of this date [default: 24 months from now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        to: Option<DateTime<Utc>>,
    },
    /// Move rows from the default partition to monthly partitions, which it creates
    #[command(after_help = "\
Exit codes: 0 done, 1 rows outside every possible month stay in the default partition, 2 invalid arguments, 3 the \
database failed.")]
    MoveDefault,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let mut conn = maintenance_connection(database).await?;
    match args {
        Args::List { json } => list(&mut conn, json).await,
        Args::Ensure { from, to } => {
            let now = Utc::now();
            let in_two_years = now.checked_add_months(Months::new(24)).unwrap_or(now);
            ensure(&mut conn, from.unwrap_or(now), to.unwrap_or(in_two_years)).await
        }
        Args::MoveDefault => empty_default_partition(&mut conn).await,
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
            &["partition", "from (UTC)", "rows", "size"],
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
    ]
}

async fn ensure(conn: &mut Connection, from: DateTime<Utc>, to: DateTime<Utc>) -> CommandResult {
    let bar = output::progress(Some(0), "creating partitions");
    let created = partitions::ensure(conn, from, to, |done, total| {
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

async fn empty_default_partition(conn: &mut Connection) -> CommandResult {
    let months = session::bounded_long(conn, partitions::default_partition_months).await?;
    let bar = output::progress(Some(months.len() as u64), "moving rows");
    let (mut moved_rows, mut moved_months, mut remaining_rows) = (0, 0, 0);
    for month in &months {
        if month.month.is_some() {
            moved_rows +=
                session::bounded_long(conn, async |conn| partitions::move_month(conn, month).await).await?;
            moved_months += 1;
        } else {
            remaining_rows += month.row_count.unsigned_abs();
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print_line!(
        "moved {} to {}",
        output::counted(moved_rows, "row", "rows"),
        output::counted(moved_months, "partition", "partitions")
    );
    if remaining_rows == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    print_note!(
        "{} outside every possible month stay in the default partition",
        output::counted(remaining_rows, "row", "rows")
    );
    Ok(ExitCode::from(PARTIAL))
}
