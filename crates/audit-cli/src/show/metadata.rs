//! Metadata as a tree, and what changed as lines with - and +.

use anstyle::{AnsiColor, Style};
use db_services::audit::JsonText;
use serde_json::{Map, Value};

use crate::error::CliError;
use crate::output::{self, json_text, print_line};

/// Prints metadata. What no parser of this program can hold (a number beyond `f64`, thousands of levels) is printed as the
/// text that it is.
pub(super) fn show(json: &JsonText) -> Result<(), CliError> {
    let mut members = match json.parse() {
        Ok(Value::Object(members)) => members,
        _ => {
            heading("metadata");
            print_line!("  {}", output::printable(json.as_str()));
            return Ok(());
        }
    };
    if let Some(changes) = take_changes(&mut members) {
        heading("changes");
        changes.iter().try_for_each(show_change)?;
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

/// The list of changes, if it has the form in which this library writes it.
fn take_changes(members: &mut Map<String, Value>) -> Option<Vec<Value>> {
    let has_form = |change: &Value| {
        let Value::Object(change) = change else {
            return false;
        };
        change
            .keys()
            .all(|name| matches!(&**name, "path" | "from" | "to"))
            && change.get("path").is_some_and(Value::is_string)
    };
    match members.get("changes") {
        Some(Value::Array(changes)) if !changes.is_empty() && changes.iter().all(has_form) => {}
        _ => return None,
    }
    match members.remove("changes") {
        Some(Value::Array(changes)) => Some(changes),
        _ => None,
    }
}

fn show_change(change: &Value) -> Result<(), CliError> {
    let path = change["path"].as_str().unwrap_or_default();
    print_line!(
        "  {}",
        output::printable(if path.is_empty() { "/" } else { path })
    );
    for (name, sign, color) in [("from", '-', AnsiColor::Red), ("to", '+', AnsiColor::Green)] {
        if let Some(value) = change.get(name) {
            output::styled(color.on_default(), &format!("  {sign} {}", json_text(value)?));
        }
    }
    Ok(())
}

fn show_members(members: &Map<String, Value>, level: usize) -> Result<(), CliError> {
    members
        .iter()
        .try_for_each(|(name, value)| show_value(&bare(name)?, value, level))
}

fn show_value(name: &str, value: &Value, level: usize) -> Result<(), CliError> {
    let indent = "  ".repeat(level);
    match value {
        Value::Object(members) if !members.is_empty() => {
            print_line!("{indent}{name}");
            show_members(members, level + 1)
        }
        Value::Array(values) if values.iter().any(|value| value.is_object() || value.is_array()) => {
            print_line!("{indent}{name}");
            let mut values = values.iter().enumerate();
            values.try_for_each(|(place, value)| show_value(&format!("[{place}]"), value, level + 1))
        }
        value => {
            print_line!("{indent}{name}: {}", json_text(value)?);
            Ok(())
        }
    }
}

/// A name without quotes, if it needs none.
fn bare(name: &str) -> Result<String, CliError> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name.to_owned()),
        false => json_text(&name),
    }
}
