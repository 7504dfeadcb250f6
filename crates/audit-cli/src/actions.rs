//! `auditlog actions`: the declared actions, and how they compare with those of the trail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit_ops::session;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use db_services::audit::{self, ActionUsage, actions};
use serde::{Deserialize, Serialize};

use crate::args::{DatabaseArgs, date};
use crate::database::{connect, open_to_read};
use crate::error::{CliError, CommandResult, Context, partial_if};
use crate::input::Input;
use crate::output::{self, Cell, print_note};

/// How far `--used` looks back without `--since`.
const DEFAULT_DAYS: i64 = 31;

/// The most actions that are compared. A trail with more has ids in the names of its actions.
const MAX_ACTIONS: u32 = 10_000;

/// What the names of the records of writers begin with.
const RESERVED: &str = "audit.";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog actions                                          the built-in ones
  auditlog actions --used                                   how often each occurred in the last 31 days
  auditlog actions --used --declared actions.json           with those that the application declares
  auditlog actions --used --since 2026-01 --json | jq 'select(.use == \"undeclared\")'

Declared are the usual actions of db_services::audit::actions and those of each --declared file: a JSON list of objects \
with name, category, verb, severity and meaning. An application writes it with \
`println!(\"{}\", serde_json::to_string(ACTIONS)?)`, ACTIONS being the list of `db_services::actions!`.

--used counts the entries with a created_at from --since on, without those that writers record about themselves (actions \
that begin with audit.):
  used         declared, and at least one entry has it
  never used   declared, and no entry has it; with --declared, only actions of the files are listed as such
  undeclared   entries have it, and nothing declares it (exit code 1)

No index serves --used: it reads each entry since that time. On PostgreSQL, 10 million entries take seconds, and the \
command ends after 5 minutes unless statement_timeout sets another limit. It ends with exit code 3 if there are more \
than 10,000 different actions: ids do not belong in their names. A login that row security limits counts the rows that it \
sees.

Without --used, no database is needed.

Exit codes: 0 done, 1 some actions are not declared (--used), 2 invalid arguments, 3 the database or a file failed.")]
pub(crate) struct Args {
    /// Compare with the actions of the trail
    #[arg(long)]
    used: bool,
    /// The actions that an application declares, as JSON; - for standard input. Can be repeated
    #[arg(long, value_name = "FILE")]
    declared: Vec<PathBuf>,
    /// Count entries from this date on [default: 31 days ago]
    #[arg(long, value_name = "DATE", value_parser = date, requires = "used")]
    since: Option<DateTime<Utc>>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// A declared action, as [`audit::Action`] serialises.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Declared {
    name: String,
    category: String,
    verb: String,
    severity: String,
    meaning: String,
}

/// The declared actions by name.
struct Registry {
    usual: BTreeMap<String, Declared>,
    /// Those of the files; none if there is no file.
    own: Option<BTreeMap<String, Declared>>,
}

impl Registry {
    fn read(files: &[PathBuf]) -> Result<Self, CliError> {
        let usual: Vec<Declared> = serde_json::from_value(serde_json::to_value(actions::USUAL)?)?;
        let mut registry = Self {
            usual: by_name(usual),
            own: None,
        };
        for file in files {
            let own = by_name(declared_in(file)?);
            registry.own.get_or_insert_default().extend(own);
        }
        Ok(registry)
    }

    fn find(&self, name: &str) -> Option<&Declared> {
        let own = self.own.as_ref().and_then(|own| own.get(name));
        own.or_else(|| self.usual.get(name))
    }

    fn all(&self) -> impl Iterator<Item = &Declared> {
        let mut all: BTreeMap<&String, &Declared> = self.usual.iter().collect();
        all.extend(self.own.iter().flatten());
        all.into_values()
    }

    /// Those that are expected in the trail. No application has each of the usual ones: where it names its own, it names
    /// the usual ones that it has.
    fn expected(&self) -> impl Iterator<Item = &Declared> {
        self.own.as_ref().unwrap_or(&self.usual).values()
    }
}

fn by_name(declared: Vec<Declared>) -> BTreeMap<String, Declared> {
    let named = declared.into_iter().map(|action| (action.name.clone(), action));
    named.collect()
}

fn declared_in(file: &Path) -> Result<Vec<Declared>, CliError> {
    let name = || match file == Path::new("-") {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    let mut text = String::new();
    Input::open(file)?
        .reader
        .read_to_string(&mut text)
        .context(name)?;
    let declared: Vec<Declared> = serde_json::from_str(&text)
        .context(|| format!("{} is no list of actions (see `auditlog actions --help`)", name()))?;
    match declared.iter().find(|action| action.name.starts_with(RESERVED)) {
        Some(action) => Err(CliError::new(format!(
            "{}: the action {} cannot be declared: names that begin with `{RESERVED}` are reserved for the writers' records",
            name(),
            action.name
        ))),
        None => Ok(declared),
    }
}

/// How an action of the registry, or of the trail, occurs in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Use {
    Used,
    NeverUsed,
    Undeclared,
}

/// An action of the registry, of the trail, or of both.
#[derive(Debug, Serialize)]
struct Compared<'a> {
    name: &'a str,
    r#use: Use,
    entries: u64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    category: Option<&'a str>,
    verb: Option<&'a str>,
    severity: Option<&'a str>,
    meaning: Option<&'a str>,
}

/// Compares what is declared with what is used: the used ones, then the others, each by name.
fn compare<'a>(registry: &'a Registry, usage: &'a [ActionUsage]) -> Vec<Compared<'a>> {
    let used: BTreeMap<&str, &ActionUsage> =
        usage.iter().map(|usage| (usage.action.as_str(), usage)).collect();
    let in_trail = used
        .iter()
        .map(|(name, usage)| compared(name, registry.find(name), Some(usage)));
    let unused = registry
        .expected()
        .filter(|action| !used.contains_key(action.name.as_str()))
        .map(|action| compared(&action.name, Some(action), None));
    let mut all: Vec<_> = in_trail.chain(unused).collect();
    all.sort_by_key(|action| (action.r#use, action.name));
    all
}

fn compared<'a>(name: &'a str, declared: Option<&'a Declared>, usage: Option<&ActionUsage>) -> Compared<'a> {
    Compared {
        name,
        r#use: match (declared, usage) {
            (Some(_), Some(_)) => Use::Used,
            (_, None) => Use::NeverUsed,
            (None, Some(_)) => Use::Undeclared,
        },
        entries: usage.map_or(0, |usage| usage.entries),
        first: usage.map(|usage| usage.first),
        last: usage.map(|usage| usage.last),
        category: declared.map(|action| &*action.category),
        verb: declared.map(|action| &*action.verb),
        severity: declared.map(|action| &*action.severity),
        meaning: declared.map(|action| &*action.meaning),
    }
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    let registry = Registry::read(&args.declared)?;
    if !args.used {
        list(&registry, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let since = args
        .since
        .unwrap_or_else(|| Utc::now() - TimeDelta::days(DEFAULT_DAYS));
    let usage = usage_since(database, since).await?;
    let compared = compare(&registry, &usage);
    if args.json {
        compared.iter().try_for_each(output::json)?;
    } else {
        let header = ["use", "action", "entries", "first (UTC)", "last (UTC)", "meaning"];
        output::table(&header, compared.iter().map(cells));
        print_note!("entries since {}", shown(&since));
    }
    let undeclared = compared.iter().filter(|action| action.r#use == Use::Undeclared);
    let undeclared = undeclared.count() as u64;
    if undeclared > 0 {
        print_note!(
            "{} not declared: correct the name where it is written, or declare it and name the file with --declared",
            output::counted(undeclared, "action is", "actions are")
        );
    }
    Ok(partial_if(undeclared > 0))
}

async fn usage_since(database: &DatabaseArgs, since: DateTime<Utc>) -> Result<Vec<ActionUsage>, CliError> {
    let mut conn = connect(&open_to_read(database)?).await?;
    let bar = output::spinner("counting");
    let usage = session::bounded(&mut conn, async |conn| {
        audit::action_usage(conn, since, MAX_ACTIONS + 1).await
    });
    let usage = usage.await;
    bar.finish_and_clear();
    let usage = usage?;
    match usage.len() > MAX_ACTIONS as usize {
        true => Err(CliError::new(format!(
            "the trail has more than {} different actions since {}: ids do not belong in the names of actions; \
             --since sets a later time",
            output::number(MAX_ACTIONS.into()),
            shown(&since)
        ))),
        false => Ok(usage),
    }
}

fn list(registry: &Registry, json: bool) -> Result<(), CliError> {
    if json {
        return registry.all().try_for_each(output::json);
    }
    let cells = |action: &Declared| {
        vec![
            Cell::plain(&action.name),
            Cell::plain(&action.category),
            Cell::plain(&action.verb),
            Cell::plain(&action.severity),
            Cell::prose(&action.meaning),
        ]
    };
    let header = ["action", "category", "verb", "severity", "meaning"];
    output::table(&header, registry.all().map(cells));
    Ok(())
}

fn cells(action: &Compared<'_>) -> Vec<Cell> {
    let r#use = match action.r#use {
        Use::Used => Cell::ok("used"),
        Use::NeverUsed => Cell::warn("never used"),
        Use::Undeclared => Cell::error("undeclared"),
    };
    let time = |time: &Option<DateTime<Utc>>| Cell::plain(time.as_ref().map(shown).unwrap_or_default());
    vec![
        r#use,
        Cell::plain(action.name),
        Cell::plain(output::number(action.entries)),
        time(&action.first),
        time(&action.last),
        Cell::prose(action.meaning.unwrap_or_default()),
    ]
}

fn shown(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
