//! `auditlog doctor`: is the trail as safe as it is meant to be?

use std::io::IsTerminal;
use std::process::ExitCode;

use audit_ops::doctor::{self, Finding, Options, Report, Severity};

use crate::args::Doctor;
use crate::database::existing;
use crate::failure::{Done, Failure};
use crate::output::{self, Cell};

/// On a terminal; what is to be mended stands below the table.
const TABLE: [&str; 3] = ["result", "code", "found"];
/// For programs that read lines.
const LINE: [&str; 5] = ["result", "code", "found", "remedy", "controls"];

/// Warnings, and nothing worse.
const WARNINGS: u8 = 2;
const CRITICAL: u8 = 1;

pub(crate) async fn run(url: Option<&str>, args: Doctor) -> Done {
    let mut options = Options::default();
    options.invasive = args.invasive;
    options.tenant = args.tenant;
    let database = existing(url).map_err(Failure::into_failed)?;
    let report = doctor::examine(&database, &options).await?;
    if let Some(path) = &args.markdown {
        std::fs::write(path, report.markdown())
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    if args.json {
        for finding in &report.findings {
            output::text(&serde_json::to_string(finding)?);
        }
    } else if std::io::stdout().is_terminal() {
        output::table(
            &TABLE,
            report.findings.iter().map(|finding| cells(finding).collect()),
        );
        explain(&report);
    } else {
        output::table(
            &LINE,
            report
                .findings
                .iter()
                .map(|finding| cells(finding).chain(more(finding)).collect()),
        );
    }
    Ok(match report.worst() {
        Severity::Critical => ExitCode::from(CRITICAL),
        Severity::Warning => ExitCode::from(WARNINGS),
        Severity::Info | Severity::Ok => ExitCode::SUCCESS,
    })
}

fn cells(finding: &Finding) -> impl Iterator<Item = Cell> {
    let severity = finding.severity.as_str();
    let severity = match finding.severity {
        Severity::Ok => Cell::good(severity),
        Severity::Info => Cell::plain(severity),
        Severity::Warning => Cell::doubtful(severity),
        Severity::Critical => Cell::bad(severity),
    };
    [
        severity,
        Cell::plain(finding.code.as_str()),
        Cell::plain(&finding.found),
    ]
    .into_iter()
}

fn more(finding: &Finding) -> impl Iterator<Item = Cell> {
    let remedy = finding.remedy.as_deref().unwrap_or_default().replace('\n', "\\n");
    [
        Cell::plain(remedy),
        Cell::plain(finding.code.controls().join(", ")),
    ]
    .into_iter()
}

/// What is to be mended, in full, each with its way out.
fn explain(report: &Report) {
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning)
    {
        output::text("");
        let (code, check) = (finding.code.as_str(), finding.code.check());
        output::text(&output::printable(&format!(
            "{code} ({check}): {}",
            finding.found
        )));
        for line in finding.remedy.as_deref().unwrap_or_default().lines() {
            output::text(&format!("    {}", output::printable(line)));
        }
        output::text(&format!("    {}", finding.code.controls().join(", ")));
    }
    let count = |severity| {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    output::text("");
    output::text(&output::printable(&format!(
        "{} on {} as {}: {} critical, {} warnings, {} checks fine",
        report.server,
        report.database,
        report.user,
        count(Severity::Critical),
        count(Severity::Warning),
        count(Severity::Ok)
    )));
}
