//! Text from a catalog, in which any user who may create an object chose the names.
//!
//! A name may contain line breaks, control characters, and characters that change the direction of writing. A
//! finding shows them escaped. In a remedy a name is a quoted identifier or literal, or is escaped in a comment.

use std::fmt::Write;

use crate::is_harmful;

/// A text with its harmful characters escaped, as in `a\u{a}b`. A text that has none, and does not look escaped, is
/// unchanged. Different texts remain different, so that an escaped name identifies an object.
pub(super) fn escaped(text: &str) -> String {
    if !text.contains(is_harmful) && !text.contains("\\u{") {
        return text.to_owned();
    }
    text.chars().fold(String::new(), |mut shown, c| {
        if is_harmful(c) || c == '\\' {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
        shown
    })
}

/// A comment of SQL on one line, whatever names it contains.
pub(super) fn comment(text: &str) -> String {
    format!("-- {}", escaped(text))
}

/// SQL for PostgreSQL in which quoted identifiers and literals contain no harmful character: `U&"a\+00000ab"`. It means
/// the same. Each of its line breaks is outside quotes, except in the body of a function.
pub(super) fn printable_sql(sql: &str) -> String {
    if !sql.contains(|c| is_harmful(c) && c != '\n') && !sql.contains(['"', '\'']) {
        return sql.to_owned();
    }
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let token = token(rest, out.ends_with(['e', 'E']) && !ends_word(&out));
        let text = &rest[..token];
        rest = &rest[token..];
        match c {
            '"' if text.contains(is_harmful) => out.push_str(&identifier(text)),
            '\'' if text.contains(is_harmful) => {
                let is_escape_string = out.ends_with(['e', 'E']) && !ends_word(&out);
                if !is_escape_string {
                    out.push('E');
                }
                out.push_str(&literal(text, is_escape_string));
            }
            '-' if text.len() > 1 => out.push_str(&escaped_comment(text)),
            _ => out.push_str(text),
        }
    }
    out
}

/// Whether the last letter is part of a longer word, such as that of `LIKE'x'`.
fn ends_word(text: &str) -> bool {
    text.chars()
        .rev()
        .nth(1)
        .is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// The length of the token that a text begins with: a comment, something quoted, or one character.
fn token(text: &str, is_escape_string: bool) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text.starts_with("--") {
        return text.find('\n').unwrap_or(text.len());
    }
    match text.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => quoted(text, *quote, is_escape_string && *quote == b'\''),
        Some(b'$') => dollar_quoted(text).unwrap_or(first),
        _ => first,
    }
}

/// The length of a quoted token; a doubled quote is part of it.
fn quoted(text: &str, quote: u8, has_backslashes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if has_backslashes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of `$tag$…$tag$`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = text[1..].find('$').map(|end| &text[..end + 2])?;
    let is_tag = tag[1..tag.len() - 1]
        .chars()
        .all(|c| c.is_alphanumeric() || c == '_');
    let end = text[tag.len()..].find(tag)?;
    is_tag.then_some(end + 2 * tag.len())
}

/// A quoted identifier with escapes.
fn identifier(quoted: &str) -> String {
    quoted.chars().fold("U&".to_owned(), |mut out, c| {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_harmful(c) => {
                let _ = write!(out, "\\+{:06x}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

/// The content of an escape string, without the E. Its backslashes are doubled unless it was one already.
fn literal(quoted: &str, is_escape_string: bool) -> String {
    quoted.chars().fold(String::new(), |mut out, c| {
        match c {
            '\\' if !is_escape_string => out.push_str("\\\\"),
            c if is_harmful(c) => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

fn escaped_comment(comment: &str) -> String {
    let harmless = comment.chars().map(|c| {
        if is_harmful(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    });
    harmless.collect()
}

/// What is outside of quotes and comments, for tests; also in the text of DO.
#[cfg(test)]
pub(super) fn unquoted(sql: &str) -> String {
    let (mut out, mut rest) = (String::new(), sql);
    while !rest.is_empty() {
        let length = token(rest, out.ends_with(['e', 'E']) && !ends_word(&out));
        let (text, after) = rest.split_at(length);
        rest = after;
        if text.starts_with('$') && length > 1 && out.ends_with("DO ") {
            let tag = text[1..].find('$').map_or(0, |end| end + 2);
            out.push_str(&unquoted(&text[tag..length - tag]));
        } else if length == text.chars().next().map_or(0, char::len_utf8) {
            out.push_str(text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_are_escaped_and_different_texts_remain_different() {
        assert_eq!(escaped("Grüße, 日本 \\d"), "Grüße, 日本 \\d");
        assert_eq!(escaped("a\nb\u{202e}c\\"), "a\\u{a}b\\u{202e}c\\u{5c}");
        let names = ["a\n", "a\\u{a}", "a\\\n", "a\\\\u{a}", "a\\u{5c}u{a}"];
        for (at, name) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                assert_ne!(escaped(name), escaped(other));
            }
        }
        assert_eq!(comment("a\nDROP TABLE b"), "-- a\\u{a}DROP TABLE b");
    }

    #[test]
    fn quoted_names_are_written_with_escapes_and_the_rest_is_unchanged() {
        for (sql, printable) in [
            (
                "DROP VIEW \"a\n; --\".\"b\\\u{202e}\"\"\";",
                "DROP VIEW U&\"a\\+00000a; --\".U&\"b\\\\\\+00202e\"\"\";",
            ),
            ("SELECT 'a\nb''', \"c\"", "SELECT E'a\\U0000000ab''', \"c\""),
            ("SELECT E'a\\\\\\'\nb'", "SELECT E'a\\\\\\'\\U0000000ab'"),
            (
                "-- it's \"a\nSELECT \"b\n\"",
                "-- it's \"a\nSELECT U&\"b\\+00000a\"",
            ),
            (
                "AS $f$ '\n\" $f$; DROP \"\n\"",
                "AS $f$ '\n\" $f$; DROP U&\"\\+00000a\"",
            ),
            ("SELECT $1, '$', \"$\n\"", "SELECT $1, '$', U&\"$\\+00000a\""),
            ("a\nb", "a\nb"),
        ] {
            assert_eq!(printable_sql(sql), printable);
        }
    }
}
