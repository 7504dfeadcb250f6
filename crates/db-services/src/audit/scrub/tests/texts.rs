//! Secrets within texts.

use super::*;

#[test]
fn a_secret_is_replaced_wherever_it_is_in_a_text() {
    for secret in secrets() {
        let marker = stored_text(&secret);
        assert!(
            marker.starts_with("[scrubbed: ") && marker.ends_with(']'),
            "{secret}: {marker}"
        );
        for (before, after) in [
            ("", " and more"),
            ("refused: ", ""),
            ("\"", "\""),
            ("a=", "&b=1"),
            ("line\n", "\nline"),
            ("tab\t", ""),
            ("c:\\n ", "\\"),
            ("(", ")."),
            ("Zürich ", " – ok"),
        ] {
            let text = stored_text(&format!("{before}{secret}{after}"));
            assert_eq!(text, format!("{before}{marker}{after}"), "{secret}");
        }
    }
}

#[test]
fn each_pattern_has_a_beginning_that_can_be_searched_for() {
    for pattern in shapes::PATTERNS {
        assert!(pattern.prefix.len() >= filter::MIN_NEEDLE, "{}", pattern.prefix);
    }
}

#[test]
fn a_private_key_is_found_within_other_secrets_without_an_end_and_in_escaped_text() {
    let body = random(ALPHANUMERIC, 64);
    let begin = ["-----BEGIN RSA", "PRIVATE KEY-----"].join(" ");
    let key = format!("ghp_{}", random(ALPHANUMERIC, 36));
    for text in [
        format!("PRIVATE_KEY={begin}\n{body}"),
        format!("{begin}\n{body}\n\"q\" and more {body}"),
        format!(r"-----END CERTIFICATE-----\n{begin}\n{body}"),
        format!(r"\u0001{begin} {body}"),
        format!("glpat-{}{begin}\n{body}", random(BASE64URL, 20)),
        format!(r#"{{"a":"{{\"k\":\"{begin}\\n{body}"}}"#),
        format!(r"a\n{key} {begin} {body}"),
        format!("\u{1}{key}\u{1f}{begin} {body}"),
    ] {
        let stored = stored_text(&text);
        assert!(
            !stored.contains(&body) && !stored.contains(&key),
            "{text}: {stored}"
        );
    }
}

#[test]
fn only_the_secret_part_of_a_text_is_replaced() {
    for (text, expected) in [
        (
            "connect to postgres://app:hunter2@db:5432/shop failed",
            "connect to postgres://app:[scrubbed: password]@db:5432/shop failed",
        ),
        ("redis://:p%40ss@h/0", "redis://:[scrubbed: password]@h/0"),
        ("amqp://u:p@ss:word@h", "amqp://u:[scrubbed: password]@h"),
        (
            "host=db password=hunter2 user=app",
            "host=db password=[scrubbed: name] user=app",
        ),
        (
            "Server=x;Password=hunter2;",
            "Server=x;Password=[scrubbed: name];",
        ),
        ("X-Api-Key: 8f14e45f", "X-Api-Key: [scrubbed: name]"),
        (
            r#"body: {"user":"a","password": "hun'ter 2","pin":1234,"ok":true}"#,
            r#"body: {"user":"a","password": "[scrubbed: name]","pin":[scrubbed: name],"ok":true}"#,
        ),
        (
            r#"{"body":"{\"token\":\"a\\\"b\",\"x\":1}"}"#,
            r#"{"body":"{\"token\":\"[scrubbed: name]\",\"x\":1}"}"#,
        ),
        (
            "{'secret': 'a b', 'kind': 'x'}",
            "{'secret': '[scrubbed: name]', 'kind': 'x'}",
        ),
        ("api_key = 8f14e45f, next", "api_key = [scrubbed: name], next"),
        (
            "PGPASSWORD=\"hun ter2\" psql",
            "PGPASSWORD=\"[scrubbed: name]\" psql",
        ),
        (
            "theme: x\nCookie: theme=dark1; sessionid=abc; x=y\nAccept: */*",
            "theme: x\nCookie: [scrubbed: name]\nAccept: */*",
        ),
        (
            "user[password]=hunter2&user%5Bpin%5D=1",
            "user[password]=[scrubbed: name]&user%5Bpin%5D=[scrubbed: name]",
        ),
        (
            r#"{"password" => "x y"}"#,
            r#"{"password" => "[scrubbed: name]"}"#,
        ),
        (
            r#"User { password: Some("x y"), pin: 1 }"#,
            r#"User { password: Some("[scrubbed: name]"), pin: 1 }"#,
        ),
        (
            "<password>x y</password>",
            "<password>[scrubbed: name]</password>",
        ),
        ("password=#a(b}c next", "password=[scrubbed: name] next"),
        ("postgres://u:a,b'c@h/x", "postgres://u:[scrubbed: password]@h/x"),
        ("Basic dXNlcjpwYXNzd29yZA", "Basic [scrubbed: credentials]"),
        ("Bearer  abc123def456", "Bearer  [scrubbed: credentials]"),
        ("AccountKey=abc/def==;x", "AccountKey=[scrubbed: name];x"),
        (
            "https://a.example.org/b?sv=1&sig=a%2Bb",
            "https://a.example.org/b?sv=1&sig=[scrubbed: name]",
        ),
        (
            "authorization=Bearer abc123def456ghi",
            "authorization=[scrubbed: name] [scrubbed: credentials]",
        ),
        ("apiKeys=abc", "apiKeys=[scrubbed: name]"),
        ("secret://x1234567", "secret://x1234567"),
        ("pin=12345", "pin=[scrubbed: name]"),
        ("pins=12345", "pins=12345"),
        ("token=\\", "token=\\"),
        ("token=\"abc\\", "token=\"[scrubbed: name]"),
        (
            "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3.c2ln...",
            "x [scrubbed: token]...",
        ),
        ("AKIAQZ7RT4WX2BN5KM3VX", "AKIAQZ7RT4WX2BN5KM3VX"),
        ("xBearer abc123def456", "xBearer abc123def456"),
        (
            "/cb?code=1&access_token=abc&state=x",
            "/cb?code=1&access_token=[scrubbed: name]&state=x",
        ),
        (
            "Authorization: Bearer abc123def456",
            "Authorization: Bearer [scrubbed: credentials]",
        ),
        (
            "authorization: basic dXNlcjpwYXNzdzByZA==",
            "authorization: basic [scrubbed: credentials]",
        ),
    ] {
        assert_eq!(stored_text(text), expected);
    }
}

#[test]
fn a_name_and_the_address_text_are_scrubbed_but_the_tenant_and_the_action_stay() {
    let key = format!("ghp_{}", random(ALPHANUMERIC, 36));
    let entry = AuditEntry::new(&*key)
        .tenant(&*key)
        .actor(&*key)
        .user_agent(&*key)
        .request_id(&*key);
    let row = NewAuditLog::from(
        entry
            .trace_id(&*key)
            .on_behalf_of(&*key)
            .actor_type(&*key)
            .ip_text(&key),
    );
    assert_eq!(
        (row.action.as_str(), row.tenant_id.as_deref()),
        (&*key, Some(&*key))
    );
    let columns = [
        row.actor_id,
        row.user_agent,
        row.request_id,
        row.trace_id,
        row.on_behalf_of,
        row.actor_type,
    ];
    for column in columns {
        assert_eq!(column.as_deref(), Some("[scrubbed: key]"));
    }
    assert_eq!(
        row.metadata.as_str(),
        r#"{"_audit":{"ip_text":"[scrubbed: key]"}}"#
    );
}

#[test]
fn an_entry_is_scrubbed_before_it_is_cut() {
    let secret = format!("ghp_{}", random(ALPHANUMERIC, 36));
    let row = NewAuditLog::from(AuditEntry::new("x").request_id(format!("{} {secret}", "a".repeat(490))));
    let stored = row.request_id.unwrap();
    assert!(stored.ends_with(" [scrubbed: key]"), "{stored}");
    let long = format!("{} {secret}", "a".repeat(66_000));
    let row = NewAuditLog::from(AuditEntry::new("x").detail("note", long));
    assert!(!row.metadata.as_str().contains(&secret[..12]));
}
