//! A trail of closed months and an open one.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use super::questions::Question;
use crate::Result;
use crate::progress;
use crate::server::{BenchDatabase, BenchServer, Table, connect};

/// Inserts rows. $1: the first time; $2: the time after the last; $3: how many; $4: the number of the first.
pub(super) const FILL: &str = include_str!("../../sql/fill.sql");

/// Rows of a segment: more than the 750,000 of `audit_logs_segment_months`, as one that fills faster than expected has.
const SEGMENT: usize = 1_000_000;

/// A million of the newest rows with only the b-tree that serves a timeline.
const IDEAL: &str = "CREATE TABLE ideal AS SELECT * FROM audit_logs ORDER BY created_at DESC LIMIT 1000000;
     CREATE INDEX ideal_timeline ON ideal (tenant_id, created_at)";

/// The partitions of the open month up to now, and their bounds.
const OPEN: &str = "SELECT partition::text, from_time, least(to_time, now()) FROM audit_logs_partitions() \
     WHERE from_time >= date_trunc('month', now()) AND from_time < now() ORDER BY from_time";

/// The bounds of the closed months, the newest last.
const CLOSED: &str = "SELECT from_time, to_time FROM audit_logs_months() \
     WHERE whole_month AND to_time <= date_trunc('month', now()) ORDER BY from_time DESC LIMIT $1";

pub(super) struct Trail {
    pub(super) months: usize,
    pub(super) closed_rows: usize,
    pub(super) open_rows: usize,
}

type Range = (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>);

impl Trail {
    pub(super) fn rows(&self) -> usize {
        self.closed_rows + self.open_rows
    }

    /// The name of a result: the question, and the size.
    pub(super) fn name(&self, question: &Question) -> String {
        format!("{}, {} open", question.name, short(self.open_rows))
    }

    /// The size for what reads all months.
    pub(super) fn size(&self) -> String {
        format!("{} rows", short(self.rows()))
    }

    /// The number of a row, a different one for each `nth`.
    pub(super) fn some(&self, nth: usize) -> usize {
        (nth + 1) * 15_485_863 % self.rows()
    }

    pub(super) async fn create<'a>(&self, server: &'a BenchServer) -> Result<BenchDatabase<'a>> {
        let database = server.create_database(Table::Own).await?;
        self.cut(&database).await?;
        self.fill(&database).await?;
        let client = connect(&database.url).await?;
        // As the job that runs each day has done meanwhile.
        let indexed = "SELECT audit_logs_index_closed_months()";
        // The first call leaves out what autovacuum has locked for longer than it waits.
        while client.query_one(indexed, &[]).await?.try_get::<_, i32>(0)? > 0 {}
        for statement in IDEAL.split(';') {
            client.batch_execute(statement).await?;
        }
        client.batch_execute("VACUUM (ANALYZE) audit_logs").await?;
        client.batch_execute("VACUUM (ANALYZE) ideal").await?;
        client.batch_execute("CHECKPOINT").await?;
        Ok(database)
    }

    /// Creates the months, and cuts the open one into segments of at most a million rows.
    async fn cut(&self, database: &BenchDatabase<'_>) -> Result<()> {
        let client = connect(&database.url).await?;
        let months = i32::try_from(self.months)?;
        client
            .execute(
                "SELECT audit_logs_ensure_partitions(now() - make_interval(months => $1), now())",
                &[&months],
            )
            .await?;
        let segments = self.open_rows.div_ceil(SEGMENT);
        let begun: std::time::SystemTime = client
            .query_one("SELECT date_trunc('month', now())", &[])
            .await?
            .try_get(0)?;
        let elapsed = begun.elapsed()?;
        if segments > 1 && elapsed < Duration::from_secs(7_200) * u32::try_from(segments)? {
            return Err("void: the month has just begun, so its segments would not have ended".into());
        }
        for nth in 1..segments {
            let cut = begun + elapsed.mul_f64(nth as f64 / segments as f64);
            client
                .execute(
                    "SELECT audit_logs_cut(p.partition, $1) FROM audit_logs_partitions() p \
                     WHERE p.from_time < $1 AND p.to_time > $1",
                    &[&cut],
                )
                .await?;
        }
        Ok(())
    }

    /// Fills the partitions, two at a time.
    async fn fill(&self, database: &BenchDatabase<'_>) -> Result<()> {
        let client = connect(&database.url).await?;
        let months = i64::try_from(self.months)?;
        let closed = client.query(CLOSED, &[&months]).await?;
        let open = client.query(OPEN, &[]).await?;
        let mut parts: Vec<(Range, usize)> = Vec::new();
        for (nth, row) in closed.iter().rev().enumerate() {
            parts.push((
                (row.try_get(0)?, row.try_get(1)?),
                share(self.closed_rows, nth, closed.len()),
            ));
        }
        for (nth, row) in open.iter().enumerate() {
            parts.push((
                (row.try_get(1)?, row.try_get(2)?),
                share(self.open_rows, nth, open.len()),
            ));
        }
        // Rows before each part, so that together they are numbered without a gap.
        let mut before = 0;
        let numbered: Vec<(Range, usize, usize)> = parts
            .into_iter()
            .map(|(range, rows)| {
                let first = before;
                before += rows;
                (range, rows, first)
            })
            .collect();
        let bar = progress::bar("query", numbered.len());
        bar.set_message("filling the trail");
        let lanes = (0..2).map(|lane| {
            let (url, bar) = (database.url.clone(), bar.clone());
            let mine: Vec<_> = numbered.iter().skip(lane).step_by(2).copied().collect();
            tokio::spawn(async move {
                let client = connect(&url).await?;
                for ((from, to), rows, first) in mine {
                    let parameters: [&(dyn ToSql + Sync); 4] = [&from, &to, &(rows as i64), &(first as i64)];
                    client.execute(FILL, &parameters).await?;
                    bar.inc(1);
                }
                Ok::<_, crate::Error>(())
            })
        });
        try_join_all(lanes).await?.into_iter().collect::<Result<()>>()?;
        bar.finish_and_clear();
        Ok(())
    }
}

/// The rows of the nth of several equal parts.
fn share(rows: usize, nth: usize, parts: usize) -> usize {
    rows * (nth + 1) / parts - rows * nth / parts
}

/// 20,000,000 is 20M.
pub(super) fn short(rows: usize) -> String {
    match rows {
        _ if rows.is_multiple_of(1_000_000) => format!("{}M", rows / 1_000_000),
        _ => rows.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!((0..3).map(|nth| share(10, nth, 3)).collect::<Vec<_>>(), [3, 3, 4]);
        assert_eq!(
            (short(20_000_000), short(5_000)),
            ("20M".to_owned(), "5000".to_owned())
        );
    }
}
