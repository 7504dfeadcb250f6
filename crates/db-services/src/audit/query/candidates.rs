//! JSON that a filter compares with: which values a text may mean.

use serde_json::Value;

use super::number::Number;

/// The values that a text means, as JSON: the string, and the number, `true`, `false` or `null` that it reads as.
pub(super) fn candidates(text: &str) -> Vec<String> {
    let mut candidates = vec![Value::from(text).to_string()];
    if matches!(text, "true" | "false" | "null") || Number::read(text).is_some() {
        candidates.push(text.to_owned());
    }
    candidates
}

/// A path as a JSON array of names.
pub(super) fn path_json(path: &[String]) -> String {
    Value::from(path).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_means_a_string_and_what_it_reads_as() {
        assert_eq!(candidates("a\"b"), [r#""a\"b""#]);
        assert_eq!(candidates("5"), [r#""5""#, "5"]);
        assert_eq!(candidates("true"), [r#""true""#, "true"]);
        assert_eq!(candidates("1E9999"), [r#""1E9999""#]);
    }
}
