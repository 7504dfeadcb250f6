//! The addresses in `X-Forwarded-For` and `Forwarded` (RFC 7239), read from the right.
//!
//! Each proxy appends what it saw. Only the right end comes from a proxy that is trusted; what stands left of it is
//! what a client sent, and may be anything. So the lists are split from the right: an unclosed quote further left
//! cannot hide the element that the proxy has added.

use std::net::{IpAddr, SocketAddr};

/// Removes the last element of a list and returns it, trimmed. None if the list is empty.
pub(crate) fn pop_element<'a>(list: &mut &'a str, separator: u8) -> Option<&'a str> {
    if list.is_empty() {
        return None;
    }
    let (rest, element) = match last_outside_quotes(list, separator) {
        Some(at) => (&list[..at], &list[at + 1..]),
        None => ("", *list),
    };
    *list = rest;
    Some(element.trim_matches([' ', '\t']))
}

/// The last place of a separator that is not within quotes, seen from the right.
fn last_outside_quotes(list: &str, separator: u8) -> Option<usize> {
    let bytes = list.as_bytes();
    let mut is_quoted = false;
    for at in (0..bytes.len()).rev() {
        match bytes[at] {
            b'"' if !is_escaped(&bytes[..at]) => is_quoted = !is_quoted,
            byte if byte == separator && !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// True if what follows is escaped: an odd number of backslashes precedes it.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// The address of an element of `Forwarded`: that of its only parameter `for`.
pub(crate) fn forwarded(element: &str) -> Option<IpAddr> {
    let (mut element, mut found) = (element, None);
    while let Some(parameter) = pop_element(&mut element, b';') {
        let Some((name, value)) = parameter.split_once('=') else {
            // `for=a;` is a common mistake.
            if parameter.is_empty() {
                continue;
            } else {
                return None;
            }
        };
        // Each value: a quote that a proxy has not escaped in one may have moved the borders of the others.
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    address(&found?)
}

/// A token as it is, or the content of a quoted string.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let (mut text, mut characters) = (String::new(), inner.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    Some(text)
}

/// The address of an element of `X-Forwarded-For`: an address, `address:port`, `[address]` or `[address]:port`. `unknown`
/// and identifiers such as `_proxy` are none.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let in_brackets = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse()
            .ok()
            .map(IpAddr::V6)
    };
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(mut list: &str) -> Vec<&str> {
        std::iter::from_fn(|| pop_element(&mut list, b',')).collect()
    }

    #[test]
    fn a_list_is_split_from_the_right() {
        assert_eq!(elements("a, b ,\tc"), ["c", "b", "a"]);
        assert_eq!(elements(""), [""; 0]);
        assert_eq!(elements("a,,b,"), ["", "b", "", "a"]);
    }

    #[test]
    fn a_comma_within_quotes_separates_nothing() {
        assert_eq!(elements(r#"for="a,b", for=c"#), ["for=c", r#"for="a,b""#]);
        assert_eq!(elements(r#"for="a\",b", for=c"#), ["for=c", r#"for="a\",b""#]);
    }

    #[test]
    fn an_unclosed_quote_hides_no_element_to_its_right() {
        assert_eq!(elements(r#"for=", for=192.0.2.1"#)[0], "for=192.0.2.1");
        assert_eq!(elements(r#"for="\, for="192.0.2.1""#)[0], r#"for="192.0.2.1""#);
    }

    #[test]
    fn addresses_are_read_in_each_form() {
        let forms = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ];
        for (text, expected) in forms {
            assert_eq!(address(text), Some(expected.parse().unwrap()), "{text}");
            assert_eq!(
                forwarded(&format!("for=\"{text}\"")),
                Some(expected.parse().unwrap()),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_no_address() {
        for text in [
            "",
            "unknown",
            "_hidden",
            "example.org",
            "192.0.2.1:",
            "192.0.2.256",
            "[192.0.2.1]",
            "1.2.3.4, 5",
            "010.0.0.1",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn an_element_of_forwarded_has_one_for() {
        let address = Some("192.0.2.60".parse().unwrap());
        for element in [
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            "proto=http; For=192.0.2.60",
            r#"host="a;b";for=192.0.2.60"#,
            "for=192.0.2.60;",
        ] {
            assert_eq!(forwarded(element), address, "{element}");
        }
        for element in [
            "",
            "proto=http",
            "for=192.0.2.1;for=192.0.2.60",
            "192.0.2.60",
            r#"for="192.0.2.60"#,
            r#"for=192.0.2.60""#,
            r#"for=""192.0.2.60""#,
            "for=_hidden",
            "for=unknown",
            "for=2001:db8::1;by",
            r#"for="\"#,
            r#"for=192.0.2.60;host="a"b""#,
            r#"for=192.0.2.60;host=a"b"#,
            r#"for=192.0.2.60;proto="http"#,
            r#"host="a"b;for=192.0.2.60"#,
        ] {
            assert_eq!(forwarded(element), None, "{element}");
        }
    }
}
