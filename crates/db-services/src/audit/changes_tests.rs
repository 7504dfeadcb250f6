use std::collections::BTreeMap;

use super::*;
use crate::audit::limits;

fn changes(changes: Changes) -> Value {
    let entry = AuditEntry::new("thing.update").changed(changes);
    serde_json::from_str(entry.metadata.as_str()).unwrap()
}

fn between(before: Value, after: Value) -> Value {
    changes(Changes::between(&before, &after))
}

#[test]
fn only_members_that_differ_are_listed() {
    let before =
        json!({"same": [1, {"a": 2}], "n": 1, "deep": {"x": 1, "y": 2}, "gone": null, "tags": ["a"]});
    let after =
        json!({"same": [1, {"a": 2}], "n": 1.5, "deep": {"x": 1, "y": 3}, "new": null, "tags": ["a", "b"]});
    let expected = json!({"changes": [
        {"path": "/deep/y", "from": 2, "to": 3},
        {"path": "/gone", "from": null},
        {"path": "/n", "from": 1, "to": 1.5},
        {"path": "/tags", "from": ["a"], "to": ["a", "b"]},
        {"path": "/new", "to": null},
    ]});
    assert_eq!(between(before, after), expected);
}

#[test]
fn equal_things_have_an_empty_list() {
    assert_eq!(
        between(json!({"a": {"b": []}}), json!({"a": {"b": []}})),
        json!({"changes": []})
    );
}

#[test]
fn things_that_are_no_objects_differ_as_a_whole() {
    let expected = json!({"changes": [{"path": "", "from": 1, "to": {"a": 1}}]});
    assert_eq!(between(json!(1), json!({"a": 1})), expected);
}

#[test]
fn a_path_is_a_json_pointer() {
    let changed = between(json!({"a/b~c": 1, "": 1}), json!({"a/b~c": 2, "": 2}));
    assert_eq!(changed["changes"][0]["path"], "/");
    assert_eq!(changed["changes"][1]["path"], "/a~1b~0c");
}

#[test]
fn masked_and_left_out_members_show_no_value_at_any_depth() {
    let thing = |n: u32| json!({"a": {"secret": {"inner": n}, "token": n}, "at": n, "list": [{"secret": n}]});
    let hidden = Changes::between(&thing(111), &thing(222))
        .masked("secret")
        .without("token")
        .without("at");
    let changed = changes(hidden.clone().without("list"));
    let expected = json!({"changes": [{"path": "/a/secret", "from": "***", "to": "***"}]});
    assert_eq!(changed, expected);
    let unchanged = Changes::between(&thing(1), &thing(1)).masked("secret");
    assert_eq!(changes(unchanged), json!({"changes": []}));
}

#[test]
fn members_within_arrays_and_added_values_are_masked_too() {
    let before = json!({"keys": [{"secret": 111}], "plain": 1});
    let after = json!({"keys": [{"secret": 222, "n": 1}], "plain": {"deep": [{"secret": 333}]}});
    let changed = changes(Changes::between(&before, &after).masked("secret").without("gone")).to_string();
    assert!(changed.contains(r#"{"secret":"***"}"#), "{changed}");
    for value in ["111", "222", "333"] {
        assert!(!changed.contains(value), "{changed}");
    }
}

#[test]
fn a_long_value_is_replaced_by_its_size_and_digest() {
    let long = "x".repeat(MAX_CHANGED_VALUE_BYTES);
    let changed = between(json!({"text": long}), json!({"text": "short"}));
    let cut = &changed["changes"][0]["from"]["cut"];
    assert_eq!(cut["bytes"], MAX_CHANGED_VALUE_BYTES + 2);
    assert_eq!(cut["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(changed["changes"][0]["to"], "short");
}

#[test]
fn more_changes_than_the_limit_are_counted_and_the_list_survives_the_limits_of_an_entry() {
    let thing = |value: &str| -> BTreeMap<String, String> {
        let value = value.repeat(900);
        (0..MAX_CHANGES + 10)
            .map(|nth| (format!("m{nth:03}"), value.clone()))
            .collect()
    };
    let mut entry = AuditEntry::new("thing.update").changes(&thing("a"), &thing("b"));
    limits::apply(&mut entry);
    let stored: Value = serde_json::from_str(entry.metadata.as_str()).unwrap();
    let listed = stored["changes"].as_array().unwrap().len();
    assert!((10..MAX_CHANGES).contains(&listed));
    assert_eq!(stored["changes_left_out"], MAX_CHANGES + 10 - listed);
    let numbers = |nth: usize| (0..MAX_CHANGES + 10).map(move |key| (format!("{key:03}"), key + nth));
    let numbers = |nth| numbers(nth).collect::<BTreeMap<_, _>>();
    let changed = changes(Changes::between(&numbers(0), &numbers(1)));
    assert_eq!(changed["changes"].as_array().unwrap().len(), MAX_CHANGES);
    assert_eq!(changed["changes_left_out"], 10);
}

#[test]
fn a_thing_that_does_not_serialise_gives_the_reason() {
    let keys = BTreeMap::from([((1, 2), 3)]);
    let changed = changes(Changes::between(&keys, &json!({})));
    assert_eq!(changed["changes"], json!([]));
    assert!(
        changed["changes_error"]
            .as_str()
            .unwrap()
            .contains("key must be a string")
    );
}
