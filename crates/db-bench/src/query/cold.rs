//! The first query after a start of the server, with no page of its data in memory.

use super::ask;
use super::questions::{IDEAL_TIMELINE, QUESTIONS, Question, TIMELINE};
use super::trail::Trail;
use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Series;
use crate::server::{BenchDatabase, BenchServer, connect};

const ASKED: [&str; 4] = ["actor, ordinary", "resource", "request", "page across tenants"];

/// Only on a private server: another one must not be restarted.
pub(super) async fn measure(
    server: &BenchServer,
    database: &BenchDatabase<'_>,
    trail: &Trail,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let Some(private) = server.private() else {
        progress::skipped("look-ups, cold", "the server is not private");
        return Ok(());
    };
    let others = QUESTIONS.iter().filter(|question| ASKED.contains(&question.name));
    let questions: Vec<&Question> = [&TIMELINE, &IDEAL_TIMELINE].into_iter().chain(others).collect();
    let rounds = options.rounds.clamp(1, 3);
    let bar = progress::bar("query", questions.len() * rounds);
    bar.set_message("cold");
    for question in &questions {
        let mut series = Series::new(format!("{}, cold", trail.name(question)), "ms");
        for round in 0..rounds {
            let data: String = connect(&database.url)
                .await?
                .query_one("SELECT current_setting('data_directory')", &[])
                .await?
                .try_get(0)?;
            private.stop_fast()?;
            evict(std::path::Path::new(&data))?;
            private.start_again()?;
            let client = question.viewer.connect(&database.url).await?;
            let statement = client.prepare(question.sql).await?;
            let about = (question.about)(trail.some(round + 1_000));
            series
                .values
                .push(ask(&client, &statement, question, &about).await?);
            bar.inc(1);
        }
        report.add(series.row(None))?;
    }
    bar.finish_and_clear();
    Ok(())
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
