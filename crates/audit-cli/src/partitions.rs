//! `auditlog partitions`: which months are there?

use std::process::ExitCode;

use audit_ops::partitions::{self, Partition};
use chrono::{DateTime, Months, Utc};
use db_services::client::Connection;

use crate::args::Partitions;
use crate::database::for_upkeep;
use crate::failure::{Done, IN_PART};
use crate::output::{self, Cell};

pub(crate) async fn run(url: Option<&str>, action: Partitions) -> Done {
    let mut conn = for_upkeep(url).await?;
    match action {
        Partitions::List { json } => list(&mut conn, json).await,
        Partitions::Ensure { from, to } => {
            let now = Utc::now();
            let ahead = now.checked_add_months(Months::new(24)).unwrap_or(now);
            ensure(&mut conn, from.unwrap_or(now), to.unwrap_or(ahead)).await
        }
        Partitions::AdoptStrays => adopt(&mut conn).await,
    }
}

async fn list(conn: &mut Connection, json: bool) -> Done {
    let all = partitions::list(conn).await?;
    if json {
        for partition in &all {
            output::text(&serde_json::to_string(partition)?);
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
        // Only the default partition and those made by hand are no month; rows in it have none.
        (None, true) => Cell::doubtful(&partition.partition),
        _ => Cell::plain(&partition.partition),
    };
    vec![
        name,
        Cell::plain(partition.from_time.as_deref().unwrap_or_default()),
        Cell::plain(output::number(partition.row_count.unsigned_abs())),
        Cell::plain(output::size(partition.bytes)),
    ]
}

async fn ensure(conn: &mut Connection, from: DateTime<Utc>, to: DateTime<Utc>) -> Done {
    let bar = output::progress(Some(0), "making months");
    let made = partitions::ensure(conn, from, to, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    println!("made {} months", output::number(made?));
    // Who may make months need not be allowed to look.
    if let Ok(strays) = partitions::strays(conn).await
        && !strays.is_empty()
    {
        eprintln!(
            "rows of {} months lie in the default partition; these months were left out: `auditlog partitions adopt-strays`",
            strays.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn adopt(conn: &mut Connection) -> Done {
    let strays = partitions::strays(conn).await?;
    let bar = output::progress(Some(strays.len() as u64), "moving rows");
    let (mut moved, mut months, mut left) = (0, 0, 0);
    for stray in &strays {
        match &stray.month {
            Some(_) => {
                moved += partitions::adopt(conn, stray).await?;
                months += 1;
            }
            None => left += stray.row_count.unsigned_abs(),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!(
        "moved {} rows into {} months",
        output::number(moved),
        output::number(months)
    );
    if left > 0 {
        eprintln!(
            "{} rows have times that no month can hold, and stay in the default partition",
            output::number(left)
        );
    }
    Ok(if left > 0 {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}
