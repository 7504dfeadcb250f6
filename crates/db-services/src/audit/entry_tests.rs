//! An entry is what its caller says, and is built anywhere.

use super::*;

#[test]
fn text_that_is_no_address_is_kept() {
    let entry = |text| AuditEntry::new("x").ip_text(text);
    assert_eq!(entry(" 10.1.2.3 ").ip_address, "10.1.2.3".parse().ok());
    assert_eq!(entry("10.1.2.3").ip_text, None);
    assert_eq!(entry("[2001:db8::1]:443").ip_address, "2001:db8::1".parse().ok());
    assert_eq!(
        entry("[2001:db8::1]:443").ip_text.as_deref(),
        Some("[2001:db8::1]:443")
    );
    assert_eq!(entry("unknown").ip_address, None);
    assert_eq!(entry("unknown").ip_text.as_deref(), Some("unknown"));
    assert_eq!(entry("unknown").ip_text("::1").ip_text, None);
}

#[test]
fn metadata_is_always_an_object() {
    let of = |value: Value| AuditEntry::new("x").metadata(value).detail("b", 2).metadata;
    assert_eq!(
        of(serde_json::json!({"a": 1, "b": 1})).as_str(),
        r#"{"a":1,"b":2}"#
    );
    assert_eq!(of(Value::Null).as_str(), r#"{"b":2}"#);
    assert_eq!(of(serde_json::json!([1])).as_str(), r#"{"value":[1],"b":2}"#);
}

/// Builds an entry in every way when it is dropped.
struct BuildsOnDrop(std::sync::mpsc::Sender<AuditEntry>);

impl Drop for BuildsOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(in_every_way("dropped"));
    }
}

fn in_every_way(action: &str) -> AuditEntry {
    let long = "a text too long for the entry itself";
    let entry = AuditEntry::new(action)
        .actor(long)
        .ip_text("[::1]:80")
        .operation_id(Uuid::from_u128(1))
        .metadata(serde_json::json!({"list": [1, 2], "k\0": "v"}))
        .detail("k\u{FFFD}", long)
        .detail("list", 3);
    (0..100).fold(entry.clone(), |entry, n| entry.detail(format!("member {n}"), n))
}

#[test]
fn an_entry_is_built_in_the_destructor_of_a_thread_local() {
    use std::cell::OnceCell;
    thread_local! {
        static FIRST: OnceCell<BuildsOnDrop> = const { OnceCell::new() };
        static LAST: OnceCell<BuildsOnDrop> = const { OnceCell::new() };
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    // Around the first entry of the thread: whatever thread-local that would use is destroyed
    // between the two. A panic in a destructor would abort the process.
    std::thread::spawn(move || {
        FIRST.with(|cell| cell.set(BuildsOnDrop(sender.clone()))).ok();
        drop(in_every_way("built"));
        LAST.with(|cell| cell.set(BuildsOnDrop(sender))).ok();
    })
    .join()
    .unwrap();
    let built: Vec<_> = receiver.iter().collect();
    assert_eq!(built.len(), 2);
    assert!(
        built
            .iter()
            .all(|entry| entry.action == "dropped" && entry.metadata.to_map().len() == 103)
    );
}

#[test]
fn an_entry_without_an_id_is_another_event_each_time_it_becomes_a_row() {
    use db_schema::NewAuditLog;
    let template = AuditEntry::new("x");
    assert_eq!(template.id, None);
    let rows = [template.clone(), template.clone()].map(NewAuditLog::from);
    assert_ne!(rows[0].id, rows[1].id);
    assert_eq!(NewAuditLog::from(&template.id(rows[0].id)).id, rows[0].id);
}

#[test]
fn an_entry_comes_from_json_by_the_names_of_the_columns() -> Result<(), serde_json::Error> {
    let entry: AuditEntry = serde_json::from_str(
        r#"{"action":"auth.login","created_at":"2026-01-02T03:04:05.123456+01:00","outcome":"denied","ip_address":"unknown"}"#,
    )?;
    assert_eq!(entry.created_at.to_rfc3339(), "2026-01-02T02:04:05.123456+00:00");
    assert_eq!(
        (entry.outcome, entry.ip_text.as_deref()),
        (Outcome::Denied, Some("unknown"))
    );
    let blank = AuditEntry::from_json(br#"{"action":"x","ip_address":" "}"#)?;
    let row = db_schema::NewAuditLog::from(blank);
    assert_eq!(
        (row.ip_address, row.metadata.as_str()),
        (None, r#"{"_audit":{"ip_text":" "}}"#)
    );
    for wrong in [
        r#"{}"#,
        r#"{"action":"x","colour":"red"}"#,
        r#"{"action":"x","outcome":"fine"}"#,
    ] {
        assert!(serde_json::from_str::<AuditEntry>(wrong).is_err(), "{wrong}");
    }
    Ok(())
}

#[test]
fn outcomes_are_read_as_they_are_printed() {
    for outcome in [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Denied,
        Outcome::Unknown,
    ] {
        assert_eq!(outcome.to_string().parse(), Ok(outcome));
    }
    assert_eq!("Success".parse::<Outcome>(), Err(UnknownOutcome));
}
