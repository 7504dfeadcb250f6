//! Numbers of JSON, compared by value.

use std::cmp::Ordering;

/// The largest exponent and the most digits of a number that is compared.
const MAX_EXPONENT: i64 = 1_000;

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
}
