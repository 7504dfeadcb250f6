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

/// Replaces each argument of the process that is a URL with credentials: a password may contain a space.
pub(super) fn without_arguments(text: &str) -> String {
    std::env::args().fold(text.to_owned(), |text, argument| {
        match masked_argument(&argument) {
            Some(masked) => text.replace(&printable(&argument), &masked),
            None => text,
        }
    })
}

/// An argument without what is before its last `@`, if it names a database and has credentials.
fn masked_argument(argument: &str) -> Option<String> {
    let (scheme, rest) = argument.split_once(":/")?;
    let (_, place) = rest.rsplit_once('@')?;
    let is_database = scheme.starts_with("postgres") || scheme.starts_with("sqlite");
    is_database.then(|| format!("{scheme}://***@{place}"))
}

/// Hides the passwords in URLs.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
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
    fn an_argument_is_hidden_up_to_its_last_at_sign() {
        let masked = |argument| masked_argument(argument).unwrap();
        assert_eq!(masked("postgres://u:my secret@h/d"), "postgres://***@h/d");
        assert_eq!(masked("postgres:/u:se@cret@h/d"), "postgres://***@h/d");
        assert_eq!(masked_argument("https://u@h"), None);
        assert_eq!(masked_argument("postgres://h/d"), None);
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
