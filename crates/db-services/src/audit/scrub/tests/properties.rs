//! Arbitrary JSON.

use proptest::prelude::*;

use super::*;

/// JSON with names and texts of which many are secrets.
fn arbitrary_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("password".to_owned()),
        Just("name".to_owned()),
        Just("value".to_owned()),
        Just("path".to_owned()),
        Just("from".to_owned()),
        Just("credentials".to_owned()),
        Just("accessKeyId".to_owned()),
        proptest::sample::select(secrets()),
        proptest::sample::select(secrets()).prop_map(|secret| format!("\"{secret}\\\n")),
        (
            "(token|pin|note)",
            "[=:]",
            r#"["'\\]{0,3}"#,
            proptest::sample::select(secrets()),
            r#"["'\\]{0,3}"#
        )
            .prop_map(|(name, sign, open, secret, close)| format!("{name}{sign}{open}{secret}{close}")),
        (proptest::sample::select(secrets()), 5..40_usize, r#"["'\\]{0,2}"#).prop_map(
            |(secret, kept, end)| format!("{}{end}", secret.chars().take(kept).collect::<String>())
        ),
        "\\PC{0,12}",
        any::<String>(),
    ];
    let leaf = prop_oneof![
        word.clone().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(4_111_111_111_111_111_u64)),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_stored_is_json_without_secrets_and_scrubbing_it_again_changes_nothing(value in arbitrary_json()) {
        let row = NewAuditLog::from(AuditEntry::new("x").metadata(json!({"v": value})));
        let stored: Value = serde_json::from_str(row.metadata.as_str()).unwrap();
        for secret in secrets() {
            let escaped = serde_json::to_string(&secret).unwrap();
            let escaped = escaped.trim_matches('"');
            // An id of a key stays under its own name.
            let text = row.metadata.as_str().replace(&format!(r#""accessKeyId":"{escaped}""#), "");
            prop_assert!(!text.contains(escaped), "{} in {}", secret, text);
        }
        let again = NewAuditLog::from(AuditEntry::new("x").metadata(stored));
        // As values: the order of members differs.
        prop_assert_eq!(Metadata::from_json(again.metadata.as_str()).unwrap(), Metadata::from_json(row.metadata.as_str()).unwrap());
    }

    #[test]
    fn metadata_that_is_not_scrubbed_keeps_its_text(text in "[a-z ]{0,40}") {
        let metadata = Metadata::from(json!({"note": text}));
        let row = NewAuditLog::from(AuditEntry { metadata: metadata.clone(), ..AuditEntry::new("x") });
        prop_assert_eq!(row.metadata.as_str(), metadata.as_str());
    }
}
