//! What the library returns: pages far from the first one, and what reads many rows.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use db_services::audit::query::{AuditFilter, AuditQuery, Column, Condition, Page, Position};
use db_services::client::{Connection, Database};

use super::trail::Trail;
use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;
use crate::server::BenchDatabase;

/// Rows of a page.
const PAGE: u32 = 50;

/// The number of the page that is compared with the first one, if the trail has as many.
const FAR: usize = 10_000;

/// Rows that are read at once on the way there.
const STEP: u32 = 5_000;

/// The time limit of what reads many rows.
const LIMIT: Duration = Duration::from_secs(600);

/// The runs of what reads many rows.
const MAX_RUNS: usize = 3;

pub(super) async fn measure(
    database: &BenchDatabase<'_>,
    trail: &Trail,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let database = Database::from_url(&database.url)?;
    let mut conn = database.connection().await?;
    pages(&mut conn, trail, options, report).await?;
    let runs = options.blocks.clamp(1, MAX_RUNS);
    let bar = progress::bar("query", runs);
    bar.set_message("counts");
    let unhurried = |filter| AuditQuery::new(filter).time_limit(LIMIT);
    let all = unhurried(AuditFilter::new());
    let day = unhurried(AuditFilter::new().and(Condition::since(Utc::now() - TimeDelta::days(1))));
    let name = |what: &str| format!("{what}, {}", trail.size());
    let mut bounded = Series::new(name("count up to 10,000"), "ms");
    let mut histogram = Series::new(name("histogram by day"), "ms");
    let mut top = Series::new(name("top 10 actors"), "ms");
    let mut top_of_day = Series::new(name("top 10 actors of a day"), "ms");
    for _ in 0..runs {
        bounded.values.push(timed(all.count(&mut conn, 10_000)).await?);
        let origin = chrono::DateTime::UNIX_EPOCH;
        histogram
            .values
            .push(timed(all.histogram(&mut conn, TimeDelta::days(1), origin)).await?);
        top.values
            .push(timed(all.top(&mut conn, Column::Actor, 10)).await?);
        top_of_day
            .values
            .push(timed(day.top(&mut conn, Column::Actor, 10)).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    for series in [bounded, histogram, top, top_of_day] {
        report.add(series.row(None))?;
    }
    Ok(())
}

/// Compares a page far from the first one with the first one.
async fn pages(conn: &mut Connection, trail: &Trail, options: &Options, report: &mut Report) -> Result<()> {
    let query = AuditQuery::new(AuditFilter::new());
    let far = FAR.min(trail.rows() / PAGE as usize);
    let mut position = Position::Newest;
    let mut left = far.saturating_sub(1) * PAGE as usize;
    while left > 0 {
        let step = STEP.min(u32::try_from(left)?);
        let page: Page = query.page(conn, &position, step).await?;
        position = Position::OlderThan(page.older.ok_or("void: the trail ends before the page")?);
        left -= step as usize;
    }
    let mut first = Series::new(format!("first page, {}", trail.size()), "ms");
    let mut last = Series::new(format!("page {far}, {}", trail.size()), "ms");
    for block in 0..options.blocks + super::WARM_UP {
        for (series, position) in [(&mut first, &Position::Newest), (&mut last, &position)] {
            let took = timed(query.page(conn, position, PAGE)).await?;
            if block >= super::WARM_UP {
                series.values.push(took);
            }
        }
    }
    report.add(first.row(None))?;
    report.add(last.against(&first, Some(AtMost(1.5))))?;
    Ok(())
}

/// The milliseconds of a query.
async fn timed<T, E: Into<crate::Error>>(
    query: impl Future<Output = std::result::Result<T, E>>,
) -> Result<f64> {
    let begun = Instant::now();
    query.await.map_err(Into::into)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
