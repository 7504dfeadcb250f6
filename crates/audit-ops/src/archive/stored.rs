//! Compares an archive with what the trail has: its month, its columns, its rows.

use diesel::QueryableByName;
use diesel::data_types::PgTimestamp;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::rows::{RawJson, SingleRow};
use super::{Manifest, VerifiedArchive};
use crate::postgres::Number;
use crate::{ArchiveProblem, OpsError};

/// The settings of a transaction that compares rows. They make the plan of [`DIFFERENT`] independent of statistics: each
/// row is looked up by its key.
pub(super) const SETTINGS: &str =
    "SET LOCAL timezone = 'UTC'; SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// The time range of an archive's month. As parameters of their own type, its bounds are constants to the planner, which
/// then leaves all other months out.
#[derive(Clone, Copy, QueryableByName)]
pub(super) struct MonthRange {
    #[diesel(sql_type = Timestamptz)]
    from_time: PgTimestamp,
    #[diesel(sql_type = Timestamptz)]
    to_time: PgTimestamp,
}

impl MonthRange {
    /// An error if the manifest's range is not the month that it names.
    pub(super) async fn of(
        conn: &mut AsyncPgConnection,
        archive: &VerifiedArchive,
    ) -> Result<Self, OpsError> {
        let Manifest {
            month,
            from_time,
            to_time,
            ..
        } = &archive.manifest;
        let query = diesel::sql_query(
            "SELECT from_time, to_time \
             FROM (SELECT $1::timestamptz AS from_time, $2::timestamptz AS to_time, $1::timestamptz AT TIME ZONE 'UTC' AS t) AS range \
             WHERE date_trunc('month', t) = t AND t + interval '1 month' = to_time AT TIME ZONE 'UTC' \
               AND to_char(t, 'YYYY-MM') || CASE WHEN t < '0001-01-01' THEN ' BC' ELSE '' END = $3",
        )
        .bind::<Text, _>(from_time)
        .bind::<Text, _>(to_time)
        .bind::<Text, _>(month);
        let found: Vec<Self> = query.load(conn).await?;
        let problem = || OpsError::archive(&archive.manifest_path, ArchiveProblem::Range);
        found.into_iter().next().ok_or_else(problem)
    }

    /// Whether monthly partitions take every row of the range, so that none goes to the default partition.
    pub(super) async fn has_partitions(self, conn: &mut AsyncPgConnection) -> Result<bool, OpsError> {
        let query = diesel::sql_query(
            "SELECT (coalesce(sum(least(to_time, $2) - greatest(from_time, $1)), '0') = $2 - $1)::int::bigint AS value \
             FROM audit_logs_partitions() WHERE from_time < $2 AND to_time > $1",
        )
        .bind::<Timestamptz, _>(self.from_time)
        .bind::<Timestamptz, _>(self.to_time);
        Ok(query.get_result::<Number>(conn).await?.value > 0)
    }

    /// An error if a row of these lines, which may lack long values, is of another month.
    pub(super) async fn contains(
        self,
        conn: &mut AsyncPgConnection,
        lines: &[String],
        archive: &VerifiedArchive,
    ) -> Result<(), OpsError> {
        let outside = diesel::sql_query(
            "SELECT count(*) AS value FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
             WHERE (r.created_at >= $2 AND r.created_at < $3) IS NOT TRUE",
        )
        .bind::<Array<Text>, _>(lines)
        .bind::<Timestamptz, _>(self.from_time)
        .bind::<Timestamptz, _>(self.to_time);
        match outside.get_result::<Number>(conn).await?.value {
            0 => Ok(()),
            _ => Err(OpsError::archive(&archive.path, ArchiveProblem::OtherMonth)),
        }
    }

    /// How many lines give another row than the one that is stored with their id and time, or none.
    pub(super) async fn different(
        self,
        conn: &mut AsyncPgConnection,
        lines: &[String],
    ) -> Result<Different, OpsError> {
        let query = diesel::sql_query(DIFFERENT)
            .bind::<Array<Text>, _>(lines)
            .bind::<Timestamptz, _>(self.from_time)
            .bind::<Timestamptz, _>(self.to_time);
        Ok(query.get_result(conn).await?)
    }
}

/// Rows that differ.
#[derive(QueryableByName)]
pub(super) struct Different {
    #[diesel(sql_type = BigInt)]
    pub(super) rows: i64,
    /// The id and time of one of them.
    #[diesel(sql_type = Text)]
    pub(super) example: String,
}

/// `OFFSET 0`: the planner may not join the two sides in another way than row by row.
const DIFFERENT: &str = "\
    SELECT count(*) AS rows, coalesce(min(r.id || ' at ' || r.created_at), '') AS example \
    FROM unnest($1) AS line, json_populate_record(NULL::audit_logs, line::json) AS r \
    LEFT JOIN LATERAL ( \
        SELECT a FROM audit_logs a \
        WHERE a.id = r.id AND a.created_at = r.created_at AND a.created_at >= $2 AND a.created_at < $3 OFFSET 0) AS stored ON true \
    WHERE (stored.a *= r) IS NOT TRUE";

/// Whether the trail has a row that cannot be compared with others. Values that could not be turned into text are left
/// out. `long` has the SHA-256 of each long value.
pub(super) async fn is_stored(
    conn: &mut AsyncPgConnection,
    row: &SingleRow,
    long: &[(String, String)],
) -> Result<bool, OpsError> {
    let unreadable = row
        .unreadable
        .iter()
        .filter(|name| long.iter().all(|(column, _)| column != *name));
    let columns = long.iter().map(|(column, _)| column).chain(unreadable.clone());
    let hashes = long
        .iter()
        .map(|(_, sha256)| Some(sha256))
        .chain(unreadable.map(|_| None));
    let query =
        diesel::sql_query("SELECT audit_logs_has_row($1::json, $2::name[], $3, $4)::int::bigint AS value")
            .bind::<Text, _>(&row.members)
            .bind::<Array<Text>, _>(columns.collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(hashes.collect::<Vec<_>>())
            .bind::<Nullable<Jsonb>, _>(row.metadata.as_deref().map(RawJson));
    Ok(query.get_result::<Number>(conn).await?.value > 0)
}

#[derive(QueryableByName)]
struct Columns {
    #[diesel(sql_type = Array<Text>)]
    unknown: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    required: Vec<String>,
}

/// An error if the table lacks a column of the archive, whose values would be lost, or if it has further ones that may
/// not be null.
pub(super) async fn compare_columns(
    conn: &mut AsyncPgConnection,
    archive: &VerifiedArchive,
) -> Result<(), OpsError> {
    if archive.columns.is_empty() {
        return Ok(());
    }
    let query = diesel::sql_query(
        "WITH columns AS (SELECT attname::text AS name, attnotnull FROM pg_attribute \
                          WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped) \
         SELECT ARRAY(SELECT unnest($1) EXCEPT SELECT name FROM columns ORDER BY 1) AS unknown, \
                ARRAY(SELECT name FROM columns WHERE attnotnull EXCEPT SELECT unnest($1) ORDER BY 1) AS required",
    )
    .bind::<Array<Text>, _>(&archive.columns);
    let Columns { unknown, required } = query.get_result(conn).await?;
    let problem = match (unknown.into_iter().next(), required.into_iter().next()) {
        (Some(column), _) => ArchiveProblem::UnknownColumn { column },
        (None, Some(column)) => ArchiveProblem::RequiredColumn { column },
        (None, None) => return Ok(()),
    };
    Err(OpsError::archive(&archive.path, problem))
}
