//! JSON that a filter compares with: which values a text may mean, and what both databases can compare.

use std::cmp::Ordering;

use serde_json::Value;

use super::json_match::tokens;

/// The largest exponent and the most digits of a number that is compared.
const MAX_EXPONENT: i64 = 1_000;

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

/// A number of JSON, exactly, without the zeros around its digits: 0.<digits> × 10^exponent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number {
    sign: Ordering,
    digits: String,
    exponent: i64,
}

impl Number {
    /// `None` for what is no number of JSON, and beyond a thousand digits.
    pub(super) fn read(text: &str) -> Option<Self> {
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(text)
            .is_ok_and(|raw| raw.get().len() == text.len());
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        if !is_json || !unsigned.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - significant.len()).ok()?;
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            let sign = Ordering::Equal;
            return (-MAX_EXPONENT..=MAX_EXPONENT)
                .contains(&exponent)
                .then_some(Self {
                    sign,
                    digits,
                    exponent: 0,
                });
        }
        let exponent = i64::checked_add(exponent, i64::try_from(whole.len()).ok()? - leading)?;
        let sign = if unsigned.len() < text.len() {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        let is_small = exponent.abs() <= MAX_EXPONENT && all.len() <= MAX_EXPONENT as usize;
        is_small.then_some(Self {
            sign,
            digits,
            exponent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value() {
        let read = |text| Number::read(text).unwrap();
        for (left, right) in [
            ("1", "1.0"),
            ("100", "1E2"),
            ("0", "-0.00"),
            ("0.05", "5e-2"),
            ("-1.50", "-15E-1"),
        ] {
            assert_eq!(read(left), read(right));
        }
        for (left, right) in [
            ("1", "10"),
            ("1", "-1"),
            ("0.1", "0.10000000000000000001"),
            ("1E400", "1E401"),
        ] {
            assert_ne!(read(left), read(right));
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1 ",
            " 1",
            "true",
            "\"1\"",
            "1e99999999999999999999",
            "1E9999",
            "NaN",
        ] {
            assert_eq!(Number::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_means_a_string_and_what_it_reads_as() {
        assert_eq!(candidates("a\"b"), [r#""a\"b""#]);
        assert_eq!(candidates("5"), [r#""5""#, "5"]);
        assert_eq!(candidates("true"), [r#""true""#, "true"]);
        assert_eq!(candidates("1E9999"), [r#""1E9999""#]);
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
