//! The command line: the verbs, and the options that several of them share. Each verb's own options are in its
//! module.

use std::ffi::OsString;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::CommandFactory;
use clap::builder::styling::{AnsiColor, Styles};

use crate::error::CliError;
use crate::{
    actions, completions, doctor, export, hash, hold, import, list, man, migrate, partitions, restore,
    retention, show, spool, stats, tail, verify, write,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Operate an audit trail: create its table, write to it, import into it, inspect and maintain it.
#[derive(Debug, clap::Parser)]
#[command(
    name = "auditlog",
    version,
    styles = STYLES,
    after_help = "\
Examples:
  auditlog write --action auth.login --actor alice     a first entry, in ./audit.db
  auditlog list                                        show it
  auditlog list actor:alice since:7d -outcome:success  what failed for alice in the last week?
  auditlog stats since:30d --by actor                  who did how much?
  auditlog --database-url postgres://app@localhost/shop migrate
  auditlog import cloudtrail 2023-07-10/*.json.gz
  auditlog verify writers                              is anything missing?
  auditlog actions --used                              which actions occur, and are all of them declared?
  auditlog retention plan --keep 13months              which months are due to be dropped?
  auditlog doctor                                      is the trail protected as intended?

Locks: a statement waits at most 10 seconds for a lock of another session, unless the user, the database or the URL \
sets another lock_timeout; on SQLite at most 5 seconds. `retention apply` tries for about a minute to drop a month, and \
`spool` waits 30 seconds for the answer to a batch. Then the command ends with exit code 3, changes nothing further, \
and names the session that holds the lock.

Silent servers: if a server that accepted the connection does not answer, the command ends with exit code 3. It waits \
15 seconds longer than a statement may take: 5 minutes, or 6 hours where the time depends on the number of rows \
(`verify writers`, `partitions list` and `move-default`, `retention plan` and `apply`, `restore`, `migrate --revert`), \
unless the user, the database or the URL sets another statement_timeout. `doctor` waits 30 seconds for each answer, \
`migrate` 10 minutes for each migration, `spool` 30 seconds for a batch.

Exit codes: 0 done, 1 partly done (input was rejected, entries are missing, or something remains to be done), \
2 invalid arguments, 3 the database or a file failed."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Use colours: auto, always or never. With auto, NO_COLOR and CLICOLOR_FORCE are followed
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        value_parser = ["auto", "always", "never"]
    )]
    pub(crate) color: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The choice of `--color`, which applies to the messages about invalid arguments as well. The parser rejects an
/// unknown one.
pub(crate) fn color(arguments: &[OsString]) -> anstream::ColorChoice {
    let chosen = arguments.iter().enumerate().find_map(|(at, argument)| {
        let argument = argument.to_str()?;
        match argument.strip_prefix("--color=") {
            Some(choice) => Some(choice),
            None if argument == "--color" => arguments.get(at + 1)?.to_str(),
            None => None,
        }
    });
    match chosen {
        Some("always") => anstream::ColorChoice::Always,
        Some("never") => anstream::ColorChoice::Never,
        _ => anstream::ColorChoice::Auto,
    }
}

/// The verbs whose words are a query.
const WITH_QUERY: [&str; 4] = ["list", "stats", "tail", "export"];

/// The verb of a command line: the first argument that is one. Behind an unknown option clap finds none.
pub(crate) fn verb(arguments: &[OsString]) -> Option<String> {
    let verbs: Vec<_> = Cli::command()
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    let found = arguments
        .iter()
        .skip(1)
        .find(|argument| verbs.iter().any(|verb| **argument == **verb));
    found.and_then(|verb| verb.to_str()).map(str::to_owned)
}

/// Moves the negated terms of a query (`-outcome:success`) behind `--`, where they are no options. clap's
/// `allow_hyphen_values` would take each option behind the first term for a term.
///
/// # Errors
/// Behind an option that needs a value (`--actor -bob`): it may be meant as that value.
pub(crate) fn terms_last(arguments: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let Some(verb) = verb(&arguments).filter(|verb| WITH_QUERY.contains(&&**verb)) else {
        return Ok(arguments);
    };
    let takes_value = options_with_value(&verb);
    let end = arguments.iter().position(|argument| argument == "--");
    let (before, behind) = arguments.split_at(end.unwrap_or(arguments.len()));
    let (mut terms, mut sorted) = (Vec::new(), Vec::<OsString>::new());
    // Whether the argument before is an option whose value is missing.
    let mut awaits_value = false;
    for argument in before {
        match (is_negated_term(argument), sorted.last()) {
            (true, Some(option)) if awaits_value => return Err(ambiguous(option, argument)),
            (true, _) => terms.push(argument.clone()),
            (false, _) => {
                awaits_value = !awaits_value && takes_value(argument);
                sorted.push(argument.clone());
            }
        }
    }
    if !terms.is_empty() || end.is_some() {
        sorted.push("--".into());
    }
    sorted.extend(terms);
    sorted.extend(behind.iter().skip(1).cloned());
    Ok(sorted)
}

fn ambiguous(option: &OsString, term: &OsString) -> CliError {
    let (option, term) = (option.to_string_lossy(), term.to_string_lossy());
    CliError::usage(format!(
        "{option} needs a value, and {term} may be that or a negated term: write {option}={term}, or put the term behind --"
    ))
}

/// Whether an argument is an option of a verb whose value is the next argument.
fn options_with_value(verb: &str) -> impl Fn(&OsString) -> bool {
    let mut command = Cli::command();
    command.build();
    let verb = command.find_subcommand(verb).cloned().unwrap_or_default();
    move |argument| {
        let argument = argument.to_string_lossy();
        verb.get_arguments()
            .filter(|option| option.get_action().takes_values())
            .any(|option| {
                let is_long = option
                    .get_long()
                    .is_some_and(|name| argument.strip_prefix("--") == Some(name));
                // Several of one letter may stand together: -fn 5.
                let is_short = !argument.starts_with("--") && argument.starts_with('-');
                is_long || (is_short && option.get_short().is_some_and(|name| argument.ends_with(name)))
            })
    }
}

/// Whether an argument is no option: those of one letter are `-f`, `-h` and, with a number, `-n`, also `-fn5`.
fn is_negated_term(argument: &OsString) -> bool {
    let text = argument.to_string_lossy();
    match text.strip_prefix('-') {
        Some(term) if !term.starts_with('-') => {
            let number = term
                .trim_start_matches('f')
                .strip_prefix('n')
                .map(|number| number.trim_start_matches('='));
            term.len() > 1 && !number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        }
        _ => false,
    }
}

/// Which database to use.
#[derive(Debug, clap::Args)]
pub(crate) struct DatabaseArgs {
    /// The database: postgres://user:password@host/name or sqlite://path. Without it
    /// AUDIT_DATABASE_URL, then DATABASE_URL, then sqlite://audit.db
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Update the database's tables to this version
    Migrate(migrate::Args),
    /// Write one event from options, or many from a file of JSON lines
    Write(Box<write::Args>),
    /// Import the audit events of another system
    Import(import::Args),
    /// Show the entries that a query asks for
    List(list::Args),
    /// Show one entry with all that it has
    Show(show::Args),
    /// Count entries by time and by the values of a column
    Stats(stats::Args),
    /// Show the newest entries, and those to come
    Tail(tail::Args),
    /// Write entries to a file of JSON lines or CSV
    Export(export::Args),
    /// Show the declared actions, and compare them with those of the trail
    Actions(actions::Args),
    /// Print the digest by which a hashed value is found
    Hash(hash::Args),
    /// Inspect and replay entries that are spooled on this machine's disk
    Spool(spool::Args),
    /// Check the trail
    #[command(subcommand)]
    Verify(verify::Args),
    /// Create upcoming partitions, and empty the default partition
    #[command(subcommand)]
    Partitions(partitions::Args),
    /// Drop months that are past their retention period, with a record of each
    #[command(subcommand)]
    Retention(retention::Args),
    /// Manage legal holds, which keep rows whatever their age
    #[command(subcommand)]
    Hold(hold::Args),
    /// Restore archived months
    Restore(restore::Args),
    /// Examine whether the trail is protected as intended, and try to break it
    Doctor(doctor::Args),
    /// Print the completions for a shell
    Completions(completions::Args),
    /// Print the manual pages
    Man(man::Args),
}

/// Parses a date, a month or a time, in UTC.
pub(crate) fn date(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    let day = format!("{text}-01")
        .parse::<NaiveDate>()
        .or_else(|_| text.parse::<NaiveDate>());
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
        .map_err(|_| {
            "expected a date as 2024-01-31, a month as 2024-01, or a time as 2024-01-31T12:00:00Z".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negated_terms_are_no_options() {
        let sorted = |line: &str| {
            let arguments = line.split(' ').map(OsString::from).collect();
            let sorted: Vec<_> = terms_last(arguments)
                .unwrap()
                .into_iter()
                .map(|argument| argument.into_string().unwrap())
                .collect();
            sorted.join(" ")
        };
        for (line, expected) in [
            ("auditlog list -a:b c --json", "auditlog list c --json -- -a:b"),
            (
                "auditlog list -n 5 -n5 -h -needle",
                "auditlog list -n 5 -n5 -h -- -needle",
            ),
            ("auditlog list a -- -b c", "auditlog list a -- -b c"),
            (
                "auditlog tail -fn 5 -fn5 -f -failed",
                "auditlog tail -fn 5 -fn5 -f -- -failed",
            ),
            ("auditlog list -a -b:c -- d", "auditlog list -a -- -b:c d"),
            ("auditlog doctor -a:b", "auditlog doctor -a:b"),
            (
                "auditlog list --actor=-bob --actor bob -foo",
                "auditlog list --actor=-bob --actor bob -- -foo",
            ),
            (
                "auditlog list --actor --actor -foo",
                "auditlog list --actor --actor -- -foo",
            ),
            ("auditlog list --limt 5", "auditlog list --limt 5"),
        ] {
            assert_eq!(sorted(line), expected);
        }
    }

    #[test]
    fn what_may_be_a_value_or_a_term_is_refused() {
        for (line, option) in [
            ("auditlog list --actor -bob foo", "--actor=-bob"),
            ("auditlog list --since -7d", "--since=-7d"),
            ("auditlog tail -fn -bob foo", "-fn=-bob"),
            ("auditlog list --color -bob", "--color=-bob"),
        ] {
            let arguments = line.split(' ').map(OsString::from).collect();
            let error = terms_last(arguments).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn a_date_is_a_day_a_month_or_a_time() {
        for text in [
            "2024-01-01",
            "2024-01",
            "2024-01-01T00:00:00Z",
            "2024-01-01T01:00:00+01:00",
        ] {
            assert_eq!(
                date(text).unwrap().to_rfc3339(),
                "2024-01-01T00:00:00+00:00",
                "{text}"
            );
        }
        for text in ["", "2024", "2024-13", "2024-02-30", "yesterday"] {
            assert!(date(text).is_err(), "{text}");
        }
    }
}
