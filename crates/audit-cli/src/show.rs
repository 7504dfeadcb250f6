//! `auditlog show`: one entry with all that it has.

mod metadata;

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use audit_ops::{OpsError, session};
use chrono::{DateTime, SecondsFormat, Utc};
use db_services::audit::query::{AuditQuery, Column, Condition};
use db_services::audit::{AuditLog, Reading, network_text};
use uuid::Uuid;

use crate::args::DatabaseArgs;
use crate::error::{CliError, CommandResult, PARTIAL};
use crate::output::{self, print_line, printable};
use crate::query_args::ZoneArgs;
use crate::reading::{self, RECORDED, ReadArgs};

/// The widest name of a column, and a space.
const NAME_WIDTH: usize = 14;

#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  auditlog show 018f3a2e-7b1c-7def-8000-0123456789ab
  auditlog show --tenant acme 018f3a2e-7b1c-7def-8000-0123456789ab
  auditlog show --json 018f3a2e-7b1c-7def-8000-0123456789ab | jq .metadata

`auditlog list` prints the ids: with --ids, with --json, and where the output is wide enough or no terminal.

Columns without a value are left out; --json has all of them. Changes are lines with - and +. \
The commands at the end find the entries of the same request, operation, trace, actor and resource. On a terminal, times \
are those of --time-zone, otherwise UTC.

{RECORDED}

Exit codes: 0 done, 1 no entry that this login may read has the id, 2 invalid arguments, 3 the database failed."))]
pub(crate) struct Args {
    /// The id of the entry
    #[arg(value_name = "ID")]
    id: Uuid,
    /// The tenant of the entry; a login that reads as one tenant names it here
    #[arg(long)]
    tenant: Option<String>,
    /// Print JSON with all columns
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let query = AuditQuery::new(args.tenant.iter().map(Condition::tenant).collect());
    let mut conn = args.read.connect(database).await?;
    let rows = session::bounded(&mut conn, async |conn| {
        reading::as_tenant(conn, args.tenant.as_deref()).await?;
        let rows = reading::answer(query.find(conn, args.id).await)?;
        if let Ok(rows) = &rows {
            let reading = Reading::of_entry(args.id).rows(rows.len() as u64);
            args.read.record(conn, reading).await?;
        }
        Ok::<_, OpsError>(rows)
    })
    .await??;
    if rows.is_empty() {
        return Err(not_found(&args).with_exit_code(PARTIAL));
    }
    if !args.json {
        args.read.start_pager();
    }
    for (place, row) in rows.iter().enumerate() {
        match args.json {
            true => output::json(row)?,
            false => show(&args, row, place > 0)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn not_found(args: &Args) -> CliError {
    CliError::new(match &args.tenant {
        Some(tenant) => format!("no entry of the tenant {tenant} has the id {}", args.id),
        None => format!(
            "no entry that this login may read has the id {}; a login that reads as one tenant names it with --tenant",
            args.id
        ),
    })
}

fn show(args: &Args, row: &AuditLog, is_next: bool) -> Result<(), CliError> {
    if is_next {
        print_line!("");
    }
    for (name, value) in columns(args, row) {
        let Some(value) = value else { continue };
        let style = match name {
            "outcome" => output::outcome_style(&row.outcome),
            _ => Style::new(),
        };
        output::styled_after(&format!("{name:NAME_WIDTH$}"), style, &printable(&value));
    }
    if let Some(json) = &row.metadata {
        metadata::show(json)?;
    }
    show_related(args, row);
    Ok(())
}

fn columns(args: &Args, row: &AuditLog) -> [(&'static str, Option<String>); 19] {
    let time = |time| Some(shown(args, time));
    [
        ("id", Some(row.id.to_string())),
        ("created_at", time(row.created_at)),
        ("recorded_at", time(row.recorded_at)),
        ("action", Some(row.action.clone())),
        ("outcome", Some(row.outcome.clone())),
        ("tenant_id", row.tenant_id.clone()),
        ("actor_id", row.actor_id.clone()),
        ("actor_type", row.actor_type.clone()),
        ("on_behalf_of", row.on_behalf_of.clone()),
        ("resource_type", row.resource_type.clone()),
        ("resource_id", row.resource_id.clone()),
        ("ip_address", row.ip_address.map(network_text)),
        ("user_agent", row.user_agent.clone()),
        ("request_id", row.request_id.clone()),
        ("trace_id", row.trace_id.clone()),
        ("operation_id", row.operation_id.map(|id| id.to_string())),
        ("writer_id", row.writer_id.map(|id| id.to_string())),
        ("writer_seq", row.writer_seq.map(|seq| seq.to_string())),
        ("tx_id", Some(row.tx_id.to_string())),
    ]
}

fn shown(args: &Args, time: DateTime<Utc>) -> String {
    match output::is_terminal() {
        true => args.zone.time_zone.formatted(time, "%Y-%m-%d %H:%M:%S%.6f %:z"),
        false => time.to_rfc3339_opts(SecondsFormat::Micros, true),
    }
}

/// Prints the commands that find what is related to the entry.
fn show_related(args: &Args, row: &AuditLog) {
    let equals =
        |column, value: &Option<String>| value.as_ref().map(|value| Condition::equals(column, value));
    let resource = [
        equals(Column::ResourceType, &row.resource_type),
        equals(Column::ResourceId, &row.resource_id),
    ];
    let queries: [Vec<Condition>; 5] = [
        equals(Column::Request, &row.request_id).into_iter().collect(),
        row.operation_id.map(Condition::operation).into_iter().collect(),
        equals(Column::Trace, &row.trace_id).into_iter().collect(),
        equals(Column::Actor, &row.actor_id).into_iter().collect(),
        resource.into_iter().flatten().collect(),
    ];
    let tenant = args.tenant.as_ref().map(|tenant| format!("--tenant={tenant}"));
    let all = row.action.starts_with("audit.").then(|| "--all".to_owned());
    let options: Vec<String> = tenant.into_iter().chain(all).collect();
    let commands: Vec<_> = queries
        .iter()
        .filter_map(|query| command(&options, query))
        .collect();
    if !commands.is_empty() {
        output::styled(Style::new().bold(), "\nrelated");
    }
    for command in commands {
        output::styled(AnsiColor::Cyan.on_default(), &format!("  {command}"));
    }
}

/// The command line for a query. None without a condition, and where a text could not be copied from a terminal.
fn command(options: &[String], query: &[Condition]) -> Option<String> {
    let terms = query.iter().map(Condition::to_string);
    let words = options.iter().cloned().chain(terms);
    let words: Vec<_> = words.map(|word| shell_quoted(&word)).collect();
    let command = format!("auditlog list {}", words.join(" "));
    (!query.is_empty() && printable(&command) == command).then_some(command)
}

fn shell_quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:/=@,+%".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_copied_into_a_shell() {
        let of = |condition: Condition| command(&[], &[condition]);
        for (value, expected) in [
            ("alice@example.org", "auditlog list actor:alice@example.org"),
            ("Carol O'Brien", "auditlog list 'actor:\"Carol O'\\''Brien\"'"),
            ("$(reboot)", "auditlog list 'actor:$(reboot)'"),
            ("a*", "auditlog list 'actor:\"a*\"'"),
        ] {
            assert_eq!(of(Condition::actor(value)).as_deref(), Some(expected));
        }
        assert_eq!(of(Condition::actor("a\nauditlog migrate --revert")), None);
        assert_eq!(of(Condition::actor("a\u{202e}b")), None);
        assert_eq!(command(&[], &[]), None);
    }
}
