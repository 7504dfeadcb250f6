//! Tests of the verdicts.

use super::super::description::{Attributes, Key};
use super::*;

/// The severity of a difference; the value that is found is also that of the object.
fn severity(
    key: [&str; 3],
    attribute: &str,
    values: [Option<&str>; 2],
    place: Place,
    object: &[(&str, &str)],
) -> Option<Severity> {
    let [kind, relation, name] = key.map(str::to_owned);
    let object: Attributes = object
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let single = Single {
        key: &Key { kind, relation, name },
        attribute,
        expected: values[0],
        found: values[1],
        object: &object,
        place,
        overloads: false,
    };
    judge(&single).map(|judgement| judgement.severity)
}

/// Key, attribute, what is expected and found, place, other attributes that were found.
type Case<'a> = (
    [&'a str; 3],
    &'a str,
    [Option<&'a str>; 2],
    Place,
    &'a [(&'a str, &'a str)],
);

#[test]
fn what_lets_rows_be_changed_or_forged_is_critical() {
    let none: &[(&str, &str)] = &[];
    let cases: [Case; 9] = [
        (["trigger", "t", "x"], "", [Some("d"), None], Partition, none),
        (
            ["trigger", "t", "x"],
            "enabled",
            [Some("always"), Some("disabled")],
            Partition,
            none,
        ),
        (["rule", "t", "x"], "", [None, Some("r")], Trail, none),
        (
            ["function", "", "f()"],
            "body",
            [Some("a"), Some("b")],
            Place::None,
            none,
        ),
        (
            ["grant", "TABLE t", "x"],
            "INSERT",
            [None, Some("yes")],
            Trail,
            none,
        ),
        (
            ["grant", "TABLE t", "x"],
            "INSERT (tx_id)",
            [None, Some("yes")],
            Trail,
            none,
        ),
        (
            ["index", "t", "x"],
            "",
            [None, Some("USING")],
            Trail,
            &[("unique", "yes")],
        ),
        (
            ["column", "t", "recorded_at"],
            "default",
            [Some("a"), Some("b")],
            Trail,
            none,
        ),
        (
            ["member", "o", "x"],
            "",
            [None, Some("owner")],
            Place::None,
            &[("use", "yes"), ("member", "another role")],
        ),
    ];
    for (key, attribute, values, place, object) in cases {
        assert_eq!(
            severity(key, attribute, values, place, object),
            Some(Critical),
            "{key:?} {attribute}"
        );
    }
}

#[test]
fn what_the_other_protection_still_refuses_is_a_warning() {
    let cases = [
        (
            ["trigger", "t", "x"],
            "enabled",
            [Some("always"), Some("disabled in replica mode")],
            Partition,
        ),
        (
            ["grant", "TABLE t", "x"],
            "UPDATE (action)",
            [None, Some("yes")],
            Trail,
        ),
        (["table", "t", ""], "row security", [Some("on"), None], Partition),
        (["grant", "TABLE t", "x"], "SELECT", [Some("yes"), None], Trail),
    ];
    for (key, attribute, values, place) in cases {
        assert_eq!(
            severity(key, attribute, values, place, &[]),
            Some(Warning),
            "{key:?} {attribute}"
        );
    }
}

#[test]
fn the_administrator_that_created_a_role_is_no_warning() {
    let admin = |member, use_| {
        let object: &[(&str, &str)] = if use_ {
            &[("admin", "yes"), ("member", member), ("use", "yes")]
        } else {
            &[("admin", "yes"), ("member", member)]
        };
        severity(
            ["member", "w", "x"],
            "",
            [None, Some("writer")],
            Place::None,
            object,
        )
    };
    assert_eq!(admin("owner", false), None);
    assert_eq!(admin("with CREATEROLE", false), Some(Info));
    assert_eq!(admin("with CREATEROLE", true), Some(Warning));
    assert_eq!(admin("another role", false), Some(Warning));
}

#[test]
fn a_look_up_index_may_be_missing() {
    let key = ["index", "@month@", "@month@_actor"];
    assert_eq!(severity(key, "", [Some("USING"), None], Partition, &[]), None);
    assert_eq!(
        severity(key, "", [Some("USING"), Some("USING hash")], Partition, &[]),
        Some(Warning)
    );
}
