//! Reads the feed from SQLite.

use std::time::Instant;

use db_schema::sqlite::schema;
use diesel::query_builder::AsQuery;
use diesel::sql_types::{BigInt, Binary, Nullable};
use uuid::Uuid;

use super::budget::Budget;
use super::error::FeedError;
use super::place::{File, Place};
use super::position::{Position, State};
use super::{Batch, Lag, PATIENCE};
use crate::audit::AuditLog;
use crate::audit::query::AuditFilter;
use crate::audit::query::conditions::push_conditions;
use crate::audit::query::run;
use crate::audit::query::sql::{Dialect, Run, Sql, Value};
use crate::client::AsyncSqliteConnection;

/// How many rows are examined with a statement, unless the limit is larger: few may pass the filter.
const EXAMINED: i64 = 10_000;

pub(super) async fn now(conn: &mut AsyncSqliteConnection) -> Result<Position, FeedError> {
    let file = file(conn, 0).await?;
    Ok(Position(State::Sqlite(Place {
        file: file.id,
        seq: file.newest,
        id: file.newest_id,
    })))
}

pub(super) async fn next(
    conn: &mut AsyncSqliteConnection,
    state: &State,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Batch, FeedError> {
    let kept = match state {
        State::Sqlite(place) => Some(place),
        State::Beginning => None,
        State::Postgres(_) => return Err(FeedError::OtherDatabase("kind of database")),
    };
    let file = file(conn, kept.map_or(0, |kept| kept.seq)).await?;
    let mut place = match kept {
        Some(kept) => {
            kept.check(&file)?;
            kept.clone()
        }
        None => Place::beginning(&file),
    };
    let begun = Instant::now();
    let mut rows = Vec::new();
    while rows.is_empty() && place.seq < file.newest && begun.elapsed() <= PATIENCE {
        rows = step(conn, &mut place, file.newest, filter, limit).await?;
    }
    let more = place.seq < file.newest;
    Ok(Batch {
        rows,
        lag: Lag {
            unread: (file.newest - place.seq).unsigned_abs(),
            open: 0,
            oldest: None,
        },
        position: Position(State::Sqlite(place)),
        more,
    })
}

/// Reads the rows behind a place and moves it over those that were examined.
async fn step(
    conn: &mut AsyncSqliteConnection,
    place: &mut Place,
    newest: i64,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Vec<AuditLog>, FeedError> {
    type Row = (<schema::audit_logs::table as AsQuery>::SqlType, BigInt);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let to = place.seq.saturating_add(limit.max(EXAMINED)).min(newest);
    let select = rows(place.seq, to, filter, limit).returning::<Row>();
    let mut budget = Budget::new();
    let found = run::sqlite_until(conn, select, move |(row, _): &(AuditLog, i64)| {
        budget.take(row);
        budget.is_spent()
    });
    let (found, is_spent) = found.await?;
    let is_full = is_spent || i64::try_from(found.len()).is_ok_and(|count| count == limit);
    place.seq = match found.last() {
        Some(&(_, last)) if is_full => last,
        _ => to,
    };
    place.id = self::file(conn, place.seq).await?.at_place;
    Ok(found.into_iter().map(|(row, _)| row).collect())
}

/// The rows with a number from behind `after` up to `to`, in the order of the numbers.
pub(super) fn rows(after: i64, to: i64, filter: &AuditFilter, limit: i64) -> Sql {
    let mut sql = Sql::new(Dialect::Sqlite, Run::Once, "SELECT ");
    // The order is read first, and each row by its key.
    sql.push_columns().push(
        ", o.seq FROM audit_feed_order AS o CROSS JOIN audit_logs USING (id, created_at) WHERE o.seq > ",
    );
    sql.bind(Value::Number(after)).push(" AND o.seq <= ");
    sql.bind(Value::Number(to));
    push_conditions(&mut sql, filter);
    sql.push(" ORDER BY o.seq LIMIT ").bind(Value::Number(limit));
    sql
}

async fn file(conn: &mut AsyncSqliteConnection, seq: i64) -> Result<File, FeedError> {
    type Row = (Binary, BigInt, Nullable<Binary>, Nullable<Binary>);
    type Found = (Vec<u8>, i64, Option<Vec<u8>>, Option<Vec<u8>>);
    let mut sql = Sql::new(
        Dialect::Sqlite,
        Run::Prepared,
        "SELECT f.id, coalesce(n.seq, 0), n.id, (SELECT o.id FROM audit_feed_order AS o WHERE o.seq = ",
    );
    sql.bind(Value::Number(seq)).push(
        ") FROM audit_feed_file AS f \
         LEFT JOIN audit_feed_order AS n ON n.seq = (SELECT max(seq) FROM audit_feed_order)",
    );
    let found: Vec<Found> = run::sqlite(conn, sql.returning::<Row>()).await?;
    let Some((id, newest, newest_id, at_place)) = found.into_iter().next() else {
        return Err(diesel::result::Error::NotFound.into());
    };
    let uuid = |bytes: Vec<u8>| Uuid::from_slice(&bytes).unwrap_or_default();
    Ok(File {
        id: uuid(id),
        newest,
        newest_id: newest_id.map(uuid),
        at_place: at_place.map(uuid),
    })
}
