//! Time to the first page of look-ups in a trail of twelve months.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Goal::AtMost;
use crate::result::Series;
use crate::server::{BenchDatabase, BenchServer, Table, connect};

/// Months of the trail, including the current one.
const MONTHS: usize = 12;

/// Inserts the rows of one month. $1: the month, counted back from this one; $2: its rows; $3: the rows
/// of the months before it.
const FILL: &str = include_str!("../sql/fill.sql");

/// The table with only the b-tree that serves the timeline.
const IDEAL: &str = "CREATE TABLE ideal AS TABLE audit_logs;
     CREATE INDEX ideal_timeline ON ideal (tenant_id, created_at);
     VACUUM ANALYZE audit_logs; ANALYZE ideal";

/// A query, and its parameter for a row: the names are those of `sql/fill.sql`.
struct Question {
    name: &'static str,
    sql: &'static str,
    about: fn(usize) -> String,
}

const TIMELINE: Question = Question {
    name: "tenant timeline",
    sql: "SELECT * FROM audit_logs WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50",
    about: |row| format!("tenant-{:04}", row * 7 % 200),
};

const IDEAL_TIMELINE: Question = Question {
    name: "tenant timeline, one b-tree",
    sql: "SELECT * FROM ideal WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50",
    about: TIMELINE.about,
};

/// The step of `audit::latest` that fills the page of most tenants: the last month, and rows with later
/// times.
const LATEST_TIMELINE: Question = Question {
    name: "tenant timeline, from 31 days ago",
    sql: "SELECT * FROM audit_logs WHERE tenant_id = $1 AND created_at >= now() - interval '31 days' \
          ORDER BY created_at DESC LIMIT 50",
    about: TIMELINE.about,
};

/// The query of a reader who excludes rows with later times: the planner prunes all other partitions,
/// the default partition as well.
const RECENT_TIMELINE: Question = Question {
    name: "tenant timeline, last 31 days",
    sql: "SELECT * FROM audit_logs WHERE tenant_id = $1 \
          AND created_at >= now() - interval '31 days' AND created_at < now() + interval '1 day' \
          ORDER BY created_at DESC LIMIT 50",
    about: TIMELINE.about,
};

const OTHERS: [Question; 3] = [
    Question {
        name: "actor",
        sql: "SELECT * FROM audit_logs WHERE actor_id = $1 ORDER BY created_at DESC LIMIT 50",
        about: |row| format!("user-{:08}", row * 7_919 % 20_000),
    },
    Question {
        name: "resource",
        sql: "SELECT * FROM audit_logs WHERE resource_type = 'document' AND resource_id = $1 \
              ORDER BY created_at DESC LIMIT 50",
        about: |row| format!("doc-{:012}", row * 104_729 % 100_000),
    },
    Question {
        name: "request",
        sql: "SELECT * FROM audit_logs WHERE request_id = $1 LIMIT 50",
        about: |row| format!("req-{row:016}"),
    },
];

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let database = server.create_database(Table::Own).await?;
    fill(&database, options.rows).await?;
    connect(&database.url)
        .await?
        .batch_execute("SELECT audit_logs_index_closed_months()")
        .await?;
    for sql in IDEAL.split(';') {
        connect(&database.url).await?.batch_execute(sql).await?;
    }
    warm(&database, options, report).await?;
    cold(server, &database, options, report).await?;
    database.verify_and_drop(options.rows).await
}

/// Fills the twelve months, two at a time.
async fn fill(database: &BenchDatabase<'_>, rows: usize) -> Result<()> {
    let client = connect(&database.url).await?;
    client
        .batch_execute("SELECT audit_logs_ensure_partitions(now() - interval '11 months', now())")
        .await?;
    let bar = progress::bar("lookups", MONTHS);
    bar.set_message("filling the trail");
    // Rows before the nth month, so that together they are numbered without a gap.
    let before = move |month: usize| rows * month / MONTHS;
    let lanes = (0..2).map(|lane| {
        let (url, bar) = (database.url.clone(), bar.clone());
        tokio::spawn(async move {
            let client = connect(&url).await?;
            for month in (0..MONTHS).filter(|month| month % 2 == lane) {
                let parameters: [&(dyn ToSql + Sync); 3] = [
                    &(month as i32),
                    &((before(month + 1) - before(month)) as i64),
                    &(before(month) as i64),
                ];
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

/// Measures prepared statements on pages that are in memory.
async fn warm(database: &BenchDatabase<'_>, options: &Options, report: &mut Report) -> Result<()> {
    let blocks = options.blocks;
    let client = connect(&database.url).await?;
    let mut asked = Vec::new();
    let timelines = [IDEAL_TIMELINE, TIMELINE, LATEST_TIMELINE, RECENT_TIMELINE];
    for question in timelines.into_iter().chain(OTHERS) {
        let statement = client.prepare(question.sql).await?;
        let series = Series::new(format!("{}: warm", question.name), "ms");
        asked.push((question, statement, series));
    }
    let bar = progress::bar("lookups", blocks);
    bar.set_message("warm");
    // The first runs let the server choose a generic plan and read the pages into memory.
    for block in 0..blocks + 8 {
        for (question, statement, series) in &mut asked {
            let took = ask(&client, statement, &(question.about)(some(block, options.rows))).await?;
            if block >= 8 {
                series.values.push(took);
            }
        }
        bar.inc(u64::from(block >= 8));
    }
    bar.finish_and_clear();
    let mut series = asked.iter().map(|(.., series)| series);
    if let (Some(ideal), Some(bare)) = (series.next(), series.next()) {
        report.add(bare.against(ideal, Some(AtMost(2.0))))?;
        for timeline in series.by_ref().take(2) {
            report.add(timeline.against(ideal, None))?;
        }
        report.add(ideal.row(None))?;
    }
    for others in series {
        report.add(others.row(None))?;
    }
    Ok(())
}

/// Measures the first query after a start of the server, with no page of its data in memory. Only on a
/// private server: another one must not be restarted.
async fn cold(
    server: &BenchServer,
    database: &BenchDatabase<'_>,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let Some(private) = server.private() else {
        progress::skipped("look-ups, cold", "the server is not private");
        return Ok(());
    };
    let questions: Vec<Question> = [TIMELINE, IDEAL_TIMELINE].into_iter().chain(OTHERS).collect();
    let rounds = options.rounds.clamp(1, 3);
    let bar = progress::bar("lookups", questions.len() * rounds);
    bar.set_message("cold");
    for question in &questions {
        let mut series = Series::new(format!("{}: cold", question.name), "ms");
        for round in 0..rounds {
            let data: String = connect(&database.url)
                .await?
                .query_one("SELECT current_setting('data_directory')", &[])
                .await?
                .try_get(0)?;
            private.stop_fast()?;
            evict(std::path::Path::new(&data))?;
            private.start_again()?;
            let client = connect(&database.url).await?;
            let statement = client.prepare(question.sql).await?;
            series.values.push(
                ask(
                    &client,
                    &statement,
                    &(question.about)(some(round + 1_000, options.rows)),
                )
                .await?,
            );
            bar.inc(1);
        }
        report.add(series.row(None))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// The number of a row below `rows`, a different one for each `nth`.
fn some(nth: usize, rows: usize) -> usize {
    (nth + 1) * 15_485_863 % rows
}

/// Runs a query and returns its milliseconds. A query that finds no row makes the run void.
async fn ask(client: &Client, statement: &Statement, about: &str) -> Result<f64> {
    let begun = Instant::now();
    let found = client.query(statement, &[&about]).await?;
    let took: Duration = begun.elapsed();
    match found.is_empty() {
        true => Err(format!("void: no row about {about}").into()),
        false => Ok(took.as_secs_f64() * 1e3),
    }
}

/// Removes these files from the page cache. The server has stopped and has written everything.
fn evict(dir: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            evict(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let file = std::fs::File::open(entry.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
