//! `auditlog doctor`: examines whether the trail is protected as intended.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::doctor::{self, Finding, Options, Report, Severity};

use crate::args::DatabaseArgs;
use crate::database::open_existing;
use crate::error::{CommandResult, Context, FAILED};
use crate::output::{self, Cell};

/// On a terminal, where the findings to fix follow below the table.
const TABLE_HEADER: [&str; 3] = ["result", "code", "found"];
/// For programs that read lines.
const LINE_HEADER: [&str; 5] = ["result", "code", "found", "remedy", "controls"];

const CRITICAL: u8 = 1;
/// Warnings, and nothing critical.
const WARNINGS: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  DATABASE_URL=$AUDIT_DATABASE_URL auditlog doctor     with the application's own rights
  auditlog doctor --json | jq 'select(.severity == \"critical\")'
  auditlog doctor --markdown report.md                 a report for an assessor
  auditlog doctor --invasive                           all statements, at a quiet time

It reads the catalog, and then tries to change, delete, forge and read rows that this user should not. It \
targets only rows that it inserted itself, in a transaction that is rolled back. No statement waits for a \
lock for longer than 200 ms. The server's log shows the refused statements. docs/doctor.md explains each code.

Exit codes: 0 fine, 1 critical (rows can be changed, forged or lost, or one tenant's rows seen by another), \
2 warnings only, 3 invalid arguments, or it could not be run.")]
pub(crate) struct Args {
    /// Also try TRUNCATE, ALTER, DETACH and DROP, for which writers wait briefly; rolled back as well
    #[arg(long)]
    invasive: bool,
    /// A tenant that has rows, for a user who may read but not write
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Print JSON lines, one for each finding
    #[arg(long)]
    json: bool,
    /// Also write a report in Markdown to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let mut options = Options::default();
    options.invasive = args.invasive;
    options.tenant = args.tenant;
    // The exit code for invalid arguments would mean warnings here.
    let database = open_existing(database).map_err(|error| error.with_exit_code(FAILED))?;
    let report = doctor::examine(&database, &options).await?;
    if let Some(path) = &args.markdown {
        write_report(path, &report).context(|| path.display().to_string())?;
    }
    if args.json {
        for finding in &report.findings {
            output::json(finding)?;
        }
    } else if std::io::stdout().is_terminal() {
        output::table(
            &TABLE_HEADER,
            report.findings.iter().map(|finding| cells(finding).collect()),
        );
        explain(&report);
    } else {
        output::table(
            &LINE_HEADER,
            report
                .findings
                .iter()
                .map(|finding| cells(finding).chain(extra_cells(finding)).collect()),
        );
    }
    Ok(match report.worst() {
        Severity::Critical => ExitCode::from(CRITICAL),
        Severity::Warning => ExitCode::from(WARNINGS),
        Severity::Info | Severity::Ok => ExitCode::SUCCESS,
    })
}

/// Writes the report to a new file that only this user may read. A file or link of that name is an error.
fn write_report(path: &Path, report: &Report) -> std::io::Result<()> {
    let mut file = db_services::files::create_private(path)?;
    let written = file
        .write_all(report.markdown().as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Part of a report would refuse the next one its name.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn cells(finding: &Finding) -> impl Iterator<Item = Cell> {
    let severity = finding.severity.as_str();
    let severity = match finding.severity {
        Severity::Ok => Cell::ok(severity),
        Severity::Info => Cell::plain(severity),
        Severity::Warning => Cell::warn(severity),
        Severity::Critical => Cell::error(severity),
    };
    [
        severity,
        Cell::plain(finding.code.as_str()),
        Cell::prose(&finding.found),
    ]
    .into_iter()
}

fn extra_cells(finding: &Finding) -> impl Iterator<Item = Cell> {
    let remedy = finding.remedy.as_deref().unwrap_or_default().replace('\n', "\\n");
    [
        Cell::plain(remedy),
        Cell::plain(finding.code.controls().join(", ")),
    ]
    .into_iter()
}

/// Prints each warning and critical finding in full, with its remedy, and a summary.
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
            .count() as u64
    };
    output::text("");
    output::text(&output::printable(&format!(
        "{} on {} as {}: {} critical, {}, {} passed",
        report.server,
        report.database,
        report.user,
        count(Severity::Critical),
        output::counted(count(Severity::Warning), "warning", "warnings"),
        output::counted(count(Severity::Ok), "check", "checks")
    )));
}
