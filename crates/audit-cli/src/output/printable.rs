//! Text that cannot control a terminal.
//!
//! An audit trail contains text from untrusted sources, and so do the messages of a database about it.

use std::borrow::Cow;

use audit_ops::is_harmful;

/// Replaces harmful characters by U+FFFD.
pub(crate) fn printable(text: &str) -> String {
    replaced(text, is_harmful)
}

/// The same for text of several lines, with tabs.
pub(super) fn lines(text: &str) -> String {
    replaced(text, |c| is_harmful(c) && !matches!(c, '\n' | '\t'))
}

fn replaced(text: &str, is_harmful: impl Fn(char) -> bool) -> String {
    text.chars()
        .map(|c| {
            if is_harmful(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// Escapes harmful characters in JSON of one line, where only a string can hold one. The value stays the same.
pub(super) fn json(text: String) -> String {
    if !text.contains(is_harmful) {
        return text;
    }
    text.chars()
        .fold(String::with_capacity(text.len()), |mut escaped, c| {
            match is_harmful(c) {
                // All of them are below U+10000.
                true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => escaped.push(c),
            }
            escaped
        })
}

/// Replaces what the arguments and the environment of the process say about a database: a password may contain any
/// character, so that no part of such a value is safe to print.
pub(super) fn without_secrets(text: &str) -> String {
    let variables = ["AUDIT_DATABASE_URL", "DATABASE_URL"]
        .into_iter()
        .filter_map(std::env::var_os);
    // Not `args`, which panics at one that is no Unicode.
    let values = std::env::args_os().skip(1).chain(variables);
    values.fold(text.to_owned(), |text, value| {
        without(&text, &value.to_string_lossy())
    })
}

fn without(text: &str, value: &str) -> String {
    let Some(masked) = masked_value(value) else {
        return text.to_owned();
    };
    // clap quotes the value of an option without its name.
    let parts = [Some(value), value.split_once('=').map(|(_, value)| value)];
    parts.into_iter().flatten().fold(text.to_owned(), |text, part| {
        let is_secret = masked_value(part).is_some();
        if is_secret {
            text.replace(part, &masked).replace(&printable(part), &masked)
        } else {
            text
        }
    })
}

/// A value as far as it can be shown, if there may be a password in it.
fn masked_value(value: &str) -> Option<String> {
    match value.split_once(":/") {
        Some((before, rest)) if rest.contains(['@', '?']) => {
            let scheme = before.rsplit('=').next().unwrap_or_default();
            Some(format!("{scheme}://***"))
        }
        _ => value
            .to_lowercase()
            .contains("password=")
            .then(|| "***".to_owned()),
    }
}

/// Hides the passwords in URLs.
pub(super) fn masked(text: &str) -> Cow<'_, str> {
    let without_credentials = mask_credentials(text);
    match without_credentials.contains("password=") {
        true => Cow::Owned(mask_parameters(&without_credentials)),
        false => without_credentials,
    }
}

/// Replaces what stands between `://` and the last `@` of a word: a password may contain an unencoded `@`.
fn mask_credentials(text: &str) -> Cow<'_, str> {
    if !text.contains("://") || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let word = after.find(char::is_whitespace).unwrap_or(after.len());
        let (word, behind) = after.split_at(word);
        masked.push_str(before);
        masked.push_str("://");
        match word.rsplit_once('@') {
            Some((_, place)) => {
                masked.push_str("***@");
                masked.push_str(place);
            }
            None => masked.push_str(word),
        }
        rest = behind;
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

fn mask_parameters(text: &str) -> String {
    let mut parts = text.split("password=");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| c == '&' || c.is_whitespace())
            .unwrap_or(part.len());
        masked.push_str("password=***");
        masked.push_str(&part[end..]);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_has_no_control_characters() {
        assert_eq!(
            printable("a\x1b[2Jb\r\n\tc\u{9b}d\u{202E}e\u{2028}f\u{200F}"),
            "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}\u{FFFD}c\u{FFFD}d\u{FFFD}e\u{FFFD}f\u{FFFD}"
        );
        assert_eq!(printable("Grüße, 日本"), "Grüße, 日本");
        assert_eq!(lines("a\n\tb\u{9b}"), "a\n\tb\u{FFFD}");
    }

    #[test]
    fn json_keeps_its_value_when_characters_are_escaped() {
        let value = serde_json::json!({"\u{202E}k": "a\u{9b}\u{7f}\u{2066}\x1b日"});
        let escaped = json(value.to_string());
        assert!(!escaped.contains(is_harmful), "{escaped}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
            value
        );
    }

    #[test]
    fn a_value_that_may_have_a_password_is_hidden_as_a_whole() {
        for value in [
            "postgres://u:my hush@h/d",
            "postgres:/u:hu@sh@h/d",
            "POSTGRES://u:hush@h/d",
            "--limit=postgres://u:my hush@h/d",
            "postgres://h/d?passwor%64=hush",
            "postgres://h/d?password=bb,&hush",
            "postgres://u:a\nhush@h/d",
            "host=h password=hush x",
        ] {
            let option = value.strip_prefix("--limit=").unwrap_or(value);
            let text = format!("invalid value '{option}' or {}: {value}", printable(option));
            let shown = without(&text, value);
            assert!(!shown.contains("hush"), "{value}: {shown}");
        }
    }

    #[test]
    fn other_values_are_shown() {
        for value in [
            "a@b",
            "dir/events.ndjson",
            "https://example.org/a",
            "sqlite://audit.db",
            "postgres://h/d",
        ] {
            assert_eq!(without(value, value), value);
        }
    }

    #[test]
    fn passwords_are_hidden_wherever_a_url_is() {
        for (text, expected) in [
            ("nothing to hide: a@b", "nothing to hide: a@b"),
            ("see https://example.org/a", "see https://example.org/a"),
            ("'postgres://u:hush@h/d' found", "'postgres://***@h/d' found"),
            (
                "postgres://u:hu@sh@h/d and postgres://v:hush@i",
                "postgres://***@h/d and postgres://***@i",
            ),
            (
                "postgres://h/d?user=u&password=hush&x=1",
                "postgres://h/d?user=u&password=***&x=1",
            ),
            ("password=hush host=h", "password=*** host=h"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
