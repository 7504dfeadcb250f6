//! What the headers of a request say.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use uuid::Uuid;

/// The most bytes of a request id. One that is longer, or has other than visible ASCII characters, is replaced.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// The id of a request. Sets the header if there is none that can be used.
pub(crate) fn request_id(headers: &mut HeaderMap, name: &HeaderName) -> String {
    let given = headers.get(name).and_then(usable_id);
    given.unwrap_or_else(|| {
        let id = Uuid::now_v7().to_string();
        // What a UUID consists of is allowed in a header.
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(name.clone(), value);
        }
        id
    })
}

fn usable_id(value: &HeaderValue) -> Option<String> {
    let id = value.as_bytes();
    let is_usable = (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    is_usable.then(|| String::from_utf8_lossy(id).into_owned())
}

/// The trace id of a `traceparent` (W3C Trace Context), of any version.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let value = value.to_str().ok()?.trim_matches([' ', '\t']);
    let mut parts = value.splitn(5, '-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let are_hex = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // Later versions may append parts.
    let is_complete = version != "ff" && (version != "00" || parts.next().is_none());
    let is_set = |id: &str| id.bytes().any(|byte| byte != b'0');
    (are_hex && is_complete && is_set(trace) && is_set(parent)).then_some(trace)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The user agent; bytes that are no UTF-8 become U+FFFD.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn a_usable_request_id_is_kept_and_any_other_replaced() {
        let name = HeaderName::from_static("x-request-id");
        for given in ["a", "0195-ab/c", &"x".repeat(MAX_REQUEST_ID_BYTES)] {
            assert_eq!(
                request_id(&mut headers("x-request-id", given.as_bytes()), &name),
                given
            );
        }
        let unusable: [&[u8]; 4] = [b"", b"a b", "ä".as_bytes(), &[b'x'; MAX_REQUEST_ID_BYTES + 1]];
        for given in unusable {
            let mut headers = headers("x-request-id", given);
            let id = request_id(&mut headers, &name);
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7);
            assert_eq!(headers["x-request-id"], *id);
        }
        let mut none = HeaderMap::new();
        let id = request_id(&mut none, &name);
        assert_eq!(none["x-request-id"], *id);
    }

    #[test]
    fn the_trace_id_of_a_valid_traceparent_is_read() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = [
            format!("00-{trace}-b7ad6b7169203331-01"),
            format!("cc-{trace}-b7ad6b7169203331-01-what-the-future-will-be-like"),
        ];
        for value in valid {
            assert_eq!(
                trace_id(&headers("traceparent", value.as_bytes())),
                Some(trace),
                "{value}"
            );
        }
        let invalid = [
            String::new(),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("00-{trace}0-b7ad6b7169203331-01"),
        ];
        for value in invalid {
            assert_eq!(
                trace_id(&headers("traceparent", value.as_bytes())),
                None,
                "{value}"
            );
        }
        let mut twice = headers(
            "traceparent",
            format!("00-{trace}-b7ad6b7169203331-01").as_bytes(),
        );
        twice.append("traceparent", twice["traceparent"].clone());
        assert_eq!(trace_id(&twice), None);
    }
}
