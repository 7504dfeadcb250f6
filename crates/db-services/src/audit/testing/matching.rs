//! Compares an entry with an expected one, and describes the differences.

use std::fmt::Write;

use chrono::SecondsFormat;
use compact_str::CompactString;
use db_schema::NewAuditLog;
use serde_json::Value;

use crate::audit::entry::OwnTime;
use crate::audit::limits::text_columns;
use crate::audit::{AuditEntry, Outcome};

/// The columns that differ, each with the expected and the found value.
pub(super) fn differences(expected: &AuditEntry, found: &NewAuditLog) -> Vec<(String, String, String)> {
    let wanted = NewAuditLog::from(expected);
    let mut differences = Vec::new();
    let mut compare = |name: &str, wanted: Option<String>, found: Option<String>| {
        if wanted.is_some() && wanted != found {
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            differences.push((name.to_owned(), text(wanted), text(found)));
        }
    };
    let quoted = |text: &CompactString| format!("{text:?}");
    let texts = text_columns!(found, as_ref, &);
    for ((name, wanted, _), (_, found, _)) in text_columns!(wanted, as_ref, &).into_iter().zip(texts) {
        compare(name, wanted.map(quoted), found.map(quoted));
    }
    let outcome = (expected.outcome != Outcome::Success).then(|| wanted.outcome.to_string());
    compare("outcome", outcome, Some(found.outcome.to_string()));
    let id = expected.id.map(|id| id.to_string());
    compare("id", id, Some(found.id.to_string()));
    let time = |row: &NewAuditLog| row.created_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    compare(
        "created_at",
        matches!(expected.own_time, OwnTime::Set).then(|| time(&wanted)),
        Some(time(found)),
    );
    let address = |row: &NewAuditLog| row.ip_address.map(|net| net.addr().to_string());
    compare("ip_address", address(&wanted), address(found));
    let operation = |row: &NewAuditLog| row.operation_id.map(|id| id.to_string());
    compare("operation_id", operation(&wanted), operation(found));
    let has = found.metadata.parse().unwrap_or(Value::Null);
    for (name, value) in wanted
        .metadata
        .parse()
        .ok()
        .iter()
        .filter_map(Value::as_object)
        .flatten()
    {
        compare(
            &format!("metadata.{name}"),
            Some(value.to_string()),
            has.get(name).map(Value::to_string),
        );
    }
    differences
}

/// A report of the expectation, and of each entry with its differences, the most similar first.
pub(super) fn report(wanted: &str, expected: &AuditEntry, entries: &[NewAuditLog]) -> String {
    let mut text = format!(
        "expected {wanted} like {:?}, and {} were written",
        expected.action,
        entries.len()
    );
    let mut all: Vec<_> = entries
        .iter()
        .map(|entry| (differences(expected, entry), entry))
        .collect();
    all.sort_by_key(|(differences, _)| differences.len());
    for (differences, entry) in all.iter().take(10) {
        let _ = write!(text, "\n  {}", entry.action);
        if differences.is_empty() {
            text.push_str(": matches");
        }
        for (name, wanted, found) in differences {
            let _ = write!(text, "\n    {name}: expected {wanted}, found {found}");
        }
    }
    if all.len() > 10 {
        let _ = write!(text, "\n  and {} more", all.len() - 10);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_expected_columns_are_compared() {
        let found = NewAuditLog::from(
            AuditEntry::new("auth.login")
                .actor("alice")
                .tenant("acme")
                .ip([10, 0, 0, 1])
                .metadata(json!({"a": 1, "b": [2]})),
        );
        assert_eq!(differences(&AuditEntry::new("auth.login"), &found), []);
        assert_eq!(
            differences(
                &AuditEntry::new("auth.login")
                    .actor("alice")
                    .metadata(json!({"b": [2]})),
                &found
            ),
            []
        );
        let wrong = AuditEntry::new("auth.logout")
            .actor("bob")
            .outcome(Outcome::Denied)
            .metadata(json!({"c": 1}));
        let names: Vec<_> = differences(&wrong, &found)
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, ["action", "actor_id", "outcome", "metadata.c"]);
    }

    #[test]
    fn an_id_and_a_time_are_compared_if_they_are_set() {
        let time = "2024-02-29T12:00:00.123456Z".parse().unwrap();
        let id = uuid::Uuid::now_v7();
        let found = NewAuditLog::from(AuditEntry::new("x").id(id).created_at(time));
        assert_eq!(differences(&AuditEntry::new("x"), &found), []);
        assert_eq!(
            differences(&AuditEntry::new("x").id(id).created_at(time), &found),
            []
        );
        let names = |expected: &AuditEntry| {
            let all = differences(expected, &found).into_iter();
            all.map(|(name, ..)| name).collect::<Vec<_>>()
        };
        let later = time + chrono::TimeDelta::microseconds(1);
        assert_eq!(names(&AuditEntry::new("x").created_at(later)), ["created_at"]);
        assert_eq!(names(&AuditEntry::new("x").id(uuid::Uuid::now_v7())), ["id"]);
        let json = r#"{"action": "x", "created_at": "2024-02-29T12:00:00Z"}"#;
        assert_eq!(names(&serde_json::from_str(json).unwrap()), ["created_at"]);
    }

    #[test]
    fn a_report_shows_the_most_similar_entry_first() {
        let entries = [
            AuditEntry::new("x").actor("carol"),
            AuditEntry::new("auth.login").actor("bob"),
        ]
        .map(NewAuditLog::from);
        let report = report(
            "exactly one entry",
            &AuditEntry::new("auth.login").actor("alice"),
            &entries,
        );
        assert_eq!(
            report,
            "expected exactly one entry like \"auth.login\", and 2 were written\n  auth.login\n    \
             actor_id: expected \"alice\", found \"bob\"\n  x\n    action: expected \"auth.login\", found \"x\"\n    \
             actor_id: expected \"alice\", found \"carol\""
        );
    }
}
