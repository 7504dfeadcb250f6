//! Reads the feed from PostgreSQL.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use db_schema::schema;
use diesel::data_types::PgTimestamp;
use diesel::query_builder::AsQuery;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use uuid::Uuid;

use super::budget::Budget;
use super::error::FeedError;
use super::frontier::Frontier;
use super::position::{Position, State};
use super::state::{Inside, Key, Origin, Part, Snapshot, Way, Window};
use super::{Batch, Lag, OldestTransaction, PATIENCE, statements};
use crate::audit::AuditLog;
use crate::audit::query::AuditFilter;
use crate::audit::query::run::{self, Failure};
use crate::audit::query::sql::Sql;

/// How many transactions are looked at for a row by which an older copy of the files is noticed.
const LOOK_BACK: i64 = 1 << 16;

impl From<Failure> for FeedError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => Self::Database(error),
            // Only a limit of time ends a statement, and there is none.
            Failure::Late => Self::Database(diesel::result::Error::QueryBuilderError(
                "the statement was ended".into(),
            )),
        }
    }
}

/// What the server says.
struct Facts {
    origin: Origin,
    snapshot: Snapshot,
    /// No transaction before it is given its id a second time after a crash, unless it is open.
    durable: i64,
    /// Where the log ended after the snapshot was taken.
    log_end: String,
    oldest_began: Option<DateTime<Utc>>,
    statement_timeout: Option<Duration>,
    has_last: bool,
}

impl Facts {
    /// The server ends a statement with an error that diesel knows no kind of.
    fn has_timed_out(&self, error: &FeedError, time: Duration) -> bool {
        let is_ended = matches!(
            error,
            FeedError::Database(Error::DatabaseError(DatabaseErrorKind::Unknown, _))
        );
        is_ended && self.statement_timeout.is_some_and(|timeout| time >= timeout)
    }
}

/// A row, and its key as the database stores it: a row may claim infinity.
type Keyed = (AuditLog, Key);

pub(super) async fn now(conn: &mut AsyncPgConnection) -> Result<Position, FeedError> {
    let facts = facts(conn, None).await?;
    let ahead = number(conn, statements::newest_ahead()).await?;
    let (mut end, mut last) = (facts.snapshot.end, None);
    if facts.durable < end {
        // What is visible was committed, and is on the disk.
        last = newest(conn, facts.durable, end).await?;
        end = last.map_or(facts.durable, |last| last.tx + 1);
    }
    let mut frontier = Frontier::now(facts.origin, &facts.snapshot, end, ahead);
    frontier.last = match last {
        Some(last) => Some(last),
        None => newest_before(conn, end).await?,
    };
    Ok(Position(State::Postgres(Box::new(frontier))))
}

pub(super) async fn next(
    conn: &mut AsyncPgConnection,
    state: &State,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Batch, FeedError> {
    let scope = run::begin(conn, None).await?;
    let batch = read(conn, state, filter, limit).await;
    let ended = run::end(conn, scope).await;
    let batch = batch?;
    ended?;
    Ok(batch)
}

async fn read(
    conn: &mut AsyncPgConnection,
    state: &State,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Batch, FeedError> {
    let kept = match state {
        State::Postgres(frontier) => Some(frontier.as_ref()),
        State::Beginning => None,
        State::Sqlite(_) => return Err(FeedError::OtherDatabase("kind of database")),
    };
    let facts = facts(conn, kept.and_then(|kept| kept.last)).await?;
    let mut frontier = match kept {
        Some(kept) => {
            kept.check(&facts.origin, &facts.snapshot)?;
            kept.clone()
        }
        None => {
            let ahead = number(conn, statements::newest_ahead()).await?;
            Frontier::beginning(facts.origin.clone(), &facts.snapshot, ahead)
        }
    };
    if !facts.has_last {
        return Err(FeedError::LastRowMissing);
    }
    conn.batch_execute(statements::SETTINGS).await?;
    let (mut durable, mut has_failed) = (frontier.durable().max(facts.durable), false);
    let begun = Instant::now();
    let mut rows = Vec::new();
    while let Some(window) = frontier.window(&facts.snapshot) {
        let (before, step_begun) = (frontier.clone(), Instant::now());
        rows = match step(conn, &mut frontier, &facts.snapshot, &window, filter, limit).await {
            Ok(rows) => rows,
            // The transaction has failed: the next call goes on with narrower windows.
            Err(error) if facts.has_timed_out(&error, step_begun.elapsed()) => {
                frontier = before;
                if !frontier.timed_out(&window) {
                    return Err(error);
                }
                has_failed = true;
                break;
            }
            Err(error) => return Err(error),
        };
        if let (Part::New, Some((_, last))) = (window.part, rows.last()) {
            durable = durable.max(last.tx.saturating_add(1));
        }
        if !rows.is_empty() || window.inside.is_some() || begun.elapsed() > PATIENCE {
            break;
        }
    }
    // Transactions that `settle` leaves for the next call have no rows.
    let more = frontier.window(&facts.snapshot).is_some();
    // While others write, the log is never on the disk up to its end. By now it is up to where it ended at the beginning.
    if durable < frontier.next && !has_failed && is_flushed(conn, &facts).await? {
        durable = facts.snapshot.end;
    }
    frontier.settle(durable);
    if !has_failed && *filter != AuditFilter::new() {
        // An older copy of the files may have the last row that passed the filter.
        let returned = frontier
            .last
            .filter(|_| !rows.is_empty())
            .map_or(0, |last| last.tx.saturating_add(1));
        let from = kept
            .map_or(0, |kept| kept.next)
            .max(returned)
            .max(frontier.next.saturating_sub(LOOK_BACK));
        if from < frontier.next {
            frontier.last = newest(conn, from, frontier.next).await?.or(frontier.last);
        }
    }
    Ok(Batch {
        rows: rows.into_iter().map(|(row, _)| row).collect(),
        lag: lag(&frontier, &facts),
        position: Position(State::Postgres(Box::new(frontier))),
        more,
    })
}

/// Reads a window and moves the position over it.
async fn step(
    conn: &mut AsyncPgConnection,
    frontier: &mut Frontier,
    snapshot: &Snapshot,
    window: &Window,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Vec<Keyed>, FeedError> {
    let begun = Instant::now();
    let mut budget = Budget::new();
    let (mut rows, is_cut) = match window.inside {
        Some(Inside {
            after,
            way: Way::Indexed(until),
        }) => inside(conn, window, after, until, filter, limit, &mut budget).await?,
        _ => {
            load(
                conn,
                statements::rows(window, filter, more_than(limit)),
                &mut budget,
            )
            .await?
        }
    };
    // The last one shows that there are more, as the one beyond the limit does.
    let limit = if is_cut { rows.len() - 1 } else { limit };
    let keys: Vec<Key> = rows.iter().map(|(_, key)| *key).collect();
    rows.truncate(frontier.advance(window, snapshot, &keys, limit));
    frontier.took(begun.elapsed());
    if let (None, Some(inside)) = (window.inside, &mut frontier.inside) {
        let size = statements::size(inside.after.tx).returning::<(BigInt, Nullable<Timestamptz>)>();
        let found: Vec<(i64, Option<PgTimestamp>)> = run::postgres(conn, size).await?;
        if let Some((rows, Some(last_time))) = found.into_iter().next() {
            inside.way = statements::way(rows, last_time.0, limit);
        }
    }
    Ok(rows)
}

/// Reads on within a transaction that is too large to be sorted for each batch.
async fn inside(
    conn: &mut AsyncPgConnection,
    window: &Window,
    after: Key,
    until: i64,
    filter: &AuditFilter,
    limit: usize,
    budget: &mut Budget,
) -> Result<(Vec<Keyed>, bool), FeedError> {
    conn.batch_execute(statements::INDEXED).await?;
    let wanted = more_than(limit);
    let at_time = statements::at_time(window, after, filter, wanted);
    let (mut rows, mut is_cut) = load(conn, at_time, budget).await?;
    let missing = wanted.saturating_sub_unsigned(rows.len() as u64);
    if !is_cut && missing > 0 && after.created_at < until {
        let behind = statements::behind_time(window, after, until, filter, missing);
        let (more, is_more_cut) = load(conn, behind, budget).await?;
        rows.extend(more);
        is_cut = is_more_cut;
    }
    Ok((rows, is_cut))
}

fn more_than(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

/// Rows, and whether they end with the first for which there was no room.
pub(super) async fn load(
    conn: &mut AsyncPgConnection,
    sql: Sql,
    budget: &mut Budget,
) -> Result<(Vec<Keyed>, bool), FeedError> {
    type Row = (<schema::audit_logs::table as AsQuery>::SqlType, Timestamptz);
    let found = run::postgres_until(
        conn,
        sql.returning::<Row>(),
        |(row, _): &(AuditLog, PgTimestamp)| !budget.take(row),
    );
    let (found, is_cut) = found.await?;
    let keyed = found.into_iter().map(|(row, time)| {
        let key = Key {
            tx: row.tx_id,
            created_at: time.0,
            id: row.id,
        };
        (row, key)
    });
    Ok((keyed.collect(), is_cut))
}

async fn newest(conn: &mut AsyncPgConnection, from: i64, to: i64) -> Result<Option<Key>, FeedError> {
    type Row = (BigInt, Timestamptz, diesel::sql_types::Uuid);
    let newest = statements::newest(from, to).returning::<Row>();
    let found: Vec<(i64, PgTimestamp, Uuid)> = run::postgres(conn, newest).await?;
    let key = |(tx, time, id): (i64, PgTimestamp, Uuid)| Key {
        tx,
        created_at: time.0,
        id,
    };
    Ok(found.into_iter().next().map(key))
}

/// The newest row before a transaction, if it is not far.
async fn newest_before(conn: &mut AsyncPgConnection, end: i64) -> Result<Option<Key>, FeedError> {
    let (mut to, mut width) = (end, LOOK_BACK >> 6);
    while to > 0 && width <= LOOK_BACK {
        let from = (to - width).max(0);
        let found = newest(conn, from, to).await?;
        if found.is_some() {
            return Ok(found);
        }
        (to, width) = (from, width * 4);
    }
    Ok(None)
}

async fn is_flushed(conn: &mut AsyncPgConnection, facts: &Facts) -> Result<bool, FeedError> {
    let flushed = statements::is_flushed(&facts.log_end).returning::<Bool>();
    Ok(run::postgres(conn, flushed).await?.contains(&true))
}

async fn number(conn: &mut AsyncPgConnection, sql: Sql) -> Result<Option<i64>, FeedError> {
    let found: Vec<Option<i64>> = run::postgres(conn, sql.returning::<Nullable<BigInt>>()).await?;
    Ok(found.into_iter().next().flatten())
}

async fn facts(conn: &mut AsyncPgConnection, last: Option<Key>) -> Result<Facts, FeedError> {
    type Row = (
        Bool,
        BigInt,
        Text,
        BigInt,
        BigInt,
        Bool,
        Text,
        BigInt,
        Nullable<Timestamptz>,
        Text,
        BigInt,
        Bool,
    );
    type Found = (
        bool,
        i64,
        String,
        i64,
        i64,
        bool,
        String,
        i64,
        Option<DateTime<Utc>>,
        String,
        i64,
        bool,
    );
    let found: Vec<Found> = run::postgres(conn, statements::facts(last).returning::<Row>()).await?;
    let Some(found) = found.into_iter().next() else {
        return Err(diesel::result::Error::NotFound.into());
    };
    let (
        is_standby,
        system,
        wal_file,
        database,
        table,
        has_written,
        snapshot,
        durable,
        oldest_began,
        log_end,
        statement_timeout,
        has_last,
    ) = found;
    if is_standby {
        return Err(FeedError::Standby);
    } else if has_written {
        return Err(FeedError::TransactionHasWritten);
    }
    // The name of a file of the log begins with eight digits for the timeline.
    let timeline = wal_file
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let (Some(timeline), Some(snapshot)) = (timeline, Snapshot::parse(&snapshot)) else {
        let unknown = format!("PostgreSQL reports an unknown snapshot or log file: {snapshot}, {wal_file}");
        return Err(diesel::result::Error::DeserializationError(unknown.into()).into());
    };
    Ok(Facts {
        origin: Origin {
            system,
            timeline,
            database,
            table,
        },
        snapshot,
        durable,
        log_end,
        oldest_began,
        statement_timeout: u64::try_from(statement_timeout)
            .ok()
            .filter(|&millis| millis > 0)
            .map(Duration::from_millis),
        has_last,
    })
}

fn lag(frontier: &Frontier, facts: &Facts) -> Lag {
    let snapshot = &facts.snapshot;
    let oldest = snapshot.running.first().map(|&tx_id| OldestTransaction {
        tx_id,
        behind: snapshot.end.saturating_sub(tx_id).max(0).unsigned_abs(),
        began: facts.oldest_began,
    });
    Lag {
        unread: frontier.unread(snapshot),
        open: frontier.running.len(),
        oldest,
    }
}
