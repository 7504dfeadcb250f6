//! How many entries a second do many callers get committed that await each of theirs?

use futures_util::FutureExt;

use crate::Fallible;
use crate::args::Options;
use crate::peers::{ours, single};
use crate::place::Place;
use crate::report::Report;
use crate::rounds::{Contender, Rounds};
use crate::row::Goal::AtLeast;

const OURS_10: &str = "write_audit_log, awaited by 10";
const OURS_50: &str = "write_audit_log, awaited by 50";
const POOL_10: &str = "single inserts, pool of 10, 10 callers";
const POOL_50: &str = "single inserts, pool of 10, 50 callers";

pub(crate) async fn measure(place: &Place, options: &Options, report: &mut Report) -> Fallible<()> {
    let (few, many) = ((options.events / 20).max(50), (options.events / 5).max(50));
    let contenders = [
        Contender {
            name: OURS_10,
            rows: many,
            turn: |place, rows| ours::concurrent(place, rows, 10).boxed(),
        },
        Contender {
            name: POOL_10,
            rows: few,
            turn: |place, rows| single::concurrent(place, rows, 10).boxed(),
        },
        Contender {
            name: OURS_50,
            rows: many,
            turn: |place, rows| ours::concurrent(place, rows, 50).boxed(),
        },
        Contender {
            name: POOL_50,
            rows: few,
            turn: |place, rows| single::concurrent(place, rows, 50).boxed(),
        },
    ];
    let rounds = Rounds::run("concurrent", place, options, &contenders).await?;
    report.add(
        rounds
            .rate(OURS_10)
            .against(&rounds.rate(POOL_10), Some(AtLeast(3.0))),
    )?;
    report.add(
        rounds
            .rate(OURS_50)
            .against(&rounds.rate(POOL_50), Some(AtLeast(5.0))),
    )?;
    report.add(rounds.rate(POOL_10).row(None))?;
    report.add(rounds.rate(POOL_50).row(None))?;
    Ok(())
}
