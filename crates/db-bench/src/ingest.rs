//! How many entries a second does one producer get committed that awaits none of them?

use crate::Fallible;
use crate::args::Options;
use crate::clock::Sample;
use crate::peers::{batches, node, ours, sea_orm, single, sqlx, statement};
use crate::place::Place;
use crate::progress;
use crate::report::Report;
use crate::rounds::{Contender, Rounds};
use crate::row::Goal::{AtLeast, AtMost};

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

/// Single inserts that take as long as a fast contender's rows, about.
pub(crate) fn slow(events: usize) -> usize {
    (events / 100).max(10)
}

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let rounds = Rounds::run("ingest", place, options, &contenders(options).await).await?;
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
        Contender {
            name: OURS,
            rows: events,
            turn: ours::forgotten,
        },
        Contender {
            name: POOLED,
            rows: slow(events),
            turn: single::pooled,
        },
        Contender {
            name: HELD,
            rows: slow(events),
            turn: single::held,
        },
        Contender {
            name: SQLX,
            rows: slow(events),
            turn: sqlx::single,
        },
        Contender {
            name: SEA_ORM,
            rows: slow(events),
            turn: sea_orm::single,
        },
        Contender {
            name: DIESEL_BATCH,
            rows: events / 2,
            turn: batches::diesel,
        },
        Contender {
            name: SQLX_BATCH,
            rows: events / 2,
            turn: sqlx::unnest,
        },
        Contender {
            name: COPY,
            rows: events,
            turn: batches::copy_conventional,
        },
        Contender {
            name: COPY_OWN,
            rows: events,
            turn: batches::copy_own,
        },
        Contender {
            name: STATEMENT,
            rows: events,
            turn: statement::looped,
        },
        Contender {
            name: GUARDED,
            rows: events,
            turn: ours::guarded,
        },
        Contender {
            name: UNGUARDED,
            rows: events,
            turn: ours::unguarded,
        },
    ];
    if node_is_there(options, ANCESTOR).await {
        all.push(Contender {
            name: ANCESTOR,
            rows: slow(events),
            turn: node::single,
        });
        all.push(Contender {
            name: ANCESTOR_BATCH,
            rows: events / 5,
            turn: node::batch,
        });
    }
    all
}

/// Whether the peer on Node takes part; says so if it does not.
pub(crate) async fn node_is_there(options: &Options, what: &str) -> bool {
    if ![ANCESTOR, ANCESTOR_BATCH]
        .iter()
        .any(|name| options.takes_part(name))
    {
        return false;
    }
    let installed = match options.without_node {
        true => Err("--without-node".to_owned()),
        false => node::install().await,
    };
    installed.map_err(|why| progress::skipped(what, &why)).is_ok()
}
