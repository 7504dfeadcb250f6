//! The queries for the catalog.

use std::collections::BTreeMap;

use super::description::{Catalog, Key, Months, Objects};
use super::names::Names;
use crate::doctor::Code::{self, *};
use crate::doctor::DoctorError;
use crate::doctor::postgres::session::{Refusal, Row, Session};

/// A part of the description. Each is a query of its own, so that a lock that one of them needs does not hide what the
/// others find.
pub(super) struct Part {
    /// Returns lines: the oid of a month's partition or 0, kind, relation, name, attribute, value.
    sql: &'static str,
    /// The kinds of objects that it describes.
    pub(super) kinds: &'static [&'static str],
    /// The checks that need it.
    pub(super) codes: &'static [Code],
}

pub(super) const PARTS: [Part; 8] = [
    Part {
        sql: include_str!("sql/tables.sql"),
        kinds: &["table", "label", "relation"],
        codes: &[Tables, RowSecurity, UnattachedTables],
    },
    Part {
        sql: include_str!("sql/columns.sql"),
        kinds: &["column", "constraint", "index"],
        codes: &[Tables, Indexes],
    },
    Part {
        sql: include_str!("sql/triggers.sql"),
        kinds: &["trigger", "rule"],
        codes: &[Triggers, OtherTriggers],
    },
    Part {
        sql: include_str!("sql/policies.sql"),
        kinds: &["policy"],
        codes: &[RowSecurity],
    },
    Part {
        sql: include_str!("sql/functions.sql"),
        kinds: &["function"],
        codes: &[Functions],
    },
    Part {
        sql: include_str!("sql/grants.sql"),
        kinds: &["grant", "usage", "default privileges"],
        codes: &[Grants],
    },
    Part {
        sql: include_str!("sql/roles.sql"),
        kinds: &[
            "role",
            "member",
            "combination",
            "login",
            "schema",
            "database",
            "setting",
        ],
        codes: &[Roles, Settings],
    },
    Part {
        sql: include_str!("sql/dependents.sql"),
        kinds: &["dependent"],
        codes: &[Dependents],
    },
];

const OBJECTS: &str = include_str!("sql/0_objects.sql");
const DEPENDENTS: &str = include_str!("sql/1_dependents.sql");
const LINES: &str = include_str!("sql/2_lines.sql");

/// Since PostgreSQL 15 a publication may name a schema.
const HAS_SCHEMA_PUBLICATIONS: &str = "SELECT to_regclass('pg_catalog.pg_publication_namespace')::text";
const SCHEMA_PUBLICATIONS: &str = "UNION ALL \
     SELECT u.pubname, format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s', u.pubname, trail.schema) \
     FROM trail JOIN pg_publication_namespace r ON r.pnnspid = trail.relnamespace JOIN pg_publication u ON u.oid = r.pnpubid";

/// What the queries returned.
pub(super) struct Answers {
    pub(super) catalog: Catalog,
    /// The kinds that were described.
    pub(super) kinds: Vec<&'static str>,
    /// The parts that were refused, and why.
    pub(super) refused: Vec<(&'static [Code], Refusal)>,
}

/// Queries the catalog. `tables` is a condition for the names of the trail's tables.
pub(super) async fn catalog(session: &Session, names: &Names, tables: &str) -> Result<Answers, DoctorError> {
    let publications = match session.value(HAS_SCHEMA_PUBLICATIONS).await? {
        Some(_) => SCHEMA_PUBLICATIONS,
        None => "",
    };
    let (mut catalogs, mut kinds, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for part in PARTS {
        let dependents = if part.kinds.contains(&"dependent") {
            DEPENDENTS
        } else {
            ""
        };
        let text = format!(
            "{OBJECTS}\n{dependents}\nlines (month, kind, relation, name, attribute, value) AS (\n{}\n),\n{LINES}",
            part.sql
        );
        let sql = text
            .replace("@tables@", tables)
            .replace("@schema_publications@", publications);
        match session.query_in_savepoint(&names.sql(&sql)).await? {
            Ok(rows) => {
                catalogs.push(collect(rows));
                kinds.extend(part.kinds);
            }
            Err(reason) => refused.push((part.codes, reason)),
        }
    }
    Ok(Answers {
        catalog: merge(catalogs),
        kinds,
        refused,
    })
}

fn collect(rows: Vec<Row>) -> Catalog {
    let mut catalog = Catalog::default();
    let mut months: BTreeMap<String, Months> = BTreeMap::new();
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let Ok([month, kind, relation, name, attribute, value]) = <[String; 6]>::try_from(cells) else {
            continue;
        };
        if kind == "months" {
            months.entry(month).or_default().tables.push(name);
            continue;
        }
        let objects = if month == "0" {
            &mut catalog.objects
        } else {
            &mut months.entry(month).or_default().objects
        };
        let key = Key { kind, relation, name };
        objects.entry(key).or_default().insert(attribute, value);
    }
    catalog.months = months.into_values().collect();
    catalog
}

/// Puts the parts together: partitions that have the same description in all of them have one description.
fn merge(catalogs: Vec<Catalog>) -> Catalog {
    let (mut objects, mut classes) = (Objects::new(), Vec::new());
    let mut classes_of: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for catalog in catalogs {
        objects.extend(catalog.objects);
        for months in catalog.months {
            for table in months.tables {
                classes_of.entry(table).or_default().push(classes.len());
            }
            classes.push(months.objects);
        }
    }
    let mut tables_of: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
    for (table, classes) in classes_of {
        tables_of.entry(classes).or_default().push(table);
    }
    let months = tables_of.into_iter().map(|(of, tables)| Months {
        tables,
        objects: of.into_iter().flat_map(|class| classes[class].clone()).collect(),
    });
    Catalog {
        objects,
        months: months.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_month(kind: &str, value: &str) -> Objects {
        let key = Key {
            kind: kind.to_owned(),
            relation: "@month@".to_owned(),
            name: String::new(),
        };
        [(key, [(String::new(), value.to_owned())].into())].into()
    }

    #[test]
    fn months_that_differ_in_one_part_have_descriptions_of_their_own() {
        let tables = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let first = Catalog {
            objects: Objects::new(),
            months: vec![Months {
                tables: tables(&["a", "b", "c"]),
                objects: of_month("table", "t"),
            }],
        };
        let second = Catalog {
            objects: Objects::new(),
            months: vec![
                Months {
                    tables: tables(&["a", "c"]),
                    objects: of_month("column", "x"),
                },
                Months {
                    tables: tables(&["b"]),
                    objects: of_month("column", "y"),
                },
            ],
        };
        let merged = merge(vec![first, second]).months;
        let all: Vec<_> = merged
            .iter()
            .map(|months| (months.tables.join(" "), months.objects.len()))
            .collect();
        assert_eq!(all, [("a c".to_owned(), 2), ("b".to_owned(), 2)]);
    }
}
