//! The query for the catalog.

use std::collections::BTreeMap;

use super::description::{Catalog, Key, Months};
use super::names::Names;
use crate::doctor::DoctorError;
use crate::doctor::postgres::session::{Row, Session};

/// Each returns lines: the oid of a month's partition or 0, kind, relation, name, attribute, value.
const PARTS: [&str; 7] = [
    include_str!("sql/tables.sql"),
    include_str!("sql/columns.sql"),
    include_str!("sql/triggers.sql"),
    include_str!("sql/functions.sql"),
    include_str!("sql/grants.sql"),
    include_str!("sql/roles.sql"),
    include_str!("sql/dependents.sql"),
];

const OBJECTS: &str = include_str!("sql/0_objects.sql");
const DEPENDENTS: &str = include_str!("sql/1_dependents.sql");
const LINES: &str = include_str!("sql/2_lines.sql");

/// Since PostgreSQL 15 a publication may name a schema.
const HAS_SCHEMA_PUBLICATIONS: &str = "SELECT to_regclass('pg_catalog.pg_publication_namespace')::text";
const SCHEMA_PUBLICATIONS: &str = "UNION ALL \
     SELECT u.pubname, format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s', u.pubname, trail.schema) \
     FROM trail JOIN pg_publication_namespace r ON r.pnnspid = trail.relnamespace JOIN pg_publication u ON u.oid = r.pnpubid";

/// Queries the catalog. `tables` is a condition for the names of the trail's tables. Returns the server's message if it
/// refuses.
pub(super) async fn catalog(
    session: &Session,
    names: &Names,
    tables: &str,
) -> Result<Result<Catalog, String>, DoctorError> {
    let publications = match session.value(HAS_SCHEMA_PUBLICATIONS).await? {
        Some(_) => SCHEMA_PUBLICATIONS,
        None => "",
    };
    let parts = PARTS.join("\nUNION ALL\n");
    let text = format!(
        "{OBJECTS}\n{DEPENDENTS}\nlines (month, kind, relation, name, attribute, value) AS (\n{parts}\n),\n{LINES}"
    );
    let sql = names.sql(
        &text
            .replace("@tables@", tables)
            .replace("@schema_publications@", publications),
    );
    let rows = session.query_in_savepoint(&sql).await?;
    Ok(rows.map(collect))
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
    for months in &mut catalog.months {
        months.tables.sort();
    }
    catalog
}
