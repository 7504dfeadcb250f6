//! What an application and the environment add to the built-in rules.

use super::super::members::scrub_json;
use super::super::text::scrub_text;
use super::*;

fn scrubbed(rules: ScrubRules, json: &str) -> String {
    let scrubber = rules.compile().0.scrubber.unwrap();
    scrub_json(&scrubber, json, &|_| false).unwrap_or_else(|| json.to_owned())
}

#[test]
fn an_application_adds_and_removes_names_prefixes_and_shapes() {
    let rules = ScrubRules::new()
        .secret_name("customerIban")
        .secret_name("pw")
        .allowed_name("device token")
        .secret_prefix("acme_key_")
        .secret_prefix("a")
        .without(Shape::Card);
    let json = r#"{"customer_iban":"a","CUSTOMER-IBAN":"b","iban":"c","deviceToken":"d","userDeviceToken":"e","n":"acme_key_7","card":"4111111111111111"}"#;
    let expected = r#"{"customer_iban":"[scrubbed: name]","CUSTOMER-IBAN":"[scrubbed: name]","iban":"c","deviceToken":"d","userDeviceToken":"[scrubbed: name]","n":"[scrubbed: key]","card":"4111111111111111"}"#;
    assert_eq!(scrubbed(rules, json), expected);
}

#[test]
fn a_name_that_is_made_secret_is_no_longer_allowed() {
    let json = r#"{"next_token":"a"}"#;
    assert_eq!(scrubbed(ScrubRules::new(), json), json);
    let rules = ScrubRules::new().secret_name("nextToken");
    assert_eq!(scrubbed(rules, json), r#"{"next_token":"[scrubbed: name]"}"#);
}

#[test]
fn the_environment_adds_to_the_rules() {
    let environment = |name: &str| {
        let value = match name {
            "AUDIT_SCRUB_NAMES" => " iban, ,tax_number",
            "AUDIT_SCRUB_ALLOW" => "device_token",
            "AUDIT_HASH_KEY" => "0123456789abcdef",
            _ => return None,
        };
        Some(value.into())
    };
    let json = r#"{"IBAN":"a","taxNumber":"b","device_token":"c","password":"d"}"#;
    let expected = r#"{"IBAN":"[scrubbed: name]","taxNumber":"[scrubbed: name]","device_token":"c","password":"[scrubbed: name]"}"#;
    assert_eq!(
        scrubbed(ScrubRules::new().with_environment(environment), json),
        expected
    );
    let keys = [
        ScrubRules::new(),
        ScrubRules::new().hash_key("another key of 16").unwrap(),
    ]
    .map(|rules| {
        rules
            .with_environment(environment)
            .compile()
            .0
            .hash_key
            .unwrap()
            .digest(b"x")
    });
    // RFC 2104, computed with another implementation.
    assert_eq!(
        keys[0],
        "hmac-sha256:68f4d9c04881bab754f229e82dee00ccf8d9f6a7cf98125ac5e8254d6cd3cc3f"
    );
    assert_ne!(keys[0], keys[1], "the application's own key counts");
}

#[test]
fn rules_are_installed_once_and_not_while_others_are_in_use() {
    let _ = current();
    assert_eq!(install(ScrubRules::new()), Err(RulesInUse));
}

#[test]
fn a_setting_that_means_nothing_is_reported_and_changes_nothing() {
    let rules = ScrubRules::new()
        .with_environment(|name| Some(if name == "AUDIT_SCRUB" { "false" } else { "short" }.into()));
    let (compiled, problems) = rules.compile();
    assert!(compiled.scrubber.is_some() && compiled.hash_key.is_err());
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn names_of_any_case_and_number_are_found_without_other_members() {
    for (name, json) in [
        ("ibans", r#"{"iban":"a"}"#),
        ("iban", r#"{"IBANs":"a"}"#),
        ("Пароль", r#"{"пароль":"a"}"#),
        ("пароль", r#"{"ПАРОЛЬ":"a"}"#),
    ] {
        assert!(
            scrubbed(ScrubRules::new().secret_name(name), json).contains("[scrubbed"),
            "{name}"
        );
    }
    let json = r#"{"id":"a","user_id":"b","":"c","…":"d","token_count":1,"tokens":1}"#;
    for short in ["id", "s", "-", ""] {
        assert_eq!(
            scrubbed(ScrubRules::new().secret_name(short), json),
            json,
            "{short}"
        );
    }
}

#[test]
fn rules_that_are_off_scrub_nothing() {
    let off = |_: &str| Some("OFF".into());
    assert!(ScrubRules::off().compile().0.scrubber.is_none());
    assert!(
        ScrubRules::new()
            .with_environment(off)
            .compile()
            .0
            .scrubber
            .is_none()
    );
}

#[test]
fn a_short_hash_key_is_refused_and_no_key_is_shown() {
    assert_eq!(
        ScrubRules::new().hash_key("short").err(),
        Some(HashKeyError::TooShort)
    );
    let key = "0123456789abcdef";
    let shown = format!("{:?}", ScrubRules::new().hash_key(key).unwrap());
    assert!(
        shown.contains("has_hash_key: true") && !shown.contains(key),
        "{shown}"
    );
    let scrubber = ScrubRules::new().compile().0.scrubber.unwrap();
    assert_eq!(scrub_text(&scrubber, "plain enough"), None);
}
