//! The description of a catalog: objects with their attributes, and its form as a text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::names::Names;

/// What identifies an object: its kind, the table or other object that it belongs to, and its name. All names are
/// quoted and qualified by the server. Partitions of months have the name [`MONTH`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: String,
    pub(super) relation: String,
    pub(super) name: String,
}

/// An object's attributes. One with its usual value is absent.
pub(super) type Attributes = BTreeMap<String, String>;

/// Objects and their attributes.
pub(super) type Objects = BTreeMap<Key, Attributes>;

/// The name of a month's partition in a description.
pub(super) const MONTH: &str = "@month@";

/// Partitions that have the same description.
#[derive(Debug, Default)]
pub(super) struct Months {
    pub(super) tables: Vec<String>,
    pub(super) objects: Objects,
}

/// The catalog of a database.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Everything but the partitions of months.
    pub(super) objects: Objects,
    pub(super) months: Vec<Months>,
}

impl Key {
    /// The table that the object is or belongs to; empty if there is none.
    pub(super) fn table(&self) -> &str {
        self.relation.strip_prefix("TABLE ").unwrap_or(&self.relation)
    }

    pub(super) fn of_month(&self) -> bool {
        self.table() == MONTH
    }
}

/// Reads a description. A line is kind, relation, name, attribute and value, separated by tabs. Further lines of a
/// value begin with a vertical bar.
pub(super) fn parse(text: &str) -> Objects {
    let mut objects = Objects::new();
    let mut current: Option<(Key, String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix('|'), &mut current) {
            (Some(further), Some((_, _, value))) => {
                value.push('\n');
                value.push_str(further);
            }
            _ => {
                let begun = fields(line);
                insert(&mut objects, std::mem::replace(&mut current, begun));
            }
        }
    }
    insert(&mut objects, current);
    objects
}

fn fields(line: &str) -> Option<(Key, String, String)> {
    let mut fields = line.splitn(5, '\t').map(str::to_owned);
    let key = Key {
        kind: fields.next()?,
        relation: fields.next()?,
        name: fields.next()?,
    };
    Some((key, fields.next()?, fields.next()?))
}

fn insert(objects: &mut Objects, line: Option<(Key, String, String)>) {
    if let Some((key, attribute, value)) = line {
        objects.entry(key).or_default().insert(attribute, value);
    }
}

/// Writes a description. Names of schema and roles are replaced by placeholders.
pub(super) fn format(catalog: &Catalog, names: &Names) -> String {
    let mut text = String::from("# Generated from the migrations by `just catalog`.\n");
    let months = catalog.months.iter().flat_map(|months| &months.objects);
    let all: BTreeMap<_, _> = catalog.objects.iter().chain(months).collect();
    for (key, attributes) in all {
        for (attribute, value) in attributes {
            let value = value.replace('\n', "\n|");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{attribute}\t{value}",
                key.kind, key.relation, key.name
            );
        }
    }
    names.replace(&text)
}

/// A condition that selects the described tables by their names.
pub(super) fn table_condition(expected: &Objects) -> String {
    let prefix = "@schema@.";
    let tables = expected.keys().filter(|key| key.kind == "table");
    let names: Vec<String> = tables
        .filter_map(|key| key.relation.strip_prefix(prefix))
        .map(|name| format!("'{name}'"))
        .collect();
    format!("c.relname IN ({})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_with_values_of_several_lines() {
        let text = "# comment\nfunction\t\tf()\tbody\tBEGIN\n|  x;\n|\n|END\nfunction\t\tf()\towner\ta\tb\n";
        let objects = parse(text);
        assert_eq!(objects.len(), 1, "{objects:?}");
        let attributes = objects.values().next().unwrap();
        assert_eq!(attributes["body"], "BEGIN\n  x;\n\nEND");
        assert_eq!(attributes["owner"], "a\tb");
    }

    #[test]
    fn every_table_of_the_trail_is_described() {
        let condition = table_condition(&super::super::EXPECTED);
        for table in [
            "audit_logs",
            "audit_logs_default",
            "audit_roles",
            "audit_legal_holds",
        ] {
            assert!(condition.contains(&format!("'{table}'")), "{condition}");
        }
    }
}
