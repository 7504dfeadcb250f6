//! `auditlog tail`: shows the newest entries, and those that are committed from then on.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use audit_ops::{OpsError, session};
use chrono::{DateTime, Utc};
use db_services::audit::feed::{Batch, Lag, Position};
use db_services::audit::query::Position as PageFrom;
use db_services::audit::query::{AuditFilter, AuditQuery};
use db_services::audit::{AuditLog, Reading};
use db_services::client::{Connection, Database};
use tokio::time::sleep;
use uuid::Uuid;

use crate::args::DatabaseArgs;
use crate::error::{CliError, CommandResult};
use crate::list;
use crate::output::{self, print_note};
use crate::query_args::{LANGUAGE, QueryArgs};
use crate::reading::{RecordArgs, answer, as_tenant, next_of_feed, of_feed};

#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  auditlog tail -f
  auditlog tail -f -n 0 -outcome:success
  auditlog tail -f --tenant acme --json action:auth.* | jq .actor_id

{LANGUAGE}

With --follow the database is asked for new entries once a second, in the order in which their transactions are committed: \
no entry is lost or shown twice, also if the connection is lost in between. An entry appears when its transaction is \
committed, whatever its time is. A transaction that has been open for more than a minute is named on standard error. Ctrl-C \
ends the command, as it ends `tail -f`, and so does a reader that closes the pipe.

On a terminal a line has the time of --time-zone, outcome, action, and what else the entry has. Otherwise it has the columns \
of `auditlog list`, with tabs between them and times in UTC; --json prints its JSON lines.

The reading is recorded in the trail when it begins (action audit.viewed), as by `auditlog list`; --no-record reads without a \
record.

Exit codes: 0 done, 2 invalid arguments, 3 the database failed."))]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// How many of the newest entries to begin with
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Wait for further entries, and show them
    #[arg(long, short)]
    follow: bool,
    /// Print JSON lines with all columns
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    record: RecordArgs,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let filter = args.query.filter()?;
    let database = args.record.open(database)?;
    let mut conn = args.record.connect_to(&database).await?;
    let (position, rows) = newest(&mut conn, &args, &filter).await?;
    for row in &rows {
        show(&args, row)?;
    }
    let Some(position) = position else {
        return Ok(ExitCode::SUCCESS);
    };
    let follower = Follower {
        args: &args,
        database,
        filter,
        position,
        shown: rows.iter().map(key).collect(),
        oldest: None,
    };
    follower.follow(conn).await
}

/// The newest entries, the oldest first, and if more are to follow, a position before which all of them were committed.
async fn newest(
    conn: &mut Connection,
    args: &Args,
    filter: &AuditFilter,
) -> Result<(Option<Position>, Vec<AuditLog>), CliError> {
    let query = AuditQuery::new(filter.clone());
    let (position, page) = session::bounded(conn, async |conn| {
        as_tenant(conn, args.query.tenant.as_deref()).await?;
        let position = match args.follow {
            true => of_feed(Position::now(conn).await)?.map(Some),
            false => Ok(None),
        };
        let page = match args.limit {
            0 => Ok(None),
            limit => answer(query.page(conn, &PageFrom::Newest, limit).await)?.map(Some),
        };
        if let (Ok(_), Ok(page)) = (&position, &page) {
            let rows = page.as_ref().map_or(0, |page| page.rows.len() as u64);
            args.record.record(conn, Reading::of(filter).rows(rows)).await?;
        }
        Ok::<_, OpsError>((position, page))
    })
    .await?;
    let mut rows = page?.map_or(Vec::new(), |page| page.rows);
    rows.reverse();
    Ok((position?, rows))
}

fn show(args: &Args, row: &AuditLog) -> Result<(), CliError> {
    if args.json {
        return output::json(row);
    }
    let zone = output::is_terminal().then_some(&args.query.zone.time_zone);
    output::single_row(list::cells(row, zone));
    Ok(())
}

/// How often the database is asked. There is no notification to wait for: sent by a trigger, it would take a lock of
/// the whole server at each commit that writes to the trail.
const POLL: Duration = Duration::from_secs(1);
/// How many rows are asked for at once.
const BATCH_ROWS: u32 = 1_000;
/// The longest wait before another attempt to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// After how long an open transaction is worth a note.
const LONG: Duration = Duration::from_secs(60);

/// The oldest open transaction, and whether it has been named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Oldest {
    tx_id: i64,
    /// When this command saw it for the first time.
    seen: Instant,
    is_named: bool,
}

struct Follower<'a> {
    args: &'a Args,
    database: Database,
    filter: AuditFilter,
    position: Position,
    /// The entries that were shown first. Those committed after the position come again.
    shown: HashSet<(Uuid, DateTime<Utc>)>,
    oldest: Option<Oldest>,
}

impl Follower<'_> {
    async fn follow(mut self, conn: Connection) -> CommandResult {
        let mut conn = Some(conn);
        let mut failures = 0;
        while output::is_open() {
            let wait = match self.next(&mut conn).await {
                Ok(batch) => {
                    if failures > 0 {
                        print_note!("auditlog: connected again");
                    }
                    failures = 0;
                    self.take(&batch?)?
                }
                Err(lost) => {
                    // A connection that failed is not used again.
                    conn = None;
                    if failures == 0 {
                        print_note!("auditlog: {lost}; trying again");
                    }
                    failures += 1;
                    backoff(failures)
                }
            };
            sleep(wait).await;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The next rows. The first error is one that another attempt may not meet, the second one stays.
    async fn next(&self, conn: &mut Option<Connection>) -> Result<Result<Batch, CliError>, CliError> {
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(self.args.record.connect_to(&self.database).await?),
        };
        let tenant = self.args.query.tenant.as_deref();
        match next_of_feed(conn, tenant, &self.position, &self.filter, BATCH_ROWS).await {
            Ok(batch) => Ok(batch.map_err(CliError::from)),
            Err(error) if error.may_pass() => Err(error.into()),
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// Shows the rows, and moves behind them. Returns how long to wait for others.
    fn take(&mut self, batch: &Batch) -> Result<Duration, CliError> {
        for row in &batch.rows {
            if !self.shown.contains(&key(row)) {
                show(self.args, row)?;
            }
        }
        self.position = batch.position.clone();
        let now = (Instant::now(), Utc::now());
        let (oldest, note) = held_back(self.oldest, oldest(&batch.lag), now);
        self.oldest = oldest;
        if let Some(note) = note {
            output::note(&note);
        }
        Ok(if batch.more { Duration::ZERO } else { POLL })
    }
}

/// What identifies an entry. Clients may give one id to several.
fn key(row: &AuditLog) -> (Uuid, DateTime<Utc>) {
    (row.id, row.created_at)
}

fn backoff(failures: u32) -> Duration {
    let wait = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(failures.min(10)));
    wait.min(LONGEST_WAIT)
}

/// The oldest open transaction before the position, and when it began. For another user's session it is visible to members of
/// `pg_read_all_stats` alone.
fn oldest(lag: &Lag) -> Option<(i64, Option<DateTime<Utc>>)> {
    let oldest = lag.oldest.as_ref().filter(|_| lag.open > 0)?;
    Some((oldest.tx_id, oldest.began))
}

/// What to say about the oldest open transaction: once for each that is open for long.
fn held_back(
    before: Option<Oldest>,
    oldest: Option<(i64, Option<DateTime<Utc>>)>,
    (now, time): (Instant, DateTime<Utc>),
) -> (Option<Oldest>, Option<String>) {
    let Some((tx_id, began)) = oldest else {
        return (None, None);
    };
    let known = before.filter(|before| before.tx_id == tx_id).unwrap_or(Oldest {
        tx_id,
        seen: now,
        is_named: false,
    });
    let is_long = now.duration_since(known.seen) > LONG
        || began.is_some_and(|began| (time - began).to_std().is_ok_and(|open| open > LONG));
    if known.is_named || !is_long {
        return (Some(known), None);
    }
    let since = match began {
        Some(began) => format!("since {}", began.format("%H:%M:%S UTC")),
        None => "for more than a minute".to_owned(),
    };
    let note =
        format!("a transaction has been open {since}: its entries, if it has any, come when it is committed");
    let named = Oldest {
        is_named: true,
        ..known
    };
    (Some(named), Some(note))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_wait_grows_up_to_half_a_minute() {
        assert_eq!(backoff(1), Duration::from_secs(1));
        assert_eq!(backoff(2), Duration::from_secs(2));
        assert_eq!(backoff(100), LONGEST_WAIT);
    }

    #[test]
    fn a_transaction_that_is_open_for_long_is_named_once() {
        let (begin, began) = (Instant::now(), Utc::now());
        let at = |seconds| {
            (
                begin + Duration::from_secs(seconds),
                began + TimeDelta::seconds(seconds as i64),
            )
        };
        // Whether or not the login may see when it began.
        for began in [Some(began), None] {
            let open = |tx_id| Some((tx_id, began));
            let (state, note) = held_back(None, open(7), at(0));
            assert_eq!(note, None);
            let (state, note) = held_back(state, open(7), at(61));
            assert!(note.is_some());
            assert_eq!(held_back(state, open(7), at(180)), (state, None));
            let (state, note) = held_back(state, open(8), at(180));
            assert_eq!(note.is_some(), began.is_some(), "it was seen a moment ago");
            assert_eq!(held_back(state, open(8), at(241)).1.is_some(), began.is_none());
            assert_eq!(held_back(state, None, at(241)), (None, None));
        }
    }
}
