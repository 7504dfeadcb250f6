//! Throughput with and without the scrubbing of secrets.
//!
//! Each sample is a process of its own: a process has one set of rules.

use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::process::Command;

use crate::Result;
use crate::args::Options;
use crate::clock::{Sample, Stopwatch};
use crate::contenders::{WARM_UP, audit_writer};
use crate::report::Report;
use crate::result::Goal::AtLeast;
use crate::schedule::{Contender, Rounds};
use crate::server::{BenchServer, Table};

const WITH: &str = "write_audit_log, scrubbed";
const WITHOUT: &str = "write_audit_log, not scrubbed";

pub(crate) async fn measure(server: &BenchServer, options: &Options, report: &mut Report) -> Result<()> {
    let contenders = [
        Contender::new(WITH, options.events, |server, rows| {
            in_a_process(server, rows, "on")
        }),
        Contender::new(WITHOUT, options.events, |server, rows| {
            in_a_process(server, rows, "off")
        }),
    ];
    let rounds = Rounds::run("scrub", server, options, &contenders).await?;
    let rates = [WITH, WITHOUT].map(|name| rounds.rate(name));
    report.add(rates[0].against(&rates[1], Some(AtLeast(0.95))))?;
    report.add(rates[1].row(None))?;
    let cpu = [WITH, WITHOUT].map(|name| rounds.series(name, "µs CPU/row", Sample::cpu_per_row));
    report.add(cpu[0].against(&cpu[1], None))?;
    Ok(())
}

fn in_a_process<'a>(
    server: &'a BenchServer,
    rows: usize,
    scrub: &'static str,
) -> BoxFuture<'a, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "scrub-sample",
            "--events",
            &rows.to_string(),
            "--database-url",
            &database.url,
        ]);
        command.env("AUDIT_SCRUB", scrub);
        let done = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .await?;
        if !done.status.success() {
            return Err("a sample failed".into());
        }
        let text = String::from_utf8(done.stdout)?;
        let [elapsed, cpu] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("void: a sample printed {text:?}").into());
        };
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(Sample {
            rows,
            elapsed: Duration::from_nanos(elapsed.parse()?),
            cpu: Duration::from_nanos(cpu.parse()?),
        })
    }
    .boxed()
}

/// Measures one sample and prints its time and its processor time in nanoseconds.
pub(crate) async fn sample(options: &Options) -> Result<()> {
    let url = options.database_url.as_deref().ok_or("no --database-url")?;
    let (writer, guard) = audit_writer::start(url)?;
    audit_writer::produce(&writer, WARM_UP).await?;
    let watch = Stopwatch::start();
    audit_writer::produce(&writer, options.events).await?;
    let sample = watch.sample(options.events);
    let report = guard.shutdown(audit_writer::TIMEOUT).await;
    if report.lost > 0 {
        return Err(format!("void: {} entries were lost", report.lost).into());
    }
    println!("{} {}", sample.elapsed.as_nanos(), sample.cpu.as_nanos());
    Ok(())
}
