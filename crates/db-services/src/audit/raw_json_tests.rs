use proptest::prelude::*;
use serde_json::json;

use super::Value;

use super::super::Metadata;

fn stored(text: &str) -> String {
    Metadata::from_json(text).unwrap().as_str().to_owned()
}

#[test]
fn numbers_stay_as_they_are_written() {
    for text in [
        r#"{"n":1E400}"#,
        r#"{"n":[0.1000000000000000055,123456789012345678901234567890,-0,1.50]}"#,
    ] {
        assert_eq!(stored(text), text);
    }
    let metadata = Metadata::from_json(r#"{"who":{"arn":"root","n":1E400},"n":[1E400]}"#).unwrap();
    assert_eq!(
        Value::Object(metadata.to_map()),
        json!({"who": {"arn": "root", "n": "1E400"}, "n": ["1E400"]})
    );
}

#[test]
fn a_number_that_is_much_longer_when_it_is_read_becomes_text() {
    let digits = "9".repeat(1_001);
    for number in [
        "1e401",
        "-1E+131071",
        "1e-17000",
        "1E99999999999999999999",
        &digits,
    ] {
        assert_eq!(
            stored(&format!(r#"{{"n":{number}}}"#)),
            format!(r#"{{"n":"{number}"}}"#)
        );
    }
}

#[test]
fn text_is_made_safe_and_kept() {
    assert_eq!(
        stored(r#" { "a" : "\ud800", "b":["\udc00\ud800x\u0000"] } "#),
        "{\"a\":\"\u{FFFD}\",\"b\":[\"\u{FFFD}x\u{FFFD}\"]}"
    );
    assert_eq!(
        stored(r#"{"k\ud800":1,"k":{"x\u0000":1,"x\u0000":2}}"#),
        "{\"k\u{FFFD}\":1,\"k\":{\"x\u{FFFD}\":1,\"x\u{FFFD}\u{FFFD}\":2}}"
    );
}

#[test]
fn the_last_of_equal_members_counts_and_the_reserved_name_is_free() {
    assert_eq!(stored(r#"{"k":1,"k":{"x":1,"x":2}}"#), r#"{"k":{"x":2}}"#);
    assert_eq!(stored(r#"{"_audit":1}"#), r#"{"app._audit":1}"#);
    assert_eq!(stored("null"), "{}");
    assert_eq!(stored("[1E400]"), r#"{"value":[1E400]}"#);
}

#[test]
fn deep_json_is_cut_without_recursion_to_its_end() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let whole = format!(r#"{{"d":{}}}"#, nested(126));
    assert_eq!(stored(&whole), whole);
    for depth in [127, 128, 100_000] {
        let text = stored(&format!(r#"{{"d":{}}}"#, nested(depth)));
        assert!(
            text.contains("nested deeper than 127 levels") && text.len() < 1_000,
            "{text}"
        );
    }
    assert!(Metadata::from_json(&"{\"d\":".repeat(100_000)).is_err());
}

/// JSON in which names occur twice at each level, and strings look like the end of a value.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just(r#""]},\\\"""#.to_owned()),
        Just("{}".to_owned())
    ];
    leaf.prop_recursive(6, 64, 5, |inner| {
        let member = ("[abc]", inner.clone()).prop_map(|(name, value)| format!(r#""{name}" :{value}"#));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn the_last_of_equal_members_counts_at_each_level(text in json_text()) {
        let read = Metadata::from_json(&format!(r#"{{"v":{text}}}"#)).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read.to_map()["v"], &expected);
        let stored: Value = serde_json::from_str(read.as_str()).unwrap();
        prop_assert_eq!(&stored["v"], &expected);
        let compact = stored["v"].to_string();
        prop_assert_eq!(read.as_str().len(), compact.len() + r#"{"v":}"#.len());
    }

    #[test]
    fn json_of_small_numbers_is_read_as_serde_json_reads_it(n in any::<i32>(), text in ".*", name in "[a-z\0\u{FFFD}]{0,3}") {
        let value = json!({"a": [n, text, {name.clone(): null}], name: {"b": true}});
        let read = Metadata::from_json(&value.to_string()).unwrap();
        let pretty = Metadata::from_json(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
        prop_assert_eq!(pretty.as_str(), read.as_str());
        prop_assert_eq!(read.to_map(), Metadata::from(value).to_map());
        let _: Value = serde_json::from_str(read.as_str()).unwrap();
    }
}
