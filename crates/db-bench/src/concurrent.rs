//! Rate of concurrent callers that each await every entry.

use futures_util::FutureExt;

use crate::Result;
use crate::args::Options;
use crate::contenders::{audit_writer, single};
use crate::report::Report;
use crate::result::Goal::AtLeast;
use crate::schedule::{Contender, Rounds};
use crate::server::BenchServer;

const OURS_10: &str = "write_audit_log, awaited by 10";
const OURS_50: &str = "write_audit_log, awaited by 50";
const POOL_10: &str = "single inserts, pool of 10, 10 callers";
const POOL_50: &str = "single inserts, pool of 10, 50 callers";

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let (few, many) = ((options.events / 20).max(50), (options.events / 5).max(50));
    let contenders = [
        Contender::new(OURS_10, many, |server, rows| {
            audit_writer::concurrent(server, rows, 10).boxed()
        }),
        Contender::new(POOL_10, few, |server, rows| {
            single::concurrent(server, rows, 10).boxed()
        }),
        Contender::new(OURS_50, many, |server, rows| {
            audit_writer::concurrent(server, rows, 50).boxed()
        }),
        Contender::new(POOL_50, few, |server, rows| {
            single::concurrent(server, rows, 50).boxed()
        }),
    ];
    let rounds = Rounds::run("concurrent", server, options, &contenders).await?;
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
