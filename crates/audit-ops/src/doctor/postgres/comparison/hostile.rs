//! Remedies for objects whose names try to leave their quotes, or the comment that mentions them.

use std::collections::BTreeSet;

use super::difference::Difference;
use super::names::Names;
use super::{EXPECTED, finding, query};
use crate::doctor::text::unquoted;
use crate::doctor::{Code, Severity};
use crate::is_harmful;

/// Names as PostgreSQL quotes them. EVIL is in all of them.
const NAMES: [&str; 7] = [
    "\"a\nEVIL; --\"",
    "\"a */ EVIL /*\"",
    "\"--EVIL\"",
    "\"$do$; EVIL; $do$\"",
    "\"a\\'EVIL\"",
    "\"\u{202e}EVIL\u{2066}\"",
    "\"a\"\"; EVIL; '\"",
];

/// Each kind that the queries describe, and the attributes that have a remedy of their own.
const KINDS: [(&str, &[&str]); 21] = [
    (
        "table",
        &[
            "",
            "owner",
            "persistence",
            "access method",
            "tablespace",
            "replica identity",
            "row security",
            "forced row security",
            "detachment",
            "type",
            "parents",
            "extension",
            "rights that the owner lacks",
            "foreign key triggers",
            "name",
            "bounds",
            "partition of",
            "options",
            "toast options",
        ],
    ),
    (
        "column",
        &[
            "",
            "default",
            "NOT NULL",
            "collation",
            "generated",
            "identity",
            "storage",
            "compression",
            "position",
            "statistics",
            "options",
        ],
    ),
    ("constraint", &["", "index"]),
    ("index", &["", "validity", "unique", "options", "tablespace"]),
    ("trigger", &["", "enabled"]),
    ("rule", &[""]),
    ("policy", &[""]),
    (
        "function",
        &[
            "",
            "owner",
            "extension",
            "security",
            "body",
            "rights that the owner lacks",
        ],
    ),
    ("grant", &["SELECT", "INSERT (\"a\nEVIL\")"]),
    ("usage", &[""]),
    ("default privileges", &["TABLES"]),
    ("role", &["SUPERUSER"]),
    ("member", &[""]),
    ("combination", &[""]),
    ("schema", &["owner"]),
    ("database", &["owner"]),
    ("login", &["BYPASSRLS"]),
    ("setting", &[""]),
    ("dependent", &[""]),
    ("relation", &[""]),
    ("label", &["provider"]),
];

#[test]
fn every_kind_that_the_queries_describe_is_tried() {
    let described: BTreeSet<&str> = query::PARTS.iter().flat_map(|part| part.kinds).copied().collect();
    assert_eq!(
        KINDS.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>(),
        described
    );
}

/// A difference in which the name, the tables and what differs are hostile; or only the tables and what differs.
fn difference(kind: &str, attribute: &str, known: Option<&str>, name: &str, tables: usize) -> Difference {
    Difference {
        code: Code::Tables,
        severity: Severity::Warning,
        consequence: "",
        kind: kind.to_owned(),
        name: known.unwrap_or(name).to_owned(),
        attribute: attribute.to_owned(),
        expected: None,
        found: None,
        object: [("remove".to_owned(), format!("DROP VIEW {name}"))].into(),
        other_table: String::new(),
        relations: (0..tables)
            .map(|n| format!("{name}.{}", name.replace("EVIL", &format!("EVIL{n}"))))
            .collect(),
    }
}

#[test]
fn no_remedy_contains_a_name_outside_of_quotes() {
    let mut with_name = 0;
    for name in NAMES {
        let names = Names::of("public", "own", &[("writer", "audit_writer"), ("auditor", name)]);
        for (kind, attributes) in KINDS {
            // The names of objects of the trail, in a table whose name is hostile.
            let known = EXPECTED.keys().filter(|key| key.kind == kind && key.of_month());
            let known = known.map(|key| key.name.strip_prefix("of ").unwrap_or(&key.name));
            let known: Vec<&str> = known.filter(|name| !name.is_empty()).collect();
            for (attribute, tables) in attributes.iter().flat_map(|a| [(a, 1), (a, 5)]) {
                for (wanted, found) in [(None, Some(name)), (Some(name), None), (Some("x"), Some(name))] {
                    for known in std::iter::once(None).chain(known.iter().copied().map(Some)) {
                        let difference = Difference {
                            expected: wanted.map(str::to_owned),
                            // For a relation, `found` is its kind, which the query writes, not a name.
                            found: found
                                .map(|name| if kind == "relation" { "view" } else { name }.to_owned()),
                            ..difference(kind, attribute, known, name, tables)
                        };
                        with_name += usize::from(has_name_in_quotes(&difference, &names));
                    }
                }
            }
        }
    }
    assert!(with_name > 10_000, "{with_name}");
}

/// Whether the remedy has the name, which must be in quotes.
fn has_name_in_quotes(difference: &Difference, names: &Names) -> bool {
    let (kind, attribute) = (&difference.kind, &difference.attribute);
    let finding = finding::of(difference, &EXPECTED, names);
    assert!(!finding.found.contains(is_harmful), "{finding:?}");
    let remedy = finding.remedy.unwrap_or_default();
    let is_hidden = |c| is_harmful(c) && c != '\n';
    assert!(!remedy.contains(is_hidden), "{kind} {attribute}: {remedy:?}");
    assert!(
        !unquoted(&remedy).contains("EVIL"),
        "{kind} {attribute}: {remedy}"
    );
    remedy.contains("EVIL")
}
