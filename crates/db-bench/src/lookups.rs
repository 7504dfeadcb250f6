//! How soon does an operator see the first page of an answer, from a trail of twelve months?

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::Fallible;
use crate::args::Options;
use crate::place::{Fresh, Place, Table, connect};
use crate::progress;
use crate::report::Report;
use crate::row::Goal::AtMost;
use crate::row::Series;

/// Months of the trail, the last of them open.
const MONTHS: usize = 12;

/// Makes one month's share of the rows. $1: the month, counted back from this one; $2: its rows; $3:
/// rows of the months before.
const FILL: &str = include_str!("../sql/fill.sql");

/// The table with nothing but the b-tree that the timeline asks for.
const PERFECT: &str = "CREATE TABLE perfect AS TABLE audit_logs;
     CREATE INDEX perfect_timeline ON perfect (tenant_id, created_at);
     VACUUM ANALYZE audit_logs; ANALYZE perfect";

/// A question, and whom it is asked about: as `sql/fill.sql` names those of a row.
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

const PERFECT_TIMELINE: Question = Question {
    name: "tenant timeline, one b-tree",
    sql: "SELECT * FROM perfect WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50",
    about: TIMELINE.about,
};

/// The step that fills the page of most tenants where `audit::latest` reads for one of them: the last month,
/// and what is dated ahead.
const LATEST_TIMELINE: Question = Question {
    name: "tenant timeline, from 31 days ago",
    sql: "SELECT * FROM audit_logs WHERE tenant_id = $1 AND created_at >= now() - interval '31 days' \
          ORDER BY created_at DESC LIMIT 50",
    about: TIMELINE.about,
};

/// What a reader asks who knows that nothing is dated ahead: all other partitions are left out, the
/// default one too.
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

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let fresh = place.fresh(Table::Own).await?;
    fill(&fresh, options.rows).await?;
    connect(&fresh.url)
        .await?
        .batch_execute("SELECT audit_logs_index_closed_months()")
        .await?;
    for sql in PERFECT.split(';') {
        connect(&fresh.url).await?.batch_execute(sql).await?;
    }
    warm(&fresh, options, report).await?;
    cold(place, &fresh, options, report).await?;
    fresh.settle(options.rows).await
}

/// Fills the twelve months, two at a time.
async fn fill(fresh: &Fresh<'_>, rows: usize) -> Fallible<()> {
    let client = connect(&fresh.url).await?;
    client
        .batch_execute("SELECT audit_logs_ensure_partitions(now() - interval '11 months', now())")
        .await?;
    let bar = progress::bar("lookups", MONTHS);
    bar.set_message("filling the trail");
    // Rows before the nth month, so that together they are numbered without a gap.
    let before = move |month: usize| rows * month / MONTHS;
    let lanes = (0..2).map(|lane| {
        let (url, bar) = (fresh.url.clone(), bar.clone());
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
            Ok::<_, crate::Failure>(())
        })
    });
    try_join_all(lanes).await?.into_iter().collect::<Fallible<()>>()?;
    bar.finish_and_clear();
    Ok(())
}

/// Times of a connection that knows its statements, on pages that are in memory.
async fn warm(fresh: &Fresh<'_>, options: &Options, report: &mut Report) -> Fallible<()> {
    let blocks = options.blocks;
    let client = connect(&fresh.url).await?;
    let mut asked = Vec::new();
    let timelines = [PERFECT_TIMELINE, TIMELINE, LATEST_TIMELINE, RECENT_TIMELINE];
    for question in timelines.into_iter().chain(OTHERS) {
        let statement = client.prepare(question.sql).await?;
        let series = Series::new(format!("{}: warm", question.name), "ms");
        asked.push((question, statement, series));
    }
    let bar = progress::bar("lookups", blocks);
    bar.set_message("warm");
    // First as often as it takes the server to settle for a plan, and for the pages to be in memory.
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
    if let (Some(perfect), Some(bare)) = (series.next(), series.next()) {
        report.add(bare.against(perfect, Some(AtMost(2.0))))?;
        for timeline in series.by_ref().take(2) {
            report.add(timeline.against(perfect, None))?;
        }
        report.add(perfect.row(None))?;
    }
    for others in series {
        report.add(others.row(None))?;
    }
    Ok(())
}

/// Times of a first question after the server's start, with no page of its data in memory. Only on a
/// private server: another's is not ours to restart.
async fn cold(place: &Place, fresh: &Fresh<'_>, options: &Options, report: &mut Report) -> Fallible<()> {
    let Some(server) = place.server() else {
        progress::skipped("look-ups, cold", "the server is not private");
        return Ok(());
    };
    let questions: Vec<Question> = [TIMELINE, PERFECT_TIMELINE].into_iter().chain(OTHERS).collect();
    let rounds = options.rounds.clamp(1, 3);
    let bar = progress::bar("lookups", questions.len() * rounds);
    bar.set_message("cold");
    for question in &questions {
        let mut series = Series::new(format!("{}: cold", question.name), "ms");
        for round in 0..rounds {
            let data: String = connect(&fresh.url)
                .await?
                .query_one("SELECT current_setting('data_directory')", &[])
                .await?
                .try_get(0)?;
            server.stop_fast()?;
            forget(std::path::Path::new(&data))?;
            server.start_again()?;
            let client = connect(&fresh.url).await?;
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

/// A row out of `rows`, another each time.
fn some(nth: usize, rows: usize) -> usize {
    (nth + 1) * 15_485_863 % rows
}

/// Asks, and gives how many milliseconds it took. Nobody is asked about who is not there.
async fn ask(client: &Client, statement: &Statement, about: &str) -> Fallible<f64> {
    let begun = Instant::now();
    let found = client.query(statement, &[&about]).await?;
    let took: Duration = begun.elapsed();
    match found.is_empty() {
        true => Err(format!("void: no row about {about}").into()),
        false => Ok(took.as_secs_f64() * 1e3),
    }
}

/// Has the operating system forget what it keeps in memory of these files. All are written: the
/// server has stopped.
fn forget(dir: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let file = std::fs::File::open(entry.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
