//! Remedies for objects whose names try to leave their quotes, or the comment that mentions them.

use super::description::Attributes;
use super::difference::Difference;
use super::finding;
use super::names::Names;
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

/// Each kind, and the attributes that have a remedy of their own.
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
        ],
    ),
    ("constraint", &["", "index"]),
    ("index", &["", "validity", "unique", "options"]),
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
fn no_remedy_contains_a_name_outside_of_quotes() {
    let mut with_name = 0;
    for name in NAMES {
        let names = Names::of("public", "own", &[("writer", "audit_writer"), ("auditor", name)]);
        for (kind, attributes) in KINDS {
            for (attribute, tables) in attributes.iter().flat_map(|a| [(a, 1), (a, 5)]) {
                for (wanted, found) in [(None, Some(name)), (Some(name), None), (Some("x"), Some(name))] {
                    let object: Attributes = [("remove".to_owned(), format!("DROP VIEW {name}"))].into();
                    let difference = Difference {
                        code: Code::Tables,
                        severity: Severity::Warning,
                        consequence: "",
                        kind: kind.to_owned(),
                        name: name.to_owned(),
                        attribute: (*attribute).to_owned(),
                        expected: wanted.map(str::to_owned),
                        // A word of the doctor's own, not a name.
                        found: found.map(|name| if kind == "relation" { "view" } else { name }.to_owned()),
                        object,
                        other_table: String::new(),
                        relations: (0..tables)
                            .map(|n| format!("{name}.{}", name.replace("EVIL", &format!("EVIL{n}"))))
                            .collect(),
                    };
                    let finding = finding::of(&difference, &super::EXPECTED, &names);
                    assert!(!finding.found.contains(is_harmful), "{finding:?}");
                    let remedy = finding.remedy.unwrap_or_default();
                    let is_hidden = |c| is_harmful(c) && c != '\n';
                    assert!(!remedy.contains(is_hidden), "{kind} {attribute}: {remedy:?}");
                    assert!(
                        !unquoted(&remedy).contains("EVIL"),
                        "{kind} {attribute}: {remedy}"
                    );
                    with_name += usize::from(remedy.contains("EVIL"));
                }
            }
        }
    }
    assert!(with_name > 1000, "{with_name}");
}
