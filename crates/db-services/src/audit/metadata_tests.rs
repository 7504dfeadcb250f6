//! Metadata is what a list of members is, within the limits that are applied at once.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::audit::json::TOO_DEEP;
use crate::audit::limits::METADATA_DEPTH;

fn of(value: Value) -> Metadata {
    Metadata::from(value)
}

#[test]
fn metadata_is_always_an_object() {
    assert_eq!(
        of(json!({"b": [1.5, null], "a": "é\n"})).as_str(),
        r#"{"a":"é\n","b":[1.5,null]}"#
    );
    assert_eq!((of(Value::Null).as_str(), of(json!({})).is_empty()), ("{}", true));
    assert_eq!(of(json!([1])).as_str(), r#"{"value":[1]}"#);
}

#[test]
fn of_two_members_with_one_name_the_later_counts() {
    let mut metadata = Metadata::default();
    metadata.insert("b", 1);
    metadata.insert("a", json!({"b": "\"b\":"}));
    metadata.insert("b", 2);
    assert_eq!(
        metadata.to_map(),
        Map::from_iter([
            ("a".to_owned(), json!({"b": "\"b\":"})),
            ("b".to_owned(), json!(2))
        ])
    );
    // In the text of a value only, or deeper: not there yet.
    let mut metadata = of(json!({"x": {"k": 1}, "y": "\"k\":"}));
    metadata.insert("k", true);
    assert_eq!(
        Value::Object(metadata.to_map()),
        json!({"x": {"k": 1}, "y": "\"k\":", "k": true})
    );
}

#[test]
fn no_member_takes_another_s_place_or_the_writer_s() {
    let set = |names: &[&str]| {
        let mut metadata = Metadata::default();
        names
            .iter()
            .zip(1..)
            .for_each(|(name, nth)| metadata.insert(name, nth));
        Value::Object(metadata.to_map())
    };
    assert_eq!(
        set(&["_audit", "app._audit", "_audit"]),
        json!({"app._audit": 3, "app.app._audit": 2})
    );
    assert_eq!(
        set(&["app._audit", "_audit"]),
        json!({"app._audit": 2, "app.app._audit": 1})
    );
    assert_eq!(
        set(&["my_audit", "_auditor"]),
        json!({"my_audit": 1, "_auditor": 2})
    );
    for names in [["a\0", "a\u{FFFD}"], ["a\u{FFFD}", "a\0"], ["a\0", "a\0"]] {
        assert_eq!(
            set(&names),
            json!({"a\u{FFFD}": 1, "a\u{FFFD}\u{FFFD}": 2}),
            "{names:?}"
        );
    }
    let at_once = |value: Value| of(value).to_map().len();
    assert_eq!(
        at_once(json!({"\0\u{FFFD}": 1, "\u{FFFD}\0": 2, "\u{FFFD}\u{FFFD}": 3})),
        3
    );
    assert_eq!(at_once(json!({"a\0": 1, "a\0\0": 2, "a\u{FFFD}": 3})), 3);
    let inner = of(json!({"x": {"a\0": 1, "a\0\0": 2, "a\u{FFFD}": 3}})).to_map();
    assert_eq!(inner["x"].as_object().unwrap().len(), 3);
}

#[test]
fn equal_is_what_is_equal_as_json() {
    let mut metadata = of(json!({"a": [1], "b": 2}));
    metadata.insert("a", json!([1]));
    let mut other = of(json!({"b": 2}));
    other.insert("a", json!([1]));
    assert!(metadata == other && metadata.as_str() != other.as_str());
    other.insert("a", json!([2]));
    assert_ne!(metadata, other);
}

#[test]
fn any_depth_is_survived_on_a_small_stack() {
    let nested = |levels: usize| (0..levels).fold(json!("bottom"), |inner, _| Value::Array(vec![inner]));
    let tried = move || {
        let mut metadata = of(json!({"fits": nested(METADATA_DEPTH - 1)}));
        assert!(metadata.state() == State::Whole);
        assert_eq!(metadata.to_map()["fits"], nested(METADATA_DEPTH - 1));
        metadata.insert("deep", nested(100_000));
        metadata.insert("deep", nested(100_000));
        assert!(metadata.state() == State::DepthCut && metadata.as_str().contains(TOO_DEEP));
        metadata.insert("deep", 1);
        assert!(metadata.state() == State::DepthCut, "and stays marked");
        assert_eq!(of(nested(100_000)).state(), State::DepthCut);
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(tried)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn many_members_are_set_one_by_one_without_reading_the_others_each_time() {
    // Each of 120,000 names is set twice, and 10,000 more become equal: if each read the text of up to
    // 2 MB, this would be 200 GB.
    let mut metadata = Metadata::default();
    for round in 0..2 {
        (0..60_000).for_each(|n| metadata.insert(format!("name {n}"), round));
        (0..60_000).for_each(|n| metadata.insert(format!("name {n} of the second"), "a value"));
    }
    (0..10_000).for_each(|n| metadata.insert("k\0", n));
    let read = metadata.to_map();
    assert_eq!(read.len(), 130_000);
    assert_eq!(
        (&read["name 59999"], &read["k\u{FFFD}\u{FFFD}9999"]),
        (&json!(1), &json!(9_999))
    );
}

/// The obvious way to set a member: pairs of name and value, searched from the beginning.
fn set_in_list(list: &mut Vec<(String, Value)>, name: &str, value: Value) {
    let mut name = name.replace('\0', "\u{FFFD}");
    if name.contains('\u{FFFD}') {
        let later = (2..).map(|nth| format!("{name}\u{FFFD}{nth}"));
        let mut names = [name.clone(), format!("{name}\u{FFFD}")].into_iter().chain(later);
        name = names
            .find(|name| list.iter().all(|(taken, _)| taken != name))
            .unwrap();
    }
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => list.push((name, value)),
    }
}

proptest! {
    /// Few and many, by turns in the text and in parts.
    #[test]
    fn setting_members_is_what_it_is_in_a_list(members in proptest::collection::vec(("[ab\":,{}\\\\\0\u{FFFD}2]{0,3}", "[ab\":,{}\\\\]{0,4}"), 0..200)) {
        let (mut metadata, mut model) = (Metadata::default(), Vec::new());
        for (name, value) in members {
            metadata.insert(&name, value.clone());
            set_in_list(&mut model, &name, Value::from(value));
        }
        let mut read = Vec::new();
        each_member(metadata.as_str(), |name, value| read.push((name.into_owned(), serde_json::from_str(value.get()).unwrap())));
        prop_assert_eq!(&read, &model);
        let text = metadata.as_str().to_owned();
        prop_assert!(metadata.trim() >= text.len() || model.is_empty());
        prop_assert_eq!(metadata.as_str(), &text);
        prop_assert_eq!(metadata.into_text(), text);
    }
}
