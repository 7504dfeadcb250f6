//! Throughput of one producer that awaits no entry, until all are committed.

use crate::Result;
use crate::args::Options;
use crate::clock::Sample;
use crate::contenders::{ancestor, audit_writer, batches, sea_orm, single, sqlx, statement};
use crate::progress;
use crate::report::Report;
use crate::result::Goal::{AtLeast, AtMost};
use crate::schedule::{Contender, Rounds};
use crate::server::BenchServer;

pub(crate) const OURS: &str = "write_audit_log, forgotten";
pub(crate) const ANCESTOR: &str = "ancestor (Drizzle), awaited";
const ANCESTOR_BATCH: &str = "ancestor (Drizzle), batch of 1000";
const POOLED: &str = "diesel-async, single, default pool";
const HELD: &str = "diesel-async, single, held connection";
const DIESEL_BATCH: &str = "diesel-async, values of 1000";
pub(crate) const SQLX: &str = "sqlx, single";
const SQLX_BATCH: &str = "sqlx, unnest of 1000";
pub(crate) const SEA_ORM: &str = "sea-orm, single";
const COPY: &str = "COPY BINARY, conventional table";
const COPY_OWN: &str = "COPY BINARY, own table";
const STATEMENT: &str = "bare statement, own table";
const GUARDED: &str = "triggers, partitions, INSERT-only role";
const UNGUARDED: &str = "one table without any of these";

/// The number of single inserts that take about as long as the rows of a fast contender.
pub(crate) fn slow(events: usize) -> usize {
    (events / 100).max(10)
}

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = Rounds::run("ingest", server, options, &contenders(options).await).await?;
    let ours = rounds.rate(OURS);
    for (reference, goal) in [
        (ANCESTOR, AtLeast(80.0)),
        (ANCESTOR_BATCH, AtLeast(5.5)),
        (COPY, AtLeast(1.25)),
        (STATEMENT, AtLeast(0.85)),
    ] {
        report.add(ours.against(&rounds.rate(reference), Some(goal)))?;
    }
    for reference in [COPY_OWN, DIESEL_BATCH, SQLX_BATCH] {
        report.add(ours.against(&rounds.rate(reference), None))?;
    }
    let cpu = |name| rounds.series(name, "µs CPU/row", Sample::cpu_per_row);
    report.add(cpu(OURS).against(&cpu(ANCESTOR), Some(AtMost(1.0 / 50.0))))?;
    report.add(rounds.rate(GUARDED).against(&rounds.rate(UNGUARDED), None))?;
    for name in [
        ANCESTOR,
        ANCESTOR_BATCH,
        POOLED,
        HELD,
        SQLX,
        SEA_ORM,
        DIESEL_BATCH,
        SQLX_BATCH,
        COPY,
        COPY_OWN,
        STATEMENT,
        UNGUARDED,
    ] {
        report.add(rounds.rate(name).row(None))?;
    }
    report.add(cpu(ANCESTOR).row(None))?;
    Ok(())
}

async fn contenders(options: &Options) -> Vec<Contender> {
    let events = options.events;
    let mut all = vec![
        Contender::new(OURS, events, audit_writer::fire_and_forget),
        Contender::new(POOLED, slow(events), single::pooled),
        Contender::new(HELD, slow(events), single::held),
        Contender::new(SQLX, slow(events), sqlx::single),
        Contender::new(SEA_ORM, slow(events), sea_orm::single),
        Contender::new(DIESEL_BATCH, events / 2, batches::diesel),
        Contender::new(SQLX_BATCH, events / 2, sqlx::unnest),
        Contender::new(COPY, events, batches::copy_conventional),
        Contender::new(COPY_OWN, events, batches::copy_own),
        Contender::new(STATEMENT, events, statement::looped),
        Contender::new(GUARDED, events, audit_writer::guarded),
        Contender::new(UNGUARDED, events, audit_writer::unguarded),
    ];
    if includes_ancestor(options, ANCESTOR).await {
        all.push(Contender::new(ANCESTOR, slow(events), ancestor::single));
        all.push(Contender::new(ANCESTOR_BATCH, events / 5, ancestor::batch));
    }
    all
}

/// True if the ancestor can be measured. Otherwise it prints why not.
pub(crate) async fn includes_ancestor(options: &Options, what: &str) -> bool {
    if ![ANCESTOR, ANCESTOR_BATCH]
        .iter()
        .any(|name| options.takes_part(name))
    {
        return false;
    }
    let installed = match options.without_node {
        true => Err("--without-node".to_owned()),
        false => ancestor::install().await,
    };
    installed.map_err(|why| progress::skipped(what, &why)).is_ok()
}
