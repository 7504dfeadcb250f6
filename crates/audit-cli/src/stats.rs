//! `auditlog stats`: how many entries there are, by time and by the values of a column.

mod buckets;
mod by;
mod chart;

use std::process::ExitCode;
use std::time::Duration;

use audit_ops::{OpsError, session};
use chrono::{DateTime, SecondsFormat, Utc};
use db_services::audit::Reading;
use db_services::audit::query::{AuditQuery, Count, QueryError, TopValue};
use db_services::client::Connection;
use serde::Serialize;

use crate::args::DatabaseArgs;
use crate::error::{CliError, CommandResult, FAILED};
use crate::output;
use crate::query_args::{LANGUAGE, QueryArgs};
use crate::reading::{self, RECORDED, ReadArgs};
use buckets::{Bucket, Every};
use by::By;

/// What is counted before "more than" is enough.
const BOUND: u32 = 10_000;

#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  auditlog stats                                     all entries by time, and by action
  auditlog stats since:7d --every 1d --by actor      who did how much in the last week?
  auditlog stats outcome:denied --by ip --by actor --top 5
  auditlog stats --json since:1d | jq '.by[0].values'

{LANGUAGE}

On a terminal the output is a bar chart. Otherwise it is lines of three columns with tabs between them: what is counted \
(entries, time, or a column), the value, and the number of entries. --json prints one JSON object. Days, weeks and months \
are those of --time-zone, whether they have 23, 24 or 25 hours; outside of terminals their beginning is printed in UTC.

The charts read each entry that the query asks for. If one of them takes longer than 30 seconds, only the number of \
entries is shown, counted up to 10,000, and the error says what to narrow (exit code 3).

{RECORDED}

Exit codes: 0 done, 2 invalid arguments, 3 the database failed, or the query took too long."))]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// Count by the values of this column; can be repeated
    #[arg(long, value_name = "COLUMN", default_value = "action")]
    by: Vec<By>,
    /// The time of a bar
    #[arg(long, value_name = "TIME", default_value = "auto")]
    every: Every,
    /// How many values of a column
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    top: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    read: ReadArgs,
}

/// What was counted.
#[derive(Debug, Serialize)]
struct Stats {
    entries: Count,
    every: Option<Every>,
    time: Vec<Bucket>,
    by: Vec<Values>,
}

/// The most frequent values of a column.
#[derive(Debug, Serialize)]
struct Values {
    column: By,
    values: Vec<TopValue>,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    run_within(database, args, AuditQuery::TIME_LIMIT).await
}

/// `limit` is that of each statement of the charts.
async fn run_within(database: &DatabaseArgs, args: Args, limit: Duration) -> CommandResult {
    let query = AuditQuery::new(args.query.filter()?).time_limit(limit);
    let mut conn = args.read.connect(database).await?;
    let (stats, late) = session::bounded(&mut conn, async |conn| {
        reading::as_tenant(conn, args.query.tenant.as_deref()).await?;
        let counted = counted(conn, &query, &args).await?;
        if counted.is_ok() {
            args.read.record(conn, Reading::of(query.filter())).await?;
        }
        Ok::<_, OpsError>(counted)
    })
    .await??;
    if !args.json {
        args.read.start_pager();
    }
    match (args.json, output::is_terminal()) {
        (true, _) => output::json(&stats)?,
        (false, true) => chart::show(&stats, &args.query.zone.time_zone),
        (false, false) => plain(&stats).iter().for_each(|line| output::text(line)),
    }
    late.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The statistics, and the error if the charts took too long.
async fn counted(
    conn: &mut Connection,
    query: &AuditQuery,
    args: &Args,
) -> Result<Result<(Stats, Option<CliError>), CliError>, OpsError> {
    match charts(conn, query, args).await {
        Ok((every, time, by)) => {
            // The chart has read each entry.
            let entries = Count::Exactly(time.iter().map(|bucket| bucket.rows).sum());
            let stats = Stats {
                entries,
                every,
                time,
                by,
            };
            Ok(Ok((stats, None)))
        }
        Err(error @ QueryError::TimeLimit { .. }) => {
            let late = CliError::from(error).with_exit_code(FAILED);
            let bounded = AuditQuery::new(query.filter().clone());
            let entries = reading::answer(bounded.count(conn, BOUND).await)?;
            Ok(entries.map(|entries| {
                let stats = Stats {
                    entries,
                    every: None,
                    time: Vec::new(),
                    by: Vec::new(),
                };
                (stats, Some(late))
            }))
        }
        Err(error) => reading::answer(Err(error)),
    }
}

type Charts = (Option<Every>, Vec<Bucket>, Vec<Values>);

async fn charts(conn: &mut Connection, query: &AuditQuery, args: &Args) -> Result<Charts, QueryError> {
    let (every, time) = buckets::by_time(conn, query, args.every, &args.query.zone.time_zone).await?;
    let mut by = Vec::new();
    for column in args.by.iter().copied() {
        let values = column.top(conn, query, args.top).await?;
        by.push(Values { column, values });
    }
    Ok((Some(every), time, by))
}

/// Lines with tabs between the columns.
fn plain(stats: &Stats) -> Vec<String> {
    let mut lines = vec!["counted\tvalue\tentries".to_owned()];
    lines.push(match stats.entries {
        Count::Exactly(entries) => format!("entries\t\t{entries}"),
        Count::MoreThan(bound) => format!("entries\t\t>{bound}"),
    });
    let time = |start: DateTime<Utc>| start.to_rfc3339_opts(SecondsFormat::Secs, true);
    let buckets = stats.time.iter();
    lines.extend(buckets.map(|bucket| format!("time\t{}\t{}", time(bucket.start), bucket.rows)));
    for Values { column, values } in &stats.by {
        lines.extend(values.iter().map(|value| {
            let text = output::printable(value.value.as_deref().unwrap_or_default());
            format!("{}\t{text}\t{}", column.name(), value.rows)
        }));
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use db_services::audit::query::AuditFilter;
    use db_services::client::Database;
    use diesel_async::SimpleAsyncConnection;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// A limit of no time ends each chart on SQLite at its first row.
    #[tokio::test]
    async fn entries_are_counted_up_to_the_bound_if_the_charts_take_too_long() {
        let database = Database::from_url("sqlite::memory:").unwrap();
        database.migrate().await.unwrap();
        let mut conn = database.connection().await.unwrap();
        let Connection::Sqlite(sqlite) = &mut conn else {
            panic!("PostgreSQL")
        };
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) \
                    INSERT INTO audit_logs (action) SELECT iif(i = 1, 'y', 'x') FROM n";
        sqlite.batch_execute(rows).await.unwrap();
        let args = Line::parse_from(["stats"]).args;
        for (query, entries, shown) in [
            ("", r#"{"more_than":10000}"#, "entries\t\t>10000"),
            ("action:x", r#"{"exactly":10000}"#, "entries\t\t10000"),
        ] {
            let filter = AuditFilter::parse(query, &Utc::now()).unwrap();
            let query = AuditQuery::new(filter).time_limit(Duration::ZERO);
            let (stats, late) = counted(&mut conn, &query, &args).await.unwrap().unwrap();
            let late = late.unwrap();
            assert!(late.to_string().contains("since:1d"), "{late}");
            let json = serde_json::to_string(&stats).unwrap();
            assert_eq!(
                json,
                format!(r#"{{"entries":{entries},"every":null,"time":[],"by":[]}}"#)
            );
            assert_eq!(plain(&stats), ["counted\tvalue\tentries", shown]);
        }
    }

    #[tokio::test]
    async fn charts_that_take_too_long_are_an_exit_code_and_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("audit.db").display());
        let database = Database::from_url(&url).unwrap();
        database.migrate().await.unwrap();
        let mut conn = database.connection().await.unwrap();
        let Connection::Sqlite(sqlite) = &mut conn else {
            panic!("PostgreSQL")
        };
        let row = "INSERT INTO audit_logs (action) VALUES ('x')";
        sqlite.batch_execute(row).await.unwrap();
        let named = DatabaseArgs {
            database_url: Some(url),
        };
        for (limit, expected) in [
            (Duration::ZERO, ExitCode::from(FAILED)),
            (AuditQuery::TIME_LIMIT, ExitCode::SUCCESS),
        ] {
            let args = Line::parse_from(["stats"]).args;
            let verdict = run_within(&named, args, limit).await;
            assert_eq!(verdict.unwrap_or_else(|error| error.report()), expected);
        }
        let viewed = AuditFilter::parse("action:audit.viewed", &Utc::now()).unwrap();
        let records = AuditQuery::new(viewed).count(&mut conn, 9).await.unwrap();
        assert_eq!(records, Count::Exactly(2));
    }
}
