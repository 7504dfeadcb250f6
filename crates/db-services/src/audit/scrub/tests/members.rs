//! Secrets by the names of members.

use super::*;

#[test]
fn a_secret_is_replaced_at_any_depth_and_in_names() {
    for secret in secrets() {
        let entry =
            json!({"a": [{"b": {"c": [1, secret]}}], (secret.clone()): 1, "d": {(secret.clone()): 2}});
        let stored = stored(&entry);
        let escaped = serde_json::to_string(&secret).unwrap();
        assert!(
            !stored.to_string().contains(escaped.trim_matches('"')),
            "{stored}"
        );
        assert_eq!(stored.as_object().unwrap().len(), 3, "{stored}");
    }
}

#[test]
fn members_whose_names_are_secrets_never_become_one() {
    let [first, second] = [1, 2].map(|nth| format!("ghp_{}", random(ALPHANUMERIC, 36 + nth)));
    for own in [
        "[scrubbed: key] 7",
        "[scrubbed: key]",
        "[scrubbed: key] 4294967295",
        "[scrubbed: key] 18446744073709551615",
    ] {
        let stored = stored(&json!({(own): 0, (first.clone()): 1, (second.clone()): 2, "note": own}));
        let members = stored.as_object().unwrap();
        assert_eq!((members.len(), members[own].clone()), (4, json!(0)), "{stored}");
        assert!(!stored.to_string().contains("ghp_"), "{stored}");
    }
}

#[test]
fn a_card_number_that_is_a_number_becomes_a_text() {
    assert_eq!(
        stored(
            &json!({"n": 4111111111111111_u64, "list": [1, 5555555555554444_u64, 2], "text": "1,4111111111111111,2"})
        ),
        json!({"n": "[scrubbed: card]", "list": [1, "[scrubbed: card]", 2], "text": "1,[scrubbed: card],2"})
    );
}

#[test]
fn values_are_replaced_by_the_names_of_their_members() {
    for name in [
        "password",
        "Password",
        "user_password",
        "DB_PASSWORD",
        "passwd",
        "pwd",
        "passphrase",
        "token",
        "access_token",
        "refreshToken",
        "ID_TOKEN",
        "secret",
        "clientSecret",
        "secret_key",
        "authorization",
        "Proxy-Authorization",
        "cookie",
        "Set-Cookie",
        "cookies",
        "apikey",
        "apiKey",
        "api_key",
        "API-Key",
        "X-Api-Key",
        "x.api.key",
        "api key",
        "private_key",
        "privateKey",
        "SecretAccessKey",
        "aws_secret_access_key",
        "signingKey",
        "credentials",
        "pin",
        "userPin",
        "otp",
        "cvv",
        "card_number",
        "session_token",
        "passwordHash",
        "recoveryCodes",
        "connection_string",
    ] {
        assert_eq!(stored(&json!({name: "abc"})), json!({name: "[scrubbed: name]"}));
        assert_eq!(
            stored(&json!({"a": [{name: 1234}]})),
            json!({"a": [{name: if name.ends_with('s') {
                json!(1234)
            } else {
                json!("[scrubbed: name]")
            }}]})
        );
        for kept in [json!(null), json!(true), json!(false), json!("")] {
            assert_eq!(stored(&json!({name: kept})), json!({name: kept}), "{name}");
        }
    }
}

#[test]
fn members_of_a_secret_are_replaced_but_its_attributes() {
    assert_eq!(
        stored(&json!({
            "token": {"id": "t-1", "value": "a", "created_at": "2026", "scopes": ["read"]},
            "cookies": {"sid": "a", "theme": ["b"], "expires_at": "2027"},
            "credentials": {"accessKeyId": "k", "secretAccessKey": "s", "user": "u", "password": {"x": {"y": "p"}}},
            "headers": {"Authorization": ["Basic dTpwYXNzdzByZA=="], "Accept": ["*/*"]},
            "secret": {"data": {"a": "b"}, "items": [{"key": "k", "path": "p"}]},
        })),
        json!({
            "token": {"id": "t-1", "value": "[scrubbed: name]", "created_at": "2026", "scopes": ["read"]},
            "cookies": {"sid": "[scrubbed: name]", "theme": ["[scrubbed: name]"], "expires_at": "2027"},
            "credentials": {"accessKeyId": "k", "secretAccessKey": "[scrubbed: name]", "user": "u",
                "password": {"x": {"y": "[scrubbed: name]"}}},
            "headers": {"Authorization": ["[scrubbed: name]"], "Accept": ["*/*"]},
            "secret": {"data": {"a": "[scrubbed: name]"}, "items": [{"key": "k", "path": "p"}]},
        })
    );
}

#[test]
fn values_of_named_pairs_and_of_changes_are_replaced() {
    let env = json!([
        {"name": "DB_PASSWORD", "value": "hunter2"}, {"value": {"a": ["b"]}, "key": "token"}, {"name": "HOME", "value": "/a"},
        {"name": "Rotate the token", "value": "weekly"}, {"name": "password", "value": null},
    ]);
    assert_eq!(
        stored(&json!({"env": env})),
        json!({"env": [
            {"name": "DB_PASSWORD", "value": "[scrubbed: name]"}, {"value": "[scrubbed: name]", "key": "token"},
            {"name": "HOME", "value": "/a"}, {"name": "Rotate the token", "value": "weekly"},
            {"name": "password", "value": null},
        ]})
    );
    for (before, after) in [
        (
            json!({"cookies": {"sid": "old"}}),
            json!({"cookies": {"sid": "new"}}),
        ),
        (
            json!({"secret": {"data": "old"}}),
            json!({"secret": {"data": "new"}}),
        ),
        (
            json!({"password": {"x": {"y": "old"}}}),
            json!({"password": {"x": {"y": "new"}}}),
        ),
        (
            json!({"Production server": {"password": "old"}}),
            json!({"Production server": {"password": "new"}}),
        ),
        (
            json!({"a\"b": {"password": "old"}}),
            json!({"a\"b": {"password": "new"}}),
        ),
        (
            json!({"x".repeat(600): {"password": "old"}}),
            json!({"x".repeat(600): {"password": "new"}}),
        ),
    ] {
        let row = NewAuditLog::from(AuditEntry::new("x").changes(&before, &after));
        let text = row.metadata.as_str();
        assert!(!text.contains("old") && !text.contains("new"), "{text}");
    }
    let before = json!({"password": "old", "user": {"api_key": "a", "name": "n"}, "token": "kept out"});
    let after = json!({"password": "new", "user": {"name": "m"}, "token": "masked"});
    let entry = AuditEntry::new("x").changed(Changes::between(&before, &after).masked("token"));
    let stored: Value = serde_json::from_str(NewAuditLog::from(entry).metadata.as_str()).unwrap();
    assert_eq!(
        stored["changes"],
        json!([
            {"path": "/password", "from": "[scrubbed: name]", "to": "[scrubbed: name]"},
            {"path": "/token", "from": "***", "to": "***"},
            {"path": "/user/api_key", "from": "[scrubbed: name]"},
            {"path": "/user/name", "from": "n", "to": "m"},
        ])
    );
}

#[test]
fn the_rules_of_names_do_not_depend_on_other_members() {
    for name in [
        "api__key",
        "Stripe__Api__Key",
        "Azure:Api:Key",
        "api/key",
        "API key",
    ] {
        assert_eq!(stored(&json!({name: "abc"})), json!({name: "[scrubbed: name]"}));
        assert_eq!(
            stored(&json!({"name": name, "value": "abc"})),
            json!({"name": name, "value": "[scrubbed: name]"})
        );
    }
    // The name counts, and not only the part of the value that looks like a secret.
    let value = format!("my {}", secrets()[0]);
    assert_eq!(
        stored(&json!({"name": "password", "value": value})),
        json!({"name": "password", "value": "[scrubbed: name]"})
    );
}
