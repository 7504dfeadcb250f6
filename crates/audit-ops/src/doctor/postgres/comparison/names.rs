//! The names that differ between databases: of the trail's schema, its owner and its roles.

use super::description::{Key, MONTH, Objects, table_condition};
use super::parts::{self, PARTS};
use super::remedy::literal;
use crate::doctor::postgres::session::Session;
use crate::doctor::{DoctorError, Finding};

/// Finds the table by the user's search_path.
const TRAIL: &str = "SELECT c.oid::text, pg_catalog.quote_ident(n.nspname) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass('audit_logs')";

/// The owner of audit_logs. Other objects do not decide: anybody who may create some could outnumber the trail's.
const OWNER: &str = "SELECT o.oid::text, quote_ident(o.rolname) FROM pg_roles o JOIN pg_class c ON c.relowner = o.oid WHERE c.oid = @trail@";

/// Whether most of the objects that are expected beside the months belong to others than audit_logs does. Functions of
/// other names do not count, nor do the months, which are many.
const BELONGS_TO_OTHERS: &str = "WITH expected (name) AS (VALUES @expected@), \
     owned AS ( \
         SELECT oid::regclass::text AS name, relowner AS owner, relnamespace AS schema FROM pg_class WHERE relkind IN ('r', 'p') \
         UNION ALL \
         SELECT oid::regprocedure::text, proowner, pronamespace FROM pg_proc) \
     SELECT (2 * count(*) > (SELECT count(*) FROM expected))::text \
     FROM pg_class t JOIN owned o ON o.schema = t.relnamespace AND o.owner <> t.relowner JOIN expected e ON e.name = o.name \
     WHERE t.oid = @trail@";

/// The oids of the trail's tables.
const TABLES_OF_TRAIL: &str = "SELECT @trail@ AS oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = @trail@ \
     UNION ALL \
     SELECT c.oid FROM pg_class c JOIN pg_class trail ON trail.relnamespace = c.relnamespace \
     WHERE trail.oid = @trail@ AND c.relkind IN ('r', 'p') AND @tables@";

/// What a remedy says instead of the name of an owner.
const UNCLEAR: &str = "-- audit_logs may belong to another role than most of the trail: find out whose it is, and give all of it to that role";

/// Whether the owner of audit_logs is the owner of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Clear,
    /// audit_logs may have been given away. No remedy must give its new owner the rest.
    Unclear,
}

/// The trail's identity in one database. Names are quoted by the server.
pub(in crate::doctor::postgres) struct Names {
    trail: String,
    pub(super) schema: String,
    owner_oid: String,
    owner: String,
    ownership: Ownership,
    /// Part, oid, name.
    roles: Vec<[String; 3]>,
    /// What is wrong with the roles themselves.
    pub(in crate::doctor::postgres) role_findings: Vec<Finding>,
}

impl Names {
    /// Looks for the table. From here on the transaction's search_path is pg_catalog alone. Returns none if there is no
    /// table.
    pub(in crate::doctor::postgres) async fn query(session: &Session) -> Result<Option<Self>, DoctorError> {
        let Some([trail, schema]) = first(session.rows(TRAIL).await?) else {
            return Ok(None);
        };
        session
            .execute("SET LOCAL search_path = pg_catalog, pg_temp")
            .await?;
        let mut names = Self {
            trail,
            schema,
            owner_oid: String::new(),
            owner: String::new(),
            ownership: Ownership::Unclear,
            roles: Vec::new(),
            role_findings: Vec::new(),
        };
        if let Some([oid, name]) = first(session.rows(&names.sql(OWNER)).await?) {
            (names.owner_oid, names.owner) = (oid, name);
        }
        names.ownership = names.query_ownership(session).await?;
        (names.roles, names.role_findings) = parts::query(session, &names, &super::EXPECTED).await?;
        Ok(Some(names))
    }

    /// If the server refuses the query, it is unclear.
    async fn query_ownership(&self, session: &Session) -> Result<Ownership, DoctorError> {
        let sql = self.sql_with(BELONGS_TO_OTHERS, &[("@expected@", self.expected())]);
        let rows = session.query_in_savepoint(&sql).await?.unwrap_or_default();
        Ok(match first(rows) {
            Some([of_others]) if of_others == "false" => Ownership::Clear,
            _ => Ownership::Unclear,
        })
    }

    /// The tables and functions that are expected, without months, as rows of SQL.
    fn expected(&self) -> String {
        let objects = super::EXPECTED.keys().filter_map(|key| match key.kind.as_str() {
            "table" if key.relation != MONTH => Some(&key.relation),
            "function" => Some(&key.name),
            _ => None,
        });
        let rows = objects.map(|name| format!("({})", literal(&self.put(name))));
        rows.collect::<Vec<_>>().join(", ")
    }

    /// The remedy that names the trail's owner; if it is unclear who that is, a comment that says so.
    pub(super) fn with_owner(&self, remedy: impl FnOnce(&str) -> String) -> String {
        match self.ownership {
            Ownership::Clear => remedy(&self.owner),
            Ownership::Unclear => UNCLEAR.to_owned(),
        }
    }

    /// Completes a query: `@trail@` is the oid of audit_logs, `@owner@` that of its owner, `@schema@` the quoted name
    /// of its schema, `@roles@` the oids of the roles with their parts. `@known_owner@` is a literal of the owner's quoted
    /// name, or NULL if it is unclear; then `@unclear@` is a remedy. `@tables_of_trail@` is a query for the oids of the
    /// trail's tables, `@tables@` a condition for the names of those that are no partitions of months.
    pub(in crate::doctor::postgres) fn sql(&self, text: &str) -> String {
        self.sql_with(text, &[])
    }

    /// The same with further placeholders.
    pub(super) fn sql_with(&self, text: &str, more: &[(&'static str, String)]) -> String {
        let owner = [self.owner_oid.as_str(), "owner"];
        let roles = self.roles.iter().map(|[part, oid, _]| [oid.as_str(), part]);
        let known: Vec<String> = std::iter::once(owner)
            .chain(roles)
            .map(|[oid, part]| format!("({oid}::oid, '{part}')"))
            .collect();
        let known_owner = match self.ownership {
            Ownership::Clear => literal(&self.owner),
            Ownership::Unclear => "NULL".to_owned(),
        };
        let mut placeholders = vec![
            ("@trail@", format!("{}::oid", self.trail)),
            ("@owner@", self.owner_oid.clone()),
            ("@known_owner@", known_owner),
            ("@unclear@", literal(UNCLEAR)),
            ("@roles@", known.join(", ")),
            ("@schema@", self.schema.clone()),
            ("@tables@", table_condition(&super::EXPECTED)),
        ];
        placeholders.extend_from_slice(more);
        fill_in(&text.replace("@tables_of_trail@", TABLES_OF_TRAIL), &placeholders)
    }

    /// Puts the names into a description. Objects of a role that does not exist are left out.
    pub(super) fn fill(&self, objects: &Objects) -> Objects {
        let unknown: Vec<String> = PARTS
            .iter()
            .filter(|part| self.role(part).is_none())
            .map(|part| format!("@{part}@"))
            .collect();
        let is_unknown = |text: &String| unknown.iter().any(|role| text.contains(role));
        let known = objects
            .iter()
            .filter(|(key, attributes)| !is_unknown(&key.name) && !attributes.values().any(is_unknown));
        let filled = known.map(|(key, attributes)| {
            let key = Key {
                kind: key.kind.clone(),
                relation: self.put(&key.relation),
                name: self.put(&key.name),
            };
            let attributes = attributes
                .iter()
                .map(|(attribute, value)| (attribute.clone(), self.put(value)));
            (key, attributes.collect())
        });
        filled.collect()
    }

    /// Replaces the placeholders of a description.
    pub(super) fn put(&self, text: &str) -> String {
        fill_in(text, &self.placeholders())
    }

    /// Replaces the names by the placeholders.
    pub(super) fn replace(&self, text: &str) -> String {
        self.placeholders()
            .iter()
            .fold(text.to_owned(), |text, (placeholder, name)| {
                text.replace(name, placeholder)
            })
    }

    fn placeholders(&self) -> Vec<(String, String)> {
        let fixed = [
            ("@schema@".to_owned(), self.schema.clone()),
            ("@owner@".to_owned(), self.owner.clone()),
        ];
        let roles = self
            .roles
            .iter()
            .map(|[part, _, name]| (format!("@{part}@"), name.clone()));
        fixed.into_iter().chain(roles).collect()
    }

    /// The quoted name of the role with this part.
    pub(super) fn role(&self, part: &str) -> Option<&str> {
        let role = self.roles.iter().find(|[of, _, _]| of == part)?;
        Some(&role[2])
    }
}

#[cfg(test)]
impl Names {
    /// Names for tests.
    pub(super) fn of(schema: &str, owner: &str, roles: &[(&str, &str)]) -> Self {
        let role = |(part, name): &(&str, &str)| [(*part).to_owned(), "1".to_owned(), (*name).to_owned()];
        Self {
            trail: "1".to_owned(),
            schema: schema.to_owned(),
            owner_oid: "1".to_owned(),
            owner: owner.to_owned(),
            ownership: Ownership::Clear,
            roles: roles.iter().map(role).collect(),
            role_findings: Vec::new(),
        }
    }
}

/// Replaces placeholders in one pass: a name that replaces one may look like another.
fn fill_in(text: &str, placeholders: &[(impl AsRef<str>, String)]) -> String {
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('@') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = placeholders
            .iter()
            .find(|(placeholder, _)| rest.starts_with(placeholder.as_ref()));
        let (placeholder, name) =
            found.map_or(("@", "@"), |(placeholder, name)| (placeholder.as_ref(), name));
        filled.push_str(name);
        rest = &rest[placeholder.len()..];
    }
    filled + rest
}

fn first<const N: usize>(rows: Vec<Vec<Option<String>>>) -> Option<[String; N]> {
    rows.into_iter().next().and_then(cells)
}

fn cells<const N: usize>(row: Vec<Option<String>>) -> Option<[String; N]> {
    let cells: Vec<String> = row.into_iter().collect::<Option<_>>()?;
    cells.try_into().ok()
}
