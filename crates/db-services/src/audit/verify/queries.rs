//! The queries of `verify writers`, for either database.

use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{QueryResult, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::client::Connection;

/// A row that claims to be a writer's record about itself. As bytes: SQLite keeps any bytes in a column of
/// text, and one such row must not prevent the reading of all others.
#[derive(QueryableByName)]
pub(super) struct WriterRecord {
    #[diesel(sql_type = Text)]
    pub(super) writer: String,
    #[diesel(sql_type = Binary)]
    pub(super) action: Vec<u8>,
    #[diesel(sql_type = Binary)]
    pub(super) metadata: Vec<u8>,
}

/// What the table holds of a writer.
#[derive(QueryableByName)]
pub(super) struct WriterTotals {
    #[diesel(sql_type = Text)]
    pub(super) writer: String,
    /// Rows with a number.
    #[diesel(sql_type = BigInt)]
    pub(super) stored: i64,
    /// Distinct numbers among them.
    #[diesel(sql_type = BigInt)]
    pub(super) numbers: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) highest: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) first_seen: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) last_seen: i64,
}

impl WriterTotals {
    pub(super) fn has_gaps(&self) -> bool {
        self.numbers != self.highest
    }
}

/// Consecutive numbers of a writer that went with a dropped month.
#[derive(QueryableByName)]
pub(super) struct DroppedRange {
    #[diesel(sql_type = Text)]
    pub(super) writer: String,
    #[diesel(sql_type = BigInt)]
    pub(super) first: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) last: i64,
}

/// Consecutive numbers that no row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Gap {
    #[diesel(sql_type = BigInt)]
    pub(super) first: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) last: i64,
}

/// Runs a query in the SQL of the connection's database.
macro_rules! load {
    ($conn:expr, $postgres:expr, $sqlite:expr $(, $bind:expr)?) => {
        match $conn {
            Connection::Postgres(conn) => diesel::sql_query($postgres)$(.bind::<Text, _>($bind))?.load(conn).await,
            Connection::Sqlite(conn) => diesel::sql_query($sqlite)$(.bind::<Text, _>($bind.to_owned()))?.load(conn).await,
        }
    };
}

/// The writers' records. A month that was dropped and restored has them twice; UNION takes each once.
pub(super) async fn records(conn: &mut Connection) -> QueryResult<Vec<WriterRecord>> {
    load!(
        conn,
        "SELECT writer_id::text AS writer, convert_to(action, 'UTF8') AS action, \
         convert_to(coalesce(metadata::text, '{}'), 'UTF8') AS metadata FROM audit_logs \
         WHERE writer_id IS NOT NULL AND writer_seq IS NULL AND action LIKE 'audit.%' \
         UNION SELECT writer_id::text, convert_to(action, 'UTF8'), convert_to(metadata::text, 'UTF8') \
         FROM audit_retention_declarations",
        "SELECT hex(writer_id) AS writer, CAST(action AS BLOB) AS action, \
         CAST(coalesce(metadata, '{}') AS BLOB) AS metadata FROM audit_logs \
         WHERE writer_id IS NOT NULL AND writer_seq IS NULL AND action LIKE 'audit.%'"
    )
}

/// The numbers that went with dropped months.
pub(super) async fn dropped_ranges(conn: &mut Connection) -> QueryResult<Vec<DroppedRange>> {
    let Connection::Postgres(conn) = conn else {
        return Ok(Vec::new());
    };
    let query = "SELECT writer_id::text AS writer, lower(run) AS first, upper(run) - 1 AS last \
                 FROM audit_retention_writers, unnest(numbers) AS run";
    diesel::sql_query(query).load(conn).await
}

/// What the table holds of each writer. Numbers begin with 1: others are forged, and do not count.
pub(super) async fn totals(conn: &mut Connection) -> QueryResult<Vec<WriterTotals>> {
    load!(
        conn,
        // Times within what 64 bits of microseconds hold: a row may claim infinity.
        "SELECT writer_id::text AS writer, count(writer_seq) FILTER (WHERE writer_seq > 0) AS stored, \
         count(DISTINCT writer_seq) FILTER (WHERE writer_seq > 0) AS numbers, \
         greatest(max(writer_seq), 0) AS highest, \
         (extract(epoch FROM least(greatest(min(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS first_seen, \
         (extract(epoch FROM least(greatest(max(created_at), '4713-01-01 BC'), '262000-12-31')) * 1000000)::bigint AS last_seen \
         FROM audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id",
        "SELECT hex(writer_id) AS writer, count(writer_seq) FILTER (WHERE writer_seq > 0) AS stored, \
         count(DISTINCT writer_seq) FILTER (WHERE writer_seq > 0) AS numbers, \
         max(0, coalesce(max(writer_seq), 0)) AS highest, min(created_at) AS first_seen, max(created_at) AS last_seen \
         FROM audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id"
    )
}

/// The numbers of a writer, from 1 to its highest, that no row has.
pub(super) async fn gaps(conn: &mut Connection, writer: &str) -> QueryResult<Vec<Gap>> {
    load!(
        conn,
        "SELECT before + 1 AS first, writer_seq - 1 AS last FROM ( \
             SELECT writer_seq, lag(writer_seq, 1, 0::bigint) OVER (ORDER BY writer_seq) AS before \
             FROM audit_logs WHERE writer_id = $1::uuid AND writer_seq > 0 \
         ) AS numbered WHERE writer_seq > before + 1 ORDER BY writer_seq",
        "SELECT before + 1 AS first, writer_seq - 1 AS last FROM ( \
             SELECT writer_seq, lag(writer_seq, 1, 0) OVER (ORDER BY writer_seq) AS before \
             FROM audit_logs WHERE hex(writer_id) = ?1 AND writer_seq > 0 \
         ) AS numbered WHERE writer_seq > before + 1 ORDER BY writer_seq",
        writer
    )
}
