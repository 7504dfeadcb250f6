//! `auditlog doctor`: examines whether the trail is protected as intended.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::doctor::{self, AllowList, Finding, Options, Report, Severity};

use unicode_width::UnicodeWidthStr;

use crate::args::DatabaseArgs;
use crate::database::open_existing;
use crate::error::{CliError, CommandResult, Context, FAILED};
use crate::output::{self, Cell};

/// On a terminal, where the findings to fix follow below the table.
const TABLE_HEADER: [&str; 3] = ["result", "code", "found"];
/// For programs that read lines.
const LINE_HEADER: [&str; 5] = ["result", "code", "found", "remedy", "controls"];

/// The width of text on a terminal.
const WIDTH: usize = 80;
/// A remedy that is longer, such as a function, is shown in part on a terminal.
const REMEDY_LINES: usize = 12;

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
  auditlog doctor --allow audit-allow.txt              with a list of additions that are intended

A line of that list is a kind and a name, as the findings show them: `view public.audit_report`, `role reporting`, \
`publication warehouse`. The report shows what was allowed, and lines that allow nothing.

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
    /// A file with objects that are intended although they are not part of the trail
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
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
    if let Some(path) = &args.allow {
        options.allow = allow_list(path).map_err(|error| error.with_exit_code(FAILED))?;
    }
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

fn allow_list(path: &Path) -> Result<AllowList, CliError> {
    let text = std::fs::read_to_string(path).context(|| path.display().to_string())?;
    AllowList::parse(&text).context(|| path.display().to_string())
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
        let found = output::printable(&format!("{code} ({check}): {}", finding.found));
        wrapped(&found, WIDTH).iter().for_each(|line| output::text(line));
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        for line in remedy.lines().take(REMEDY_LINES) {
            let line = output::printable(line);
            match line.strip_prefix("-- ") {
                Some(comment) => wrapped(comment, WIDTH - 7)
                    .iter()
                    .for_each(|line| output::text(&format!("    -- {line}"))),
                // SQL stays as it is, to be copied.
                None => output::text(&format!("    {line}")),
            }
        }
        if let Some(more) = remedy
            .lines()
            .count()
            .checked_sub(REMEDY_LINES)
            .filter(|more| *more > 0)
        {
            output::text(&format!(
                "    … and {more} lines: --markdown or --json shows them"
            ));
        }
        let controls = wrapped(&finding.code.controls().join(", "), WIDTH - 4);
        controls
            .iter()
            .for_each(|line| output::text(&format!("    {line}")));
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

/// Breaks a text into lines between its words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(
            wrapped("a_word_that_is_longer than 8", 8),
            ["a_word_that_is_longer", "than 8"]
        );
    }
}
