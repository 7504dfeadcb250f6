//! Metadata as a tree, and what changed as lines with - and +. Numbers are shown as they are stored, with all their digits.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use db_services::audit::JsonText;
use serde_json::value::RawValue;

use crate::error::CliError;
use crate::output::{self, json_text, print_line};

/// The most levels that are shown as a tree; what is deeper is shown as its text.
const MAX_LEVELS: usize = 127;

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// A value of JSON, and the values in it as text.
enum Value<'a> {
    Object(Members<'a>),
    Array(Vec<&'a RawValue>),
    Text(String),
    /// A number, `true`, `false` or `null`; or what is no Unicode.
    Other(&'a str),
}

impl<'a> Value<'a> {
    fn read(json: &'a str) -> Self {
        let json = json.trim_ascii();
        let value = match json.as_bytes().first() {
            Some(b'{') => serde_json::from_str(json).map(Self::Object),
            Some(b'[') => serde_json::from_str(json).map(Self::Array),
            Some(b'"') => serde_json::from_str(json).map(Self::Text),
            _ => Ok(Self::Other(json)),
        };
        value.unwrap_or(Self::Other(json))
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Other(_))
    }
}

/// Prints metadata: an object as a tree, anything else as its text.
pub(super) fn show(json: &JsonText) -> Result<(), CliError> {
    let Value::Object(mut members) = Value::read(json.as_str()) else {
        heading("metadata");
        print_line!("  {}", output::printable(json.as_str()));
        return Ok(());
    };
    if let Some(changes) = changes(&members) {
        heading("changes");
        changes.iter().try_for_each(show_change)?;
        members.remove("changes");
    }
    if !members.is_empty() {
        heading("metadata");
        show_members(&members, 1)?;
    }
    Ok(())
}

fn heading(title: &str) {
    output::styled(Style::new().bold(), &format!("\n{title}"));
}

/// A change: its path, and its values.
struct Change<'a> {
    path: String,
    from: Option<&'a RawValue>,
    to: Option<&'a RawValue>,
}

/// The list of changes, if it has the form in which this library writes it.
fn changes<'a>(members: &Members<'a>) -> Option<Vec<Change<'a>>> {
    let read = |change: &&'a RawValue| {
        let Value::Object(mut change) = Value::read(change.get()) else {
            return None;
        };
        let Value::Text(path) = Value::read(change.remove("path")?.get()) else {
            return None;
        };
        let (from, to) = (change.remove("from"), change.remove("to"));
        change.is_empty().then_some(Change { path, from, to })
    };
    match Value::read(members.get("changes")?.get()) {
        Value::Array(changes) if !changes.is_empty() => changes.iter().map(read).collect(),
        _ => None,
    }
}

fn show_change(change: &Change<'_>) -> Result<(), CliError> {
    let path = if change.path.is_empty() { "/" } else { &change.path };
    print_line!("  {}", output::printable(path));
    for (value, sign, color) in [
        (change.from, '-', AnsiColor::Red),
        (change.to, '+', AnsiColor::Green),
    ] {
        if let Some(value) = value {
            output::styled(
                color.on_default(),
                &format!("  {sign} {}", compact(value.get(), 1)?),
            );
        }
    }
    Ok(())
}

fn show_members(members: &Members<'_>, level: usize) -> Result<(), CliError> {
    members
        .iter()
        .try_for_each(|(name, value)| show_value(&bare(name)?, value.get(), level))
}

fn show_value(name: &str, json: &str, level: usize) -> Result<(), CliError> {
    let indent = "  ".repeat(level);
    match Value::read(json) {
        Value::Object(members) if !members.is_empty() && level < MAX_LEVELS => {
            print_line!("{indent}{name}");
            show_members(&members, level + 1)
        }
        Value::Array(values)
            if level < MAX_LEVELS && !values.iter().all(|value| Value::read(value.get()).is_scalar()) =>
        {
            print_line!("{indent}{name}");
            let mut values = values.iter().enumerate();
            values.try_for_each(|(place, value)| show_value(&format!("[{place}]"), value.get(), level + 1))
        }
        _ => {
            print_line!("{indent}{name}: {}", compact(json, level)?);
            Ok(())
        }
    }
}

/// JSON in one line and without spaces, as both databases have it then.
fn compact(json: &str, level: usize) -> Result<String, CliError> {
    if level > MAX_LEVELS {
        return json_text(&JsonText::from_text(json));
    }
    match Value::read(json) {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                Ok(format!(
                    "{}:{}",
                    json_text(name)?,
                    compact(value.get(), level + 1)?
                ))
            });
            Ok(format!(
                "{{{}}}",
                members.collect::<Result<Vec<_>, CliError>>()?.join(",")
            ))
        }
        Value::Array(values) => {
            let values = values.iter().map(|value| compact(value.get(), level + 1));
            Ok(format!(
                "[{}]",
                values.collect::<Result<Vec<_>, CliError>>()?.join(",")
            ))
        }
        Value::Text(text) => json_text(&text),
        Value::Other(json) => json_text(&JsonText::from_text(json)),
    }
}

/// A name without quotes, if it needs none.
fn bare(name: &str) -> Result<String, CliError> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name.to_owned()),
        false => json_text(name),
    }
}
