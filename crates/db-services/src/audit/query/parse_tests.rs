use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::filter::Column;
use super::*;

fn read(query: &str) -> Result<AuditFilter, ParseError> {
    AuditFilter::parse(query, &"2026-11-29T12:00:00Z".parse::<DateTime<Utc>>().unwrap())
}

/// The conditions of a query, each as it is written.
fn terms(query: &str) -> Vec<String> {
    let filter = read(query).unwrap_or_else(|error| panic!("{}", error.pointed()));
    filter.conditions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_query_is_read_term_by_term() {
    let query = r#" actor:alice  action:auth.* -outcome:success ip:10.1.2.3/8 since:7d until:2026-11-01
        meta.key:value "free text" -meta."a.b"."":"\"\\" request:"a b"* meta:{"a": [1, " "]} x tenant:* actor:"" "#;
    let expected = [
        "actor:alice",
        "action:auth.*",
        "-outcome:success",
        "ip:10.0.0.0/8",
        "since:2026-11-22T12:00:00Z",
        "until:2026-11-01T00:00:00Z",
        "meta.key:value",
        r#""free text""#,
        r#"-meta."a.b"."":"\"\\""#,
        r#"request:"a b"*"#,
        r#"meta:{"a": [1, " "]}"#,
        "x",
        "tenant:*",
        r#"actor:"""#,
    ];
    assert_eq!(terms(query), expected);
    assert_eq!(terms(""), [""; 0]);
    assert_eq!(terms(" \n\t\u{3000}"), [""; 0]);
}

#[test]
fn what_has_a_meaning_is_literal_in_quotes() {
    let text = |query: &str| match &read(query).unwrap().conditions[..] {
        [
            Condition {
                is_negated: false,
                test: Test::Text(text) | Test::Equals(_, text),
            },
        ] => text.clone(),
        other => panic!("{other:?}"),
    };
    for (query, expected) in [
        (r#""-a""#, "-a"),
        (r#""a:b""#, "a:b"),
        (r#""OR""#, "OR"),
        (r#"actor:"a*""#, "a*"),
        (r#"actor:a\b"#, r"a\b"),
        ("actor:a:b", "a:b"),
        ("actor:-a", "-a"),
        ("meta.a", "meta.a"),
        ("or", "or"),
        ("ünï", "ünï"),
    ] {
        assert_eq!(text(query), expected, "{query}");
        assert_eq!(text(&read(query).unwrap().to_string()), expected, "{query}");
    }
}

#[test]
fn an_error_points_at_its_place() {
    for (query, marked, message) in [
        ("actor:a acotr:bob", "acotr", "is not a key: tenant, actor"),
        ("é actor:", "", "a value is missing after actor:"),
        ("actor: bob", "", "a value is missing after actor:"),
        ("- a", "-", "followed by nothing"),
        ("--a:b", "-a", "is not a key"),
        (":b", "", "is not a key"),
        ("a \"b c", "\"", "is not closed"),
        (r#""a\n""#, "\\", "in quotes must precede"),
        (r#""a\"#, "\\", "in quotes must precede"),
        (r#""a"b"#, "b", "follows without a space"),
        (r#"al"ice"#, "\"", "stands within a word"),
        (r#"actor:al"ice"#, "\"", "has a meaning at the end"),
        ("actor:a*b", "*", "has a meaning at the end"),
        ("actor:**", "*", "has a meaning at the end"),
        ("ip:10.0.0.0/33 x", "10.0.0.0/33", "is not an address"),
        ("ip:10.*", "10.*", "cannot end with *"),
        ("operation:1", "1", "is not a UUID"),
        ("since:soon", "soon", "is not a time"),
        ("until:2026-13-01", "2026-13-01", "is not a time"),
        ("a OR b", "OR", "is not an operator"),
        ("foo*", "foo*", "has a *"),
        (r#""foo"*"#, r#""foo"*"#, "does not need a *"),
        ("meta:5", "5", "is not a JSON object"),
        ("meta:", "", "is not a JSON object"),
        (r#"meta:{"a":}"#, r#"{"a":}"#, "does not begin a JSON object"),
        (r#"meta:{"a":1"#, r#"{"a":1"#, "does not begin a JSON object"),
        (r#"meta:{"a":1}b"#, "b", "follows without a space"),
        (r#"meta:{"a":1E9999}"#, r#"{"a":1E9999}"#, "is in no row"),
        ("meta..a:1", "", "name is missing"),
        ("meta.a.:1", "", "name is missing"),
        ("meta.a:1*", "1*", "cannot end with *"),
        (r#"meta."a""#, "", "stands where : and a value"),
        (r#"meta."a"b:1"#, "b:1", "stands where : and a value"),
    ] {
        let error = read(query).unwrap_err();
        assert_eq!(query.get(error.span()), Some(marked), "{query}: {error}");
        assert!(error.message().contains(message), "{query}: {error}");
    }
}

#[test]
fn a_place_is_shown_in_characters() {
    let error = read("\"äö\u{1b}\" ip:x").unwrap_err();
    assert_eq!(error.columns(), (9, 1));
    assert!(
        error
            .pointed()
            .starts_with("\"äö \" ip:x\n         ^\nis not an address"),
        "{}",
        error.pointed()
    );
    assert!(
        error
            .to_string()
            .starts_with("at character 10: \"x\" is not an address"),
        "{error}"
    );
}

#[test]
fn a_query_has_limits() {
    let terms = |count| "a ".repeat(count);
    assert_eq!(
        read(&terms(MAX_CONDITIONS)).unwrap().conditions.len(),
        MAX_CONDITIONS
    );
    let error = read(&terms(MAX_CONDITIONS + 1)).unwrap_err();
    assert_eq!(error.span().start, 2 * MAX_CONDITIONS);
    assert!(read(&"a".repeat(MAX_BYTES)).is_ok());
    assert!(
        read(&"a".repeat(MAX_BYTES + 1))
            .unwrap_err()
            .message()
            .contains("at most")
    );
}

#[test]
fn a_path_is_as_deep_as_metadata() {
    let of = |names: usize| format!("meta{}:1", ".a".repeat(names));
    assert!(read(&of(127)).is_ok());
    let error = read(&of(128)).unwrap_err();
    assert_eq!(error.span(), 4..4 + 2 * 128, "{error}");
    assert!(error.message().contains("at most 127 names"), "{error}");
}

#[test]
fn a_negated_time_is_the_other_end() {
    assert_eq!(
        terms("-since:2026-11-01 -until:2026-12-01"),
        ["until:2026-11-01T00:00:00Z", "since:2026-12-01T00:00:00Z"]
    );
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        any::<i64>()
            .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)),
        (0..4_000_000_000_000_000_i64).prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap()),
        Just(DateTime::<Utc>::MIN_UTC),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ab\"\\\\*:.{} \t\n-]{0,6}",
        "[a-z.]{1,8}",
        prop::sample::select(vec!["OR", "AND", "NOT", "meta.a", "meta:", "-", "--", "7d"])
            .prop_map(str::to_owned),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let column = || prop::sample::select(Column::ALL.to_vec());
    let path = prop::collection::vec(any_text(), 1..4);
    let object = prop::collection::btree_map(
        any_text().prop_filter("NUL", |text| !text.contains('\0')),
        any::<i64>(),
        0..3,
    );
    let condition = prop_oneof![
        (column(), any_text()).prop_map(|(column, text): (Column, _)| Condition::equals(column, text)),
        (column(), any_text()).prop_map(|(column, text)| Condition::begins_with(column, text)),
        (any::<std::net::IpAddr>(), 0..=32_u8)
            .prop_map(|(address, prefix)| Condition::address(ipnet::IpNet::new(address, prefix).unwrap())),
        any::<std::net::IpAddr>().prop_map(Condition::address),
        any::<u128>().prop_map(|id| Condition::operation(Uuid::from_u128(id))),
        any_time().prop_map(Condition::since),
        any_time().prop_map(Condition::until),
        (path, any_text()).prop_map(|(path, text)| Condition::member(path.iter().map(String::as_str), text)),
        object.prop_map(|object| {
            let members = object.into_iter().map(|(name, value)| (name, value.into()));
            Condition::contains(&members.collect())
        }),
        any_text().prop_map(Condition::text),
    ];
    (condition, any::<bool>()).prop_map(|(condition, negated)| if negated { !condition } else { condition })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_filter_that_is_written_reads_back(conditions in prop::collection::vec(any_condition(), 0..5)) {
        let filter: AuditFilter = conditions.into_iter().collect();
        let written = filter.to_string();
        prop_assume!(written.len() <= MAX_BYTES);
        let read = read(&written).unwrap_or_else(|error| panic!("{}", error.pointed()));
        prop_assert_eq!(read, filter);
    }

    #[test]
    fn any_text_is_read_or_refused_at_a_place(query in prop_oneof![any::<String>(), "[a:.\"\\\\*{}\\[\\]1e -]{0,12}"]) {
        match read(&query) {
            Ok(filter) => prop_assert_eq!(read(&filter.to_string()).unwrap(), filter),
            Err(error) => prop_assert!(query.get(error.span()).is_some() && !error.pointed().is_empty()),
        }
    }
}
