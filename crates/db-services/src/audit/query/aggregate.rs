//! Counts, histograms, and the most frequent values.

use std::cmp::Reverse;

use chrono::{DateTime, TimeDelta, Utc};
use db_schema::models::{StoredText, network_text, parse_network};
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::Serialize;

use super::conditions::{name, push_where};
use super::filter::Column;
use super::run::dialect;
use super::sql::{Dialect, Sql, Value};
use super::{AuditQuery, Position, QueryError};
use crate::client::Connection;

/// The most buckets of a histogram that are not empty.
const MAX_BUCKETS: u32 = 10_000;

/// The first and the last time of a histogram, in microseconds since 1970: 4714 BC and a moment of the year 261,816.
const FIRST: i64 = -210_866_803_200_000_000;
const LAST: i64 = 8_200_000_000_000_000_000;

/// How many rows a query has, counted up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// This many.
    Exactly(u64),
    /// More than the bound; how many was not counted.
    MoreThan(u64),
}

/// A bucket of a histogram that has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Bucket {
    /// Its first moment.
    pub start: DateTime<Utc>,
    /// How many rows are in it.
    pub rows: u64,
}

/// A value of a column, and how often it occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TopValue {
    /// The value; none of the rows without one.
    pub value: Option<String>,
    /// How many rows have it.
    pub rows: u64,
}

impl AuditQuery {
    /// Counts the rows, at most `bound` of them.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub async fn count(&self, conn: &mut Connection, bound: u32) -> Result<Count, QueryError> {
        let mut sql = self.sql(
            dialect(conn),
            "SELECT count(*) FROM (SELECT 1 AS one FROM audit_logs",
        );
        push_where(
            &mut sql,
            self.filter(),
            &Position::Newest,
            Some(i64::from(bound) + 1),
        );
        sql.push(" LIMIT ")
            .bind(Value::Number(i64::from(bound) + 1))
            .push(") AS bounded");
        let counted: u64 = self
            .load::<BigInt, i64>(conn, sql)
            .await?
            .into_iter()
            .sum::<i64>()
            .unsigned_abs();
        let bound = u64::from(bound);
        Ok(if counted > bound {
            Count::MoreThan(bound)
        } else {
            Count::Exactly(counted)
        })
    }

    /// Counts the rows by time, in buckets that are `width` wide; one of them begins at `origin`. Returns those
    /// that have rows, the earliest first. `origin` is the beginning of a day in the zone of whom it is shown to.
    ///
    /// It reads every row of the query. Rows before 4714 BC or after the year 261,816 count in the first or the last
    /// bucket.
    ///
    /// # Errors
    /// As [`page`](Self::page); when more than 10,000 buckets have rows, or the width is not above zero.
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub async fn histogram(
        &self,
        conn: &mut Connection,
        width: TimeDelta,
        origin: DateTime<Utc>,
    ) -> Result<Vec<Bucket>, QueryError> {
        // One that does not fit is wider than all of time.
        let width = width
            .num_microseconds()
            .unwrap_or(i64::MAX * width.num_seconds().signum());
        if width <= 0 {
            return Err(QueryError::BucketWidth);
        }
        // Of all moments at which a bucket begins one from 1970 on, so that no difference overflows.
        let origin = origin.timestamp_micros().rem_euclid(width).min(LAST);
        let mut sql = self.sql(dialect(conn), "SELECT bucket, count(*) FROM (SELECT micros / ");
        sql.bind(Value::Number(width)).push(" - CASE WHEN micros % ");
        // The division cuts towards zero.
        sql.bind(Value::Number(width))
            .push(" < 0 THEN 1 ELSE 0 END AS bucket FROM (SELECT ");
        push_micros(&mut sql);
        sql.push(" - ")
            .bind(Value::Number(origin))
            .push(" AS micros FROM audit_logs");
        push_where(&mut sql, self.filter(), &Position::Newest, None);
        sql.push(") AS times) AS buckets GROUP BY bucket ORDER BY bucket LIMIT ");
        sql.bind(Value::Number(i64::from(MAX_BUCKETS) + 1));
        let buckets = self.load::<(BigInt, BigInt), (i64, i64)>(conn, sql).await?;
        if buckets.len() > MAX_BUCKETS as usize {
            return Err(QueryError::TooManyBuckets { limit: MAX_BUCKETS });
        }
        Ok(buckets
            .into_iter()
            .map(|(bucket, rows)| to_bucket(bucket, rows, width, origin))
            .collect())
    }

    /// Returns the `limit` most frequent values of a column, the most frequent first, equally frequent ones in the
    /// order of their bytes. The rows without a value count as one.
    ///
    /// It reads every row of the query.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub async fn top(
        &self,
        conn: &mut Connection,
        column: Column,
        limit: u32,
    ) -> Result<Vec<TopValue>, QueryError> {
        self.top_of(conn, name(column), limit).await
    }

    /// As [`top`](Self::top), of the addresses. A network of several hosts has its prefix: `10.0.0.0/8`. In
    /// SQLite a text that is not an address counts as it is.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub async fn top_addresses(
        &self,
        conn: &mut Connection,
        limit: u32,
    ) -> Result<Vec<TopValue>, QueryError> {
        let shown = match dialect(conn) {
            Dialect::Postgres => "abbrev(ip_address)",
            Dialect::Sqlite => "audit_address_text(ip_address)",
        };
        let mut values = self.top_of(conn, shown, limit).await?;
        // PostgreSQL writes ::10.0.0.1 where rows have ::a00:1.
        for value in values.iter_mut().filter_map(|top| top.value.as_mut()) {
            if let Some(address) = parse_network(value) {
                *value = network_text(address);
            }
        }
        values.sort_by(|left, right| order(left).cmp(&order(right)));
        Ok(values)
    }

    async fn top_of(
        &self,
        conn: &mut Connection,
        value: &'static str,
        limit: u32,
    ) -> Result<Vec<TopValue>, QueryError> {
        let mut sql = self.sql(dialect(conn), "SELECT value, count(*) FROM (SELECT ");
        sql.push(value).push(" AS value FROM audit_logs");
        push_where(&mut sql, self.filter(), &Position::Newest, None);
        sql.push(") AS found GROUP BY value ORDER BY count(*) DESC, value IS NULL, value");
        sql.push_either(" COLLATE \"C\" LIMIT ", " LIMIT ");
        sql.bind(Value::Number(i64::from(limit)));
        let values = self
            .load::<(Nullable<Text>, BigInt), (Option<StoredText>, i64)>(conn, sql)
            .await?;
        let value = |(value, rows): (Option<StoredText>, i64)| TopValue {
            value: value.map(|StoredText(value)| value),
            rows: rows.unsigned_abs(),
        };
        Ok(values.into_iter().map(value).collect())
    }
}

/// The most frequent first, equally frequent ones in the order of their bytes.
fn order(top: &TopValue) -> (Reverse<u64>, bool, Option<&str>) {
    (Reverse(top.rows), top.value.is_none(), top.value.as_deref())
}

/// The time of a row, in microseconds since 1970.
fn push_micros(sql: &mut Sql) {
    match sql.dialect {
        Dialect::Postgres => {
            sql.push("(extract(epoch FROM least(greatest(created_at, ")
                .time(in_postgres(FIRST));
            sql.push("), ")
                .time(in_postgres(LAST))
                .push(")) * 1000000)::bigint");
        }
        Dialect::Sqlite => {
            sql.push("min(max(created_at, ").bind(Value::Number(FIRST));
            sql.push("), ").bind(Value::Number(LAST)).push(")");
        }
    }
}

fn in_postgres(micros: i64) -> i64 {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    super::time::stored(Dialect::Postgres, time)
}

fn to_bucket(bucket: i64, rows: i64, width: i64, origin: i64) -> Bucket {
    let micros = bucket.saturating_mul(width).saturating_add(origin);
    let edge = if micros < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    Bucket {
        start: DateTime::from_timestamp_micros(micros).unwrap_or(edge),
        rows: rows.unsigned_abs(),
    }
}
