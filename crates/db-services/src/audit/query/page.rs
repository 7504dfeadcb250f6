//! Pages of rows by keyset, and a stream of them.

use std::time::Duration;

use db_schema::{schema, sqlite};
use diesel::data_types::PgTimestamp;
use diesel::query_builder::AsQuery;
use diesel::sql_types::{BigInt, Timestamptz};
use futures_util::{Stream, TryStreamExt, stream};

use super::conditions::push_where;
use super::cursor::{Cursor, fingerprint};
use super::filter::AuditFilter;
use super::run::{self, Failure, dialect};
use super::sql::{Dialect, Sql, Value};
use super::{AuditQuery, QueryError};
use crate::audit::AuditLog;
use crate::client::Connection;

/// The rows that a stream reads at a time.
const STREAMED: u32 = 500;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the newest row.
    Newest,
    /// At the oldest row.
    Oldest,
    /// Behind a cursor, towards older rows.
    OlderThan(Cursor),
    /// Behind a cursor, towards newer rows.
    NewerThan(Cursor),
}

/// The order of rows, by `created_at` and then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest rows first.
    NewestFirst,
    /// The oldest rows first.
    OldestFirst,
}

/// Some rows of a query, the newest first, and where it goes on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The rows, the newest first whichever way the page was read.
    pub rows: Vec<AuditLog>,
    /// Before the first row. It can be kept to ask for rows that arrive later. None for an empty page.
    pub newer: Option<Cursor>,
    /// Behind the last row. None for an empty page.
    pub older: Option<Cursor>,
    /// Whether the query has further rows in the direction in which the page was read.
    pub has_more: bool,
}

impl Position {
    fn order(&self) -> Order {
        match self {
            Self::Newest | Self::OlderThan(_) => Order::NewestFirst,
            Self::Oldest | Self::NewerThan(_) => Order::OldestFirst,
        }
    }

    fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::Newest | Self::Oldest => None,
            Self::OlderThan(cursor) | Self::NewerThan(cursor) => Some(cursor),
        }
    }
}

/// A row, and its time as the database stores it: a row may claim infinity.
pub(super) type Keyed = (AuditLog, i64);

impl AuditQuery {
    /// Returns at most `limit` rows from `position` on.
    ///
    /// A page is found by its place in the order of `created_at` and id, so the ten-thousandth costs what the first
    /// one costs where an index serves the order, and rows that arrive meanwhile shift nothing: no row comes twice,
    /// and each row that was there at the start of a walk comes once. A row that arrives with a time that was
    /// passed already does not come.
    ///
    /// # Errors
    /// For a cursor of another filter; when the time limit is reached; when the database does not answer or has no
    /// table.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. On PostgreSQL drop the connection with it: the transaction of the statement was
    /// left open, and the pool closes such a connection. On SQLite the statement still ends by itself.
    pub async fn page(
        &self,
        conn: &mut Connection,
        position: &Position,
        limit: u32,
    ) -> Result<Page, QueryError> {
        let dialect = dialect(conn);
        self.check()?;
        if let Some(cursor) = position.cursor() {
            cursor.check(dialect, self.filter())?;
        }
        let wanted = limit as usize;
        let order = position.order();
        let mut sql = select(dialect, self.filter(), position, i64::from(limit) + 1);
        if self.limit().is_none() {
            sql.keep();
        }
        let mut rows = load(conn, sql, self.limit())
            .await
            .map_err(|failure| self.error(failure))?;
        let has_more = rows.len() > wanted;
        rows.truncate(wanted);
        if order == Order::OldestFirst {
            rows.reverse();
        }
        Ok(self.to_page(dialect, rows, has_more))
    }

    fn to_page(&self, dialect: Dialect, rows: Vec<Keyed>, has_more: bool) -> Page {
        let fingerprint = fingerprint(self.filter());
        let cursor = |(row, created_at): &Keyed| Cursor {
            dialect,
            created_at: *created_at,
            id: row.id,
            fingerprint,
        };
        Page {
            newer: rows.first().map(cursor),
            older: rows.last().map(cursor),
            rows: rows.into_iter().map(|(row, _)| row).collect(),
            has_more,
        }
    }

    /// Returns all rows, one after the other. It reads 500 of them at a time, each time with the time limit, and holds
    /// no transaction between them: memory stays constant, and rows that arrive are treated as
    /// [`page`](Self::page) has it.
    ///
    /// ```no_run
    /// use db_services::audit::query::{AuditFilter, AuditQuery, Condition, Order, QueryError};
    /// use db_services::client::Connection;
    /// use futures_util::TryStreamExt;
    ///
    /// # async fn print(conn: &mut Connection) -> Result<(), QueryError> {
    /// let query = AuditQuery::new(AuditFilter::new().and(Condition::actor("alice")));
    /// let mut rows = std::pin::pin!(query.rows(conn, Order::OldestFirst));
    /// while let Some(row) = rows.try_next().await? {
    ///     println!("{} {}", row.created_at, row.action);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`page`](Self::page). The stream ends with its first error.
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub fn rows<'a>(
        &'a self,
        conn: &'a mut Connection,
        order: Order,
    ) -> impl Stream<Item = Result<AuditLog, QueryError>> + Send + 'a {
        let start = match order {
            Order::NewestFirst => Position::Newest,
            Order::OldestFirst => Position::Oldest,
        };
        let pages = stream::try_unfold((conn, Some(start)), move |(conn, position)| async move {
            let Some(position) = position else {
                return Ok(None);
            };
            let mut page = self.page(conn, &position, STREAMED).await?;
            if order == Order::OldestFirst {
                page.rows.reverse();
            }
            let next = match order {
                _ if !page.has_more => None,
                Order::NewestFirst => page.older.map(Position::OlderThan),
                Order::OldestFirst => page.newer.map(Position::NewerThan),
            };
            let rows = stream::iter(page.rows.into_iter().map(Ok));
            Ok::<_, QueryError>(Some((rows, (conn, next))))
        });
        pages.try_flatten()
    }
}

pub(super) fn select(dialect: Dialect, filter: &AuditFilter, position: &Position, limit: i64) -> Sql {
    let mut sql = Sql::new(dialect, "SELECT ");
    sql.push_columns().push(", created_at FROM audit_logs");
    push_where(&mut sql, filter);
    if let Some(cursor) = position.cursor() {
        push_behind(&mut sql, cursor, position.order());
    }
    sql.push(match position.order() {
        Order::NewestFirst => " ORDER BY created_at DESC, id DESC LIMIT ",
        Order::OldestFirst => " ORDER BY created_at, id LIMIT ",
    });
    sql.bind(Value::Number(limit));
    sql
}

/// The rows behind a cursor. The first comparison is one that an index and the bounds of partitions serve; of
/// `(created_at, id) < ($1, $2)` partitions know nothing.
fn push_behind(sql: &mut Sql, cursor: &Cursor, order: Order) {
    let (within, beyond, after) = match order {
        Order::NewestFirst => (" AND created_at <= ", " AND (created_at < ", " OR id < "),
        Order::OldestFirst => (" AND created_at >= ", " AND (created_at > ", " OR id > "),
    };
    sql.push(within).time(cursor.created_at);
    sql.push(beyond).time(cursor.created_at);
    sql.push(after).bind(Value::Id(cursor.id)).push(")");
}

pub(super) async fn load(
    conn: &mut Connection,
    sql: Sql,
    limit: Option<Duration>,
) -> Result<Vec<Keyed>, Failure> {
    type OnPostgres = (<schema::audit_logs::table as AsQuery>::SqlType, Timestamptz);
    type OnSqlite = (<sqlite::schema::audit_logs::table as AsQuery>::SqlType, BigInt);
    match conn {
        Connection::Postgres(conn) => {
            let rows: Vec<(AuditLog, PgTimestamp)> =
                run::postgres(conn, sql.returning::<OnPostgres>(), limit).await?;
            Ok(rows.into_iter().map(|(row, time)| (row, time.0)).collect())
        }
        Connection::Sqlite(conn) => run::sqlite(conn, sql.returning::<OnSqlite>(), limit).await,
    }
}
