//! Time to the first page of look-ups, as the library composes them, in trails of different sizes, and how fast all rows
//! leave a trail.
//!
//! Each size is a trail of closed months and an open month of a number of rows, filled with values like those of real
//! trails: a tenant with a tenth of the rows and 200 others, an actor with a tenth and 20,000 others, a request for each
//! row. Months are cut and indexed as `auditlog partitions ensure` would have done while they grew.

mod cold;
mod library;
mod questions;
mod rates;
mod sqlite;
mod trail;

use std::time::Instant;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;
use crate::server::{BenchDatabase, BenchServer, connect};
use questions::{IDEAL_TIMELINE, QUESTIONS, Question, TIMELINE, Viewer};
use trail::Trail;

/// Without the first runs the server has not chosen a plan, and the pages are not in memory.
const WARM_UP: usize = 8;

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    for (nth, open) in options.open_rows.iter().enumerate() {
        let trail = Trail {
            months: options.months,
            closed_rows: options.rows,
            open_rows: *open,
        };
        let database = trail.create(server).await?;
        warm(&database, &trail, options, report).await?;
        if nth + 1 == options.open_rows.len() {
            library::measure(&database, &trail, options, report).await?;
            cold::measure(server, &database, &trail, options, report).await?;
        }
        database.verify_and_drop(trail.rows()).await?;
    }
    rates::measure(server, options, report).await?;
    sqlite::measure(options, report).await
}

/// Measures prepared statements on pages that are in memory, and the planning of those that are not prepared.
async fn warm(
    database: &BenchDatabase<'_>,
    trail: &Trail,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let mut asked = Vec::new();
    for question in [IDEAL_TIMELINE, TIMELINE].iter().chain(QUESTIONS) {
        let client = question.viewer.connect(&database.url).await?;
        let statement = client.prepare(question.sql).await?;
        let (name, planning) = (
            trail.name(question),
            format!("{}, planning", trail.name(question)),
        );
        asked.push((
            question,
            client,
            statement,
            Series::new(name, "ms"),
            Series::new(planning, "ms"),
        ));
    }
    let bar = progress::bar("query", options.blocks);
    bar.set_message(format!("warm, {} rows in the open month", trail.open_rows));
    for block in 0..options.blocks + WARM_UP {
        for (question, client, statement, took, planning) in &mut asked {
            let about = (question.about)(trail.some(block));
            let milliseconds = ask(client, statement, question, &about).await?;
            if block >= WARM_UP {
                took.values.push(milliseconds);
                planning.values.push(plan(client, question, &about).await?);
            }
        }
        bar.inc(u64::from(block >= WARM_UP));
    }
    bar.finish_and_clear();
    let ideal = asked.first().map(|(.., took, _)| took.clone());
    for (question, .., took, planning) in &asked {
        match &ideal {
            Some(ideal) if question.name == TIMELINE.name => {
                report.add(took.against(ideal, Some(AtMost(2.0))))?
            }
            _ => report.add(took.row(question.goal.map(AtMost)))?,
        }
        report.add(planning.row(None))?;
    }
    Ok(())
}

/// Runs a query and returns its milliseconds. A query that should find rows and finds none makes the run void.
async fn ask(client: &Client, statement: &Statement, question: &Question, about: &str) -> Result<f64> {
    let parameters: &[&(dyn ToSql + Sync)] = if question.sql.contains("$1") {
        &[&about]
    } else {
        &[]
    };
    let begun = Instant::now();
    let found = client.query(statement, parameters).await?;
    let took = begun.elapsed();
    match found.is_empty() && question.finds {
        true => Err(format!("void: {}: no row about {about}", question.name).into()),
        false => Ok(took.as_secs_f64() * 1e3),
    }
}

/// The milliseconds that the server plans a statement which is not prepared.
async fn plan(client: &Client, question: &Question, about: &str) -> Result<f64> {
    // The values are the benchmark's own.
    let sql = question.sql.replace("$1", &format!("'{about}'"));
    let lines = client.simple_query(&format!("EXPLAIN (SUMMARY) {sql}")).await?;
    let planning = lines.iter().find_map(|line| match line {
        tokio_postgres::SimpleQueryMessage::Row(row) => row
            .get(0)?
            .trim()
            .strip_prefix("Planning Time: ")?
            .strip_suffix(" ms")?
            .parse()
            .ok(),
        _ => None,
    });
    planning.ok_or_else(|| "EXPLAIN shows no planning time".into())
}

impl Viewer {
    /// Connects as the role, with the settings that the library's queries have.
    async fn connect(self, url: &str) -> Result<Client> {
        let client = connect(url).await?;
        let role = match self {
            Self::Owner => "",
            Self::Auditor => "SET ROLE audit_auditor;",
            Self::Reader(_) => "SET ROLE audit_reader;",
        };
        client
            .batch_execute(&format!("SET random_page_cost = 1.1; SET jit = off; {role}"))
            .await?;
        if let Self::Reader(tenant) = self {
            client
                .execute("SELECT set_config('audit.tenant_id', $1, false)", &[&tenant])
                .await?;
        }
        Ok(client)
    }
}
