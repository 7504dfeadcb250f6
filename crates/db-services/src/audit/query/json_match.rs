//! Compares the metadata in SQLite with a filter as PostgreSQL compares jsonb. Text that is no JSON matches nothing.
//!
//! Any client may have stored a document nested thousands of levels deep. Only what the filter names is descended into.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::candidates::candidates;
use super::number::Number;

/// The members of an object; of two with the same name the last one, as jsonb has it.
fn members(object: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(object).ok()
}

/// Whether the member at a path (a JSON array of names) is a text, or what the text reads as.
pub(super) fn member_is(metadata: &str, path: &str, text: &str) -> bool {
    let Ok(path) = serde_json::from_str::<Vec<String>>(path) else {
        return false;
    };
    let mut value = metadata;
    for name in &path {
        match members(value).and_then(|members| members.get(name).copied()) {
            Some(member) => value = member.get(),
            None => return false,
        }
    }
    candidates(text)
        .iter()
        .any(|candidate| is_equal(value, candidate))
}

/// Whether two scalars are equal. False if one of them is an array or an object.
fn is_equal(left: &str, right: &str) -> bool {
    match (left.as_bytes().first(), right.as_bytes().first()) {
        (Some(b'"'), Some(b'"')) => match (
            serde_json::from_str::<String>(left),
            serde_json::from_str::<String>(right),
        ) {
            (Ok(left), Ok(right)) => left == right,
            _ => false,
        },
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            Number::read(left).is_some_and(|number| Some(number) == Number::read(right))
        }
        (Some(b't' | b'f' | b'n'), _) => left == right,
        _ => false,
    }
}

/// Whether JSON contains other JSON, which has few levels: `left @> right`.
pub(super) fn contains(left: &str, right: &str) -> bool {
    let (left, right) = (left.trim_ascii(), right.trim_ascii());
    match right.as_bytes().first() {
        Some(b'{') => match (members(left), members(right)) {
            (Some(left), Some(right)) => right.iter().all(|(name, value)| {
                left.get(name)
                    .is_some_and(|other| contains(other.get(), value.get()))
            }),
            _ => false,
        },
        Some(b'[') => {
            let elements = |array| serde_json::from_str::<Vec<&RawValue>>(array);
            match (elements(left), elements(right)) {
                (Ok(left), Ok(right)) => right
                    .iter()
                    .all(|element| left.iter().any(|other| contains(other.get(), element.get()))),
                _ => false,
            }
        }
        _ => is_equal(left, right),
    }
}

/// Whether a string or a name in JSON contains a text without capitals A to Z.
pub(super) fn has_text(json: &str, text: &str) -> bool {
    // Without escapes, what is in a string is in the document.
    if !json.contains('\\') && !json.to_ascii_lowercase().contains(text) {
        return false;
    }
    serde_json::from_str::<&RawValue>(json).is_ok()
        && tokens(json)
            .filter(|token| token.starts_with('"'))
            .filter_map(|token| serde_json::from_str::<String>(token).ok())
            .any(|string| string.to_ascii_lowercase().contains(text))
}

/// The strings (names too), numbers and words of valid JSON, as they are written.
pub(super) fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || "{}[]:,".contains(c));
        let end = match rest.as_bytes().first()? {
            b'"' => end_of_string(rest),
            _ => rest.find(|c: char| c.is_ascii_whitespace() || "{}[]:,\"".contains(c)),
        };
        let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(token)
    })
}

/// The place after the quote that ends the string at the beginning.
fn end_of_string(json: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map(|end| end + 2)
}

/// Whether both databases can compare this object with others. One with a NUL character, or with a number beyond
/// what they store, is in no row.
pub(super) fn is_comparable(object: &str) -> bool {
    matches!(serde_json::from_str(object), Ok(Value::Object(_)))
        && tokens(object).all(|token| match token.as_bytes().first() {
            Some(b'"') => serde_json::from_str(token).is_ok_and(|text: String| !text.contains('\0')),
            Some(b'-' | b'0'..=b'9') => Number::read(token).is_some(),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_scalars_and_names() {
        let found: Vec<_> = tokens(r#" {"a\"b\\": [1.5e3,true , "x"], "" :null}"#).collect();
        assert_eq!(found, [r#""a\"b\\""#, "1.5e3", "true", r#""x""#, r#""""#, "null"]);
        assert_eq!(tokens(r#"{"open"#).collect::<Vec<_>>(), ["\"open"]);
    }

    #[test]
    fn the_last_member_of_a_name_counts() {
        assert!(member_is(r#"{"a":1,"a":2}"#, r#"["a"]"#, "2"));
        assert!(!member_is(r#"{"a":1,"a":2}"#, r#"["a"]"#, "1"));
    }

    #[test]
    fn arrays_and_objects_are_equal_to_no_text() {
        for json in ["[]", "{}", "[1]", "no JSON", "", "null"] {
            assert!(!member_is(json, r#"["a"]"#, "1"), "{json}");
            assert!(
                !member_is(&format!(r#"{{"a":{json}}}"#), r#"["a"]"#, "[1]"),
                "{json}"
            );
        }
        assert!(!member_is(r#"{"a":["x"]}"#, r#"["a","0"]"#, "x"));
    }

    #[test]
    fn containment_is_that_of_jsonb() {
        let yes = [
            (r#"{"a":1,"b":2}"#, r#"{"a":1.0}"#),
            (r#"{"a":{"b":[1,2,{"c":3}]}}"#, r#"{"a":{"b":[{"c":3},1,1]}}"#),
            (r#"{"a":[]}"#, r#"{"a":[]}"#),
            (r#"{"a":"\u0041"}"#, r#"{ "a" : "A" }"#),
        ];
        let no = [
            (r#"{"a":[1]}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":[1]}"#),
            (r#"{"a":{}}"#, r#"{"a":[]}"#),
            (r#"{"a":"1"}"#, r#"{"a":1}"#),
            (r#"{"a":[[1]]}"#, r#"{"a":[1]}"#),
            ("", "{}"),
            ("no JSON", "{}"),
            ("[]", "{}"),
        ];
        for (left, right) in yes {
            assert!(contains(left, right), "{left} {right}");
        }
        for (left, right) in no {
            assert!(!contains(left, right), "{left} {right}");
        }
    }

    #[test]
    fn a_document_of_any_depth_is_compared_without_descending() {
        let deep = format!(
            r#"{{"a":{}{},"b":"Needle"}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert!(member_is(&deep, r#"["b"]"#, "Needle"));
        assert!(contains(&deep, r#"{"b":"Needle"}"#));
        assert!(has_text(&deep, "needle"));
        assert!(!has_text(&deep, "[["));
    }

    #[test]
    fn an_object_that_a_database_refuses_is_not_comparable() {
        assert!(is_comparable(r#"{"a": [1, "x", {"b": null}]}"#));
        for object in [
            "[]",
            "1",
            "{",
            r#"{"a":1E9999}"#,
            r#"{"a":1e-99999}"#,
            "{\"a\\u0000\":1}",
            "{\"a\":\"\\u0000\"}",
        ] {
            assert!(!is_comparable(object), "{object}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        assert!(!is_comparable(&deep));
    }
}
