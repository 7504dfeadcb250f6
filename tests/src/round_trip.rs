//! Entries are read as they were written, or limited as documented.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, AuditLog, Outcome, insert_many, limits};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestDb, on_both};

/// The number of entries on each database.
const ENTRIES: usize = 2_000;

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
        "\\PC*".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        any::<i64>()
            .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)),
        (0..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(s, n)| DateTime::from_timestamp(s, n).unwrap()),
        Just(DateTime::<Utc>::MIN_UTC),
        Just(DateTime::<Utc>::MAX_UTC),
    ]
}

/// An entry, and the JSON of its metadata.
fn any_entry() -> impl Strategy<Value = (AuditEntry, Value)> {
    let text = || proptest::option::of(any::<String>());
    let outcome = proptest::sample::select(vec![
        Outcome::Success,
        Outcome::Failure,
        Outcome::Denied,
        Outcome::Unknown,
    ]);
    let texts = (
        any::<String>(),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
    );
    (
        texts,
        any_time(),
        proptest::option::of(any::<IpAddr>()),
        any::<u128>(),
        outcome,
        any_json(),
    )
        .prop_map(
            |(
                (action, tenant, actor, kind, behalf, resource, agent, request, trace),
                time,
                ip,
                operation,
                outcome,
                json,
            )| {
                let mut entry = AuditEntry::new(action)
                    .id(Uuid::now_v7())
                    .created_at(time)
                    .outcome(outcome)
                    .metadata(json.clone());
                entry.tenant_id = tenant.map(Into::into);
                entry.actor_id = actor.map(Into::into);
                entry.actor_type = kind.map(Into::into);
                entry.on_behalf_of = behalf.map(Into::into);
                entry.resource_id = resource.clone().map(Into::into);
                entry.resource_type = resource.map(Into::into);
                entry.user_agent = agent.map(Into::into);
                entry.request_id = request.map(Into::into);
                entry.trace_id = trace.map(Into::into);
                entry.ip_address = ip;
                entry.operation_id = Some(Uuid::from_u128(operation));
                (entry, json)
            },
        )
}

/// True if two values are equal, with numbers compared by value: jsonb stores 1e17 and 100000000000000000 as
/// the same number.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}

/// The stored form of a text that is shorter than the limits.
fn stored(text: Option<&str>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{FFFD}"))
}

fn assert_same(given: &AuditEntry, json: &Value, row: &AuditLog) {
    assert_eq!(Some(row.id), given.id);
    assert_eq!(row.tenant_id, stored(given.tenant_id.as_deref()));
    assert_eq!(row.actor_id, stored(given.actor_id.as_deref()));
    assert_eq!(row.actor_type, stored(given.actor_type.as_deref()));
    assert_eq!(row.on_behalf_of, stored(given.on_behalf_of.as_deref()));
    assert_eq!(row.resource_type, stored(given.resource_type.as_deref()));
    assert_eq!(row.resource_id, stored(given.resource_id.as_deref()));
    assert_eq!(row.user_agent, stored(given.user_agent.as_deref()));
    assert_eq!(row.request_id, stored(given.request_id.as_deref()));
    assert_eq!(row.trace_id, stored(given.trace_id.as_deref()));
    assert_eq!(Some(&row.action), stored(Some(given.action.as_str())).as_ref());
    assert_eq!(row.outcome, given.outcome.as_str());
    assert_eq!(
        row.ip_address
            .map(|net| (net.addr(), net.prefix_len() == net.max_prefix_len())),
        given.ip_address.map(|ip| (ip, true))
    );
    assert_eq!(row.operation_id, given.operation_id);
    let metadata = row.metadata.as_ref().unwrap().parse().unwrap();
    let clamped = metadata
        .get("_audit")
        .is_some_and(|marks| marks.get("clamped").is_some());
    if clamped {
        assert!(given.created_at < row.created_at || row.created_at < given.created_at);
    } else {
        assert_eq!(
            row.created_at.timestamp_micros(),
            given.created_at.timestamp_micros()
        );
    }
    let wanted = match json {
        Value::Object(_) => json.clone(),
        Value::Null => json!({}),
        other => json!({"value": other}),
    };
    if !wanted.to_string().contains("\\u0000") && metadata.get("_audit").is_none() {
        assert!(same_json(&metadata, &wanted), "{metadata} is not {wanted}");
    }
}

on_both! {
    async fn random_texts_json_addresses_and_times_are_read_as_written(db: TestDb) {
        let mut runner = TestRunner::deterministic();
        let given: Vec<_> = (0..ENTRIES).map(|_| any_entry().new_tree(&mut runner).unwrap().current()).collect();
        let entries: Vec<_> = given.iter().map(|(entry, _)| entry.clone()).collect();
        let mut conn = db.connection().await;
        assert_eq!(insert_many(&mut conn, &entries).await.unwrap(), ENTRIES);
        drop(conn);
        let rows = db.rows().await;
        assert_eq!(rows.len(), ENTRIES);
        for (given, json) in &given {
            assert_same(given, json, rows.iter().find(|row| Some(row.id) == given.id).unwrap());
        }
    }

    async fn doubles_are_read_without_rounding(db: TestDb) {
        let doubles = [0.1, 1.0 / 3.0, 1e-300, 5e-324, f64::MAX, f64::MIN_POSITIVE, 9_007_199_254_740_993.0, 123_456.789_012_345_67];
        let entry = AuditEntry::new("x").metadata(json!({"doubles": doubles}));
        insert_many(&mut db.connection().await, &[entry]).await.unwrap();
        let back = db.rows().await[0].metadata.as_ref().unwrap().parse().unwrap();
        let back: Vec<_> = back["doubles"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        assert_eq!(back, doubles);
    }

    async fn values_at_the_limits_are_stored_unchanged(db: TestDb) {
        let wide = "𝕏";
        let entry = AuditEntry::new(wide.repeat(limits::TEXT_CHARS))
            .tenant(wide.repeat(limits::TEXT_CHARS))
            .actor(wide.repeat(limits::TEXT_CHARS))
            .resource(wide.repeat(limits::TEXT_CHARS), wide.repeat(limits::RESOURCE_ID_CHARS))
            .user_agent(wide.repeat(limits::USER_AGENT_CHARS))
            .detail("text", "x".repeat(limits::METADATA_BYTES - 11));
        insert_many(&mut db.connection().await, std::slice::from_ref(&entry)).await.unwrap();
        let row = &db.rows().await[0];
        assert_eq!(row.tenant_id.as_deref(), Some(wide.repeat(limits::TEXT_CHARS).as_str()));
        assert_eq!(row.resource_id.as_deref(), Some(wide.repeat(limits::RESOURCE_ID_CHARS).as_str()));
        let whole = json!({"text": "x".repeat(limits::METADATA_BYTES - 11)});
        assert_eq!(row.metadata.as_ref().unwrap().parse().unwrap(), whole);
    }
}
