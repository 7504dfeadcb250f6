//! Every entry becomes a row within the limits, with what was cut marked.

use proptest::prelude::*;

use super::*;
use crate::audit::json::TOO_DEEP;

fn row_of(entry: AuditEntry) -> NewAuditLog {
    NewAuditLog::from(entry)
}

fn metadata_of(entry: AuditEntry) -> Value {
    row_of(entry).metadata.parse().unwrap()
}

/// JSON nested `levels` deep, below the object that holds it.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |inner, _| Value::Array(vec![inner]))
}

#[test]
fn an_ordinary_entry_is_stored_unchanged() {
    let entry = AuditEntry::new("skill.update")
        .id(uuid::Uuid::from_u128(7))
        .actor("ä")
        .metadata(json!({"n": 1.5, "l": [null, true]}));
    let row = row_of(entry.clone());
    assert_eq!(
        (row.action.as_str(), row.actor_id.as_deref()),
        ("skill.update", Some("ä"))
    );
    assert_eq!(row.metadata.as_str(), r#"{"l":[null,true],"n":1.5}"#);
    assert_eq!(
        row.created_at.timestamp_micros(),
        entry.created_at.timestamp_micros()
    );
    assert_eq!(
        NewAuditLog::from(&entry),
        row,
        "by reference and by value are the same"
    );
    assert_eq!(row_of(AuditEntry::new("x")).metadata.as_str(), "{}");
}

#[test]
fn long_text_is_cut_and_marked() {
    let whole = "é".repeat(TEXT_CHARS);
    assert_eq!(
        row_of(AuditEntry::new("x").actor(&whole)).actor_id.as_deref(),
        Some(whole.as_str())
    );

    let long = format!("{whole}!");
    let row = row_of(AuditEntry::new("x").actor(&long).user_agent("u".repeat(257)));
    let kept = row.actor_id.unwrap();
    assert_eq!(kept, format!("{}…", "é".repeat(TEXT_CHARS - 1)));
    assert_eq!(row.user_agent.unwrap().chars().count(), USER_AGENT_CHARS);
    let cut = &row.metadata.parse().unwrap()["_audit"]["cut"];
    assert_eq!(cut["actor_id"]["bytes"], long.len());
    // printf 'u%.0s' $(seq 257) | sha256sum
    assert_eq!(
        cut["user_agent"]["sha256"],
        "36868c95693f7961e19205254a6e613547eeb4375b384159e91a462f70e8af26"
    );
}

#[test]
fn nul_becomes_the_replacement_character_everywhere() {
    let entry = AuditEntry::new("a\0b")
        .resource("r\0", "i\0")
        .ip_text("n\0")
        .metadata(json!({"k\0": ["v\0", {"d\0": 1}], "k\u{FFFD}": 2}));
    let row = row_of(entry);
    assert_eq!(
        (row.action.as_str(), row.resource_id.as_deref()),
        ("a\u{FFFD}b", Some("i\u{FFFD}"))
    );
    assert_eq!(
        row.metadata.parse().unwrap(),
        json!({
            "k\u{FFFD}": 2,
            "k\u{FFFD}\u{FFFD}": ["v\u{FFFD}", {"d\u{FFFD}": 1}],
            "_audit": {"ip_text": "n\u{FFFD}"}
        }),
        "and no member takes another's place"
    );
}

#[test]
fn actions_and_marks_of_the_writer_cannot_be_forged() {
    assert_eq!(
        row_of(AuditEntry::new("audit.writer_started")).action,
        "app.audit.writer_started"
    );
    assert_eq!(row_of(AuditEntry::new("auditor.login")).action, "auditor.login");
    assert_eq!(
        metadata_of(
            AuditEntry::new("x")
                .metadata(json!({"_audit": 1, "app._audit": 2}))
                .ip_text("unknown")
        ),
        json!({"app._audit": 1, "app.app._audit": 2, "_audit": {"ip_text": "unknown"}})
    );
}

#[test]
fn times_beyond_the_databases_are_clamped_and_marked() {
    for (given, stored) in [
        (DateTime::<Utc>::MIN_UTC, "-4712-01-01T00:00:00+00:00"),
        (DateTime::<Utc>::MAX_UTC, "+262000-12-31T23:59:59.999999+00:00"),
    ] {
        let row = row_of(AuditEntry::new("x").created_at(given));
        assert_eq!(row.created_at.to_rfc3339(), stored);
        assert_eq!(
            row.metadata.parse().unwrap()["_audit"]["clamped"]["created_at"],
            given.to_rfc3339()
        );
    }
    let fine = DateTime::from_timestamp(-1, 999_999_999).unwrap();
    assert_eq!(
        row_of(AuditEntry::new("x").created_at(fine))
            .created_at
            .timestamp_micros(),
        -1,
        "cut, not rounded"
    );
}

#[test]
fn metadata_beyond_its_limit_keeps_what_fits() {
    let long = "x".repeat(METADATA_BYTES);
    let metadata = json!({"a": 1, "diff": long, "list": vec![0; METADATA_BYTES], "z": "last"});
    let text = metadata.to_string();
    let kept = metadata_of(AuditEntry::new("x").metadata(metadata));
    assert_eq!((&kept["a"], &kept["z"]), (&json!(1), &json!("last")));
    assert_eq!(kept["diff"].as_str().unwrap().chars().count(), TEXT_CHARS);
    assert!(kept.get("list").is_none());
    let cut = &kept["_audit"]["cut"]["metadata"];
    assert_eq!(
        (&cut["bytes"], &cut["members_left_out"]),
        (&json!(text.len()), &json!(1))
    );
    assert_eq!(cut["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn members_that_fit_stay_in_their_order() {
    let entry = AuditEntry::new("x")
        .detail("z", 1)
        .detail("\"m\"", "é".repeat(METADATA_BYTES))
        .detail("list", vec![0; METADATA_BYTES])
        .detail("a", json!({"b": 2}));
    let text = row_of(entry).metadata.as_str().to_owned();
    let wanted = format!(
        r#"{{"z":1,"\"m\"":"{}…","a":{{"b":2}},"_audit":"#,
        "é".repeat(TEXT_CHARS - 1)
    );
    assert!(text.starts_with(&wanted), "{text}");
}

#[test]
fn a_hundred_thousand_members_are_bounded() {
    let members: Map<String, Value> = (0..100_000).map(|n| (format!("key{n:06}"), json!(n))).collect();
    let row = row_of(AuditEntry::new("x").metadata(members));
    assert!(row.metadata.as_str().len() < METADATA_BYTES + 1_024);
    let kept = row.metadata.parse().unwrap();
    let left_out = kept["_audit"]["cut"]["metadata"]["members_left_out"]
        .as_u64()
        .unwrap();
    assert_eq!(kept.as_object().unwrap().len() as u64 - 1 + left_out, 100_000);
}

#[test]
fn deep_json_is_cut_at_the_depth_that_can_be_read_back() {
    let whole = json!({"deep": nested(METADATA_DEPTH - 1)});
    assert_eq!(metadata_of(AuditEntry::new("x").metadata(whole.clone())), whole);

    let cut = metadata_of(AuditEntry::new("x").metadata(json!({"deep": nested(METADATA_DEPTH), "flat": 1})));
    assert_eq!(
        (&cut["flat"], &cut["_audit"]["cut"]["metadata"]["depth"]),
        (&json!(1), &json!(127))
    );
    assert!(cut["deep"].to_string().contains(TOO_DEEP));
}

#[test]
fn large_metadata_takes_no_more_room_than_its_text() {
    let mut entry = AuditEntry::new("x").detail("text", "x".repeat(60 << 10));
    let bytes = estimated_size(&mut entry);
    assert!(bytes < (60 << 10) + 1_024, "{bytes}");
}

#[test]
fn the_ids_of_one_generator_are_in_the_order_of_the_rows() {
    let mut ids = IdGenerator::default();
    let entries: Vec<_> = (0..1_000).map(|_| AuditEntry::new("x")).collect();
    let rows: Vec<_> = entries.into_iter().map(|entry| row(entry, &mut ids)).collect();
    assert!(rows.is_sorted_by(|a, b| a.id < b.id));
}

#[test]
fn limits_are_applied_once_however_early() {
    let entry = AuditEntry::new("audit.forged")
        .id(uuid::Uuid::from_u128(7))
        .actor("x".repeat(9_999))
        .ip_text("unknown")
        .created_at(DateTime::<Utc>::MAX_UTC)
        .metadata(json!({"_audit": 1, "deep": nested(200), "text": "x".repeat(9 << 20)}));
    let mut early = entry.clone();
    let bytes = estimated_size_within(&mut early, 1 << 20);
    assert!(
        estimated_size(&mut entry.clone()) > 9 << 20 && bytes < METADATA_BYTES + (16 << 10),
        "{bytes}"
    );
    apply(&mut early);
    assert_eq!(row_of(early), row_of(entry));
    let mut small = AuditEntry::new("audit.forged").actor("x".repeat(9_999));
    estimated_size_within(&mut small, 1 << 20);
    assert_eq!(
        small.actor_id.unwrap().len(),
        9_999,
        "not before it is worth the caller's time"
    );
}

fn stored_tenant(tenant: &str) -> String {
    row_of(AuditEntry::new("x").tenant(tenant))
        .tenant_id
        .unwrap()
        .into()
}

#[test]
fn a_tenant_that_is_cut_ends_with_its_digest() {
    // printf 'u%.0s' $(seq 600) | sha256sum
    let digest = "2cd39704c4df37c4f38a07b61a6fd18ccec54f339c2bf9ed98e8e0a910d1baf2";
    let stored = stored_tenant(&"u".repeat(600));
    assert_eq!(stored, format!("{}…{digest}", "u".repeat(TEXT_CHARS - 65)));
    assert_eq!(stored.chars().count(), TEXT_CHARS);
    let cut = metadata_of(AuditEntry::new("x").tenant("u".repeat(600)));
    assert_eq!(
        cut["_audit"]["cut"]["tenant_id"],
        json!({"bytes": 600, "sha256": digest})
    );
    let nul = stored_tenant("a\0b");
    assert!(
        nul.starts_with("a\u{FFFD}b…") && nul.chars().count() == 68,
        "{nul}"
    );
}

/// One who chooses names of tenants could choose that under which another tenant is stored.
#[test]
fn no_two_tenants_are_stored_under_one_name() {
    let long = "t".repeat(TEXT_CHARS - 1);
    let mut given: Vec<String> = [
        "nul\0",
        "nul\u{FFFD}",
        "nul\0\0",
        "nul\u{FFFD}\0",
        "nul",
        "",
        "\0",
        "…",
    ]
    .map(str::to_owned)
    .into();
    for end in ["", "…", "-", "-alice", "-bob", "-alic\0", "-alic\u{FFFD}", "……"] {
        given.push(format!("{long}{end}"));
    }
    // The stored names, and the stored names of these, are names as well.
    for _ in 0..3 {
        let stored = given.iter().map(|tenant| stored_tenant(tenant));
        let upper = given.iter().map(|tenant| stored_tenant(tenant).to_uppercase());
        given = stored.chain(upper).chain(given.clone()).collect();
        given.sort();
        given.dedup();
    }
    let mut stored: Vec<_> = given.iter().map(|tenant| stored_tenant(tenant)).collect();
    assert!(stored.iter().all(|tenant| tenant.chars().count() <= TEXT_CHARS));
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), given.len());
}

/// Any JSON that `serde_json` can hold, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(Value::from(i64::MIN)),
        // One of 14 to 16 digits may be the number of a card, which is scrubbed.
        any::<u64>()
            .prop_filter("a card", |number| !(14..=16).contains(&number.to_string().len()))
            .prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn text_is_kept_or_cut_within_its_limit(text in any::<String>(), times in 1..200_usize) {
        let given = text.repeat(times);
        let row = row_of(AuditEntry::new("x").tenant(&given).user_agent(&given));
        let (tenant, agent) = (row.tenant_id.unwrap(), row.user_agent.unwrap());
        prop_assert!(tenant.chars().count() <= TEXT_CHARS && agent.chars().count() <= USER_AGENT_CHARS);
        prop_assert!(!tenant.contains('\0'));
        if given.chars().count() <= TEXT_CHARS && !given.contains('\0') {
            prop_assert_eq!(tenant, given);
        } else {
            prop_assert!(row.metadata.parse().unwrap()["_audit"]["cut"]["tenant_id"]["bytes"] == given.len());
        }
    }

    #[test]
    fn metadata_is_kept(value in any_json()) {
        let given = Value::Object(match value {
            Value::Object(members) => members,
            other => Map::from_iter([("member".to_owned(), other)]),
        });
        let stored = metadata_of(AuditEntry::new("x").metadata(given.clone()));
        if !given.to_string().contains("\\u0000") && given.get(ANNOTATIONS_KEY).is_none() {
            prop_assert_eq!(stored, given);
        }
    }

    #[test]
    fn the_estimate_is_never_below_what_the_texts_take(value in any_json(), text in any::<String>()) {
        let mut entry = AuditEntry::new(&text).actor(&text).metadata(value);
        // Up to 24 bytes are stored in the entry itself.
        let each = if text.len() <= 24 { 0 } else { text.len() + 8 };
        let metadata = if entry.metadata.is_empty() { 0 } else { entry.metadata.as_str().len() + 8 };
        prop_assert!(estimated_size(&mut entry) >= size_of::<AuditEntry>() + 2 * each + metadata);
    }
}
