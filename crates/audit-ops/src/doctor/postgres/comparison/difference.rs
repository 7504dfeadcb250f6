//! What differs between the description and a catalog.

use std::collections::{BTreeMap, BTreeSet};

use super::description::{Attributes, Catalog, Key, MONTH, Objects};
use super::names::Names;
use super::severity::{Judgement, judge};
use crate::doctor::{Code, Severity};

/// How an object or an attribute differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Missing,
    Changed,
    Unexpected,
}

/// Which table an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// audit_logs itself.
    Trail,
    /// The default partition, or one of a month.
    Partition,
    /// Another table of the trail.
    Other,
    /// It belongs to no table.
    None,
}

/// A difference of one object.
pub(super) struct Single<'a> {
    pub(super) key: &'a Key,
    /// Empty for the object itself.
    pub(super) attribute: &'a str,
    pub(super) expected: Option<&'a str>,
    pub(super) found: Option<&'a str>,
    /// What else was found about the object.
    pub(super) object: &'a Attributes,
    pub(super) place: Place,
    /// A function of the trail has the same name.
    pub(super) overloads: bool,
}

impl Single<'_> {
    pub(super) fn change(&self) -> Change {
        match (self.expected, self.found) {
            (None, _) => Change::Unexpected,
            (_, None) => Change::Missing,
            _ => Change::Changed,
        }
    }
}

/// The same difference of one or more objects. Ordered by what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    pub(super) code: Code,
    pub(super) severity: Severity,
    pub(super) consequence: &'static str,
    pub(super) kind: String,
    /// Without the prefix of an object that a partition has from audit_logs.
    pub(super) name: String,
    pub(super) attribute: String,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
    /// What else was found about the object; for a partition, as audit_logs has it.
    pub(super) object: Attributes,
    /// The table, unless it is audit_logs or one of its partitions.
    pub(super) other_table: String,
    /// The tables that differ, or what else the object belongs to.
    pub(super) relations: Vec<String>,
}

/// Kinds whose lines are separate facts rather than attributes of an object.
const SEPARATE: [&str; 6] = [
    "grant",
    "default privileges",
    "role",
    "schema",
    "database",
    "login",
];

/// Compares, judges each difference, and groups the tables that differ in the same way.
pub(super) fn all(expected: &Objects, actual: &Catalog, names: &Names) -> Vec<Difference> {
    let root = format!("{}.audit_logs", names.schema);
    let of_months = |objects: &Objects| -> Objects {
        let months = objects.iter().filter(|(key, _)| key.of_month());
        months
            .map(|(key, attributes)| (key.clone(), attributes.clone()))
            .collect()
    };
    let expected_of_months = of_months(expected);
    let expected: Objects = expected
        .iter()
        .filter(|(key, _)| !key.of_month())
        .map(|(key, attributes)| (key.clone(), attributes.clone()))
        .collect();
    let overloaded: BTreeSet<&str> = expected
        .keys()
        .filter(|key| key.kind == "function")
        .map(|key| base(&key.name))
        .collect();
    let mut groups: BTreeMap<Difference, BTreeSet<String>> = BTreeMap::new();
    let mut collect = |expected: &Objects, actual: &Objects, months: &[String]| {
        compare(expected, actual, |mut single| {
            single.place = place(single.key, &root);
            single.overloads = single.key.kind == "function" && overloaded.contains(base(&single.key.name));
            if let Some(judgement) = judge(&single) {
                let tables = if single.key.of_month() {
                    months.to_vec()
                } else {
                    vec![single.key.table().to_owned()]
                };
                groups
                    .entry(group(&single, judgement))
                    .or_default()
                    .extend(tables);
            }
        });
    };
    collect(&expected, &actual.objects, &[]);
    for months in &actual.months {
        collect(&expected_of_months, &months.objects, &months.tables);
    }
    let differences = groups.into_iter().map(|(mut difference, relations)| {
        difference.relations = relations
            .into_iter()
            .filter(|relation| !relation.is_empty())
            .collect();
        // The table itself before its partitions.
        difference.relations.sort_by_key(|relation| *relation != root);
        difference
    });
    merge_functions(merge_privileges(differences.collect()))
}

/// The name of a function without its arguments.
fn base(signature: &str) -> &str {
    signature.rsplit_once('(').map_or(signature, |(name, _)| name)
}

fn place(key: &Key, root: &str) -> Place {
    match key.table() {
        table if table == root => Place::Trail,
        table if table == MONTH || table == format!("{root}_default") => Place::Partition,
        _ if key.kind == "grant" && !key.relation.starts_with("TABLE ") => Place::None,
        "" => Place::None,
        _ => Place::Other,
    }
}

fn compare<'a>(expected: &'a Objects, actual: &'a Objects, mut report: impl FnMut(Single<'a>)) {
    static NOTHING: Attributes = Attributes::new();
    let is_table = |key: &Key| key.kind == "table";
    let owns_others = |key: &Key| is_table(key) || key.kind == "function";
    // A missing or unexpected table or function is reported alone, without its columns and rights.
    let missing = expected.keys().filter(|key| !actual.contains_key(key));
    let unexpected = actual.keys().filter(|key| !expected.contains_key(key));
    let one_sided: BTreeSet<String> = missing
        .chain(unexpected)
        .filter(|key| owns_others(key))
        .map(|key| {
            if is_table(key) {
                key.relation.clone()
            } else {
                format!("FUNCTION {}", key.name)
            }
        })
        .collect();
    let keys: BTreeSet<&Key> = expected.keys().chain(actual.keys()).collect();
    for key in keys {
        if !is_table(key) && one_sided.contains(key.table()) {
            continue;
        }
        let (wanted, found) = (expected.get(key), actual.get(key));
        let wanted_or_none = wanted.unwrap_or(&NOTHING);
        let object = found.unwrap_or(&NOTHING);
        let mut single = |attribute: &'a str| {
            let (expected, found) = (wanted_or_none.get(attribute), object.get(attribute));
            if expected != found {
                report(Single {
                    key,
                    attribute,
                    expected: expected.map(String::as_str),
                    found: found.map(String::as_str),
                    object: if object.is_empty() { wanted_or_none } else { object },
                    place: Place::None,
                    overloads: false,
                });
            }
        };
        if (wanted.is_none() || found.is_none()) && !SEPARATE.contains(&key.kind.as_str()) {
            single("");
            continue;
        }
        let attributes: BTreeSet<&String> = wanted_or_none.keys().chain(object.keys()).collect();
        for attribute in attributes {
            single(attribute);
        }
    }
}

fn group(single: &Single, judgement: Judgement) -> Difference {
    let mut object = single.object.clone();
    // A clone in a partition differs only in this.
    object.remove("cloned");
    // A partition has the order of its columns from audit_logs.
    object.remove("position");
    Difference {
        code: judgement.code,
        severity: judgement.severity,
        consequence: judgement.consequence,
        kind: single.key.kind.clone(),
        name: single
            .key
            .name
            .strip_prefix("of ")
            .unwrap_or(&single.key.name)
            .replace(&format!("{MONTH}_"), "@table@_"),
        attribute: single.attribute.to_owned(),
        expected: single.expected.map(str::to_owned),
        found: single.found.map(str::to_owned),
        object: if single.attribute.is_empty() {
            object
        } else {
            Attributes::new()
        },
        other_table: match single.place {
            Place::Other => single.key.table().to_owned(),
            _ => String::new(),
        },
        relations: Vec::new(),
    }
}

/// Merges rights of the same grantee on the same tables into one difference.
fn merge_privileges(differences: Vec<Difference>) -> Vec<Difference> {
    let mut merged: Vec<Difference> = Vec::new();
    for difference in differences {
        let same = merged.iter_mut().find(|other| {
            other.kind == "grant"
                && other.severity == difference.severity
                && other.consequence == difference.consequence
                && (&other.name, &other.relations) == (&difference.name, &difference.relations)
                && (&other.expected, &other.found) == (&difference.expected, &difference.found)
        });
        match same {
            Some(other) if difference.kind == "grant" => {
                other.attribute.push_str("; ");
                other.attribute.push_str(&difference.attribute);
            }
            _ => merged.push(difference),
        }
    }
    merged
}

/// Attributes of a function that only its whole text restores, with all others.
const REPLACED: [&str; 7] = [
    "body",
    "kind of body",
    "language",
    "library",
    "aggregate",
    "arguments",
    "result",
];

/// Merges the differences of a function that is to be replaced.
fn merge_functions(differences: Vec<Difference>) -> Vec<Difference> {
    let is_replaced = |difference: &Difference| {
        difference.kind == "function" && REPLACED.contains(&difference.attribute.as_str())
    };
    let replaced: BTreeSet<String> = differences
        .iter()
        .filter(|difference| is_replaced(difference))
        .map(|difference| difference.name.clone())
        .collect();
    let (mut of_replaced, mut merged): (Vec<_>, Vec<_>) = differences.into_iter().partition(|difference| {
        difference.kind == "function"
            && replaced.contains(&difference.name)
            && difference.code == Code::Functions
            && !["", "owner", "extension"].contains(&difference.attribute.as_str())
    });
    // The body is named first.
    of_replaced.sort_by_key(|difference| !is_replaced(difference));
    let mut functions: BTreeMap<String, Difference> = BTreeMap::new();
    for difference in of_replaced {
        match functions.get_mut(&difference.name) {
            None => {
                functions.insert(difference.name.clone(), difference);
            }
            Some(first) => {
                first.attribute = format!("{}, {}", first.attribute, difference.attribute);
                (first.expected, first.found) = (Some(String::new()), Some("\n".to_owned()));
                if difference.severity > first.severity {
                    (first.severity, first.consequence) = (difference.severity, difference.consequence);
                }
            }
        }
    }
    merged.extend(functions.into_values());
    merged
}
