//! Values of which the caller decides how they are stored.

use super::*;

#[test]
fn the_caller_decides_with_secret_and_plain() {
    let card = "4111111111111111";
    let entry = AuditEntry::new("x")
        .actor(Secret("alice"))
        .detail("a", Secret("b"))
        .detail("token", Plain("red"))
        .detail("card", Plain(json!({"number": card, "pin": 1})))
        .detail("password", Plain("kept?"))
        .detail("password", "replaced")
        .detail("other", json!({"token": "x", "secret": Secret(1)}));
    let row = NewAuditLog::from(entry);
    assert_eq!(row.actor_id.as_deref(), Some("[scrubbed]"));
    let stored: Value = serde_json::from_str(row.metadata.as_str()).unwrap();
    assert_eq!(
        stored,
        json!({
            "a": "[scrubbed]", "token": "red", "card": {"number": card, "pin": 1}, "password": "[scrubbed: name]",
            "other": {"token": "[scrubbed: name]", "secret": "[scrubbed]"},
        })
    );
    // The value is plain, not the name.
    let entry = AuditEntry::new("x")
        .detail("_audit", Plain("ok"))
        .detail("_audit", json!({"password": "p"}));
    let row = NewAuditLog::from(entry);
    assert_eq!(
        row.metadata.as_str(),
        r#"{"app._audit":{"password":"[scrubbed: name]"}}"#
    );
    let entry = AuditEntry::new("x")
        .metadata(json!({"token\u{FFFD}": {"password": "p"}}))
        .detail("token\0", Plain("ok"));
    let row = NewAuditLog::from(entry);
    assert!(
        !row.metadata.as_str().contains(r#""p""#),
        "{}",
        row.metadata.as_str()
    );
    assert_eq!(
        format!("{:?}", (Secret("a"), Hashed("b"))),
        "(Secret(…), Hashed(…))"
    );
}

#[test]
fn a_hashed_value_without_a_key_is_not_stored() {
    let row = NewAuditLog::from(
        AuditEntry::new("x")
            .actor(Hashed("alice"))
            .detail("mail", Hashed("a@example.org")),
    );
    assert_eq!(row.actor_id.as_deref(), Some("[scrubbed: no hash key]"));
    assert_eq!(row.metadata.as_str(), r#"{"mail":"[scrubbed: no hash key]"}"#);
}
