//! SQL that undoes a difference. All names were quoted and qualified by the server.

mod create;
mod guards;
mod tables;

use super::description::{Attributes, Key, MONTH, Objects};
use super::difference::Difference;
use super::names::Names;
use crate::is_harmful;

/// More tables than these are handled in a loop.
const SINGLE: usize = 3;

/// The SQL, with lines that begin with `--` as comments; empty if there is nothing to do.
pub(super) fn of(difference: &Difference, expected: &Objects, names: &Names) -> String {
    let context = Context {
        difference,
        expected,
        names,
    };
    match difference.kind.as_str() {
        "table" => context.table(),
        "column" => context.column(),
        "constraint" => context.constraint(),
        "index" => context.index(),
        "trigger" => context.trigger(),
        "rule" => context.each(&format!("DROP RULE {} ON \0", difference.name)),
        "policy" => context.policy(),
        "function" => context.function(),
        "grant" => context.grant(),
        "usage" => context.each(&format!("GRANT USAGE ON SCHEMA \0 TO {}", difference.name)),
        "default privileges" => context.each(&format!(
            "ALTER DEFAULT PRIVILEGES \0 REVOKE ALL ON {} FROM {}",
            difference.attribute, difference.name
        )),
        "role" if difference.attribute == "SUPERUSER" && context.found() == "the first superuser" => {
            "-- another role without SUPERUSER can own the trail: REASSIGN OWNED BY".to_owned()
        }
        "role" => format!("ALTER ROLE {} NO{};", difference.name, difference.attribute),
        "member" => format!("{};", difference.object.get("remove").map_or("", String::as_str)),
        "combination" => context.combination(),
        "schema" => names.with_owner(|owner| format!("ALTER SCHEMA {} OWNER TO {owner};", difference.name)),
        "setting" => context.each(&format!("ALTER \0 RESET {}", difference.name)),
        "database" => {
            names.with_owner(|owner| format!("ALTER DATABASE {} OWNER TO {owner};", difference.name))
        }
        "login" if difference.relations == ["predefined"] => {
            format!(
                "REVOKE {} FROM {} CASCADE;",
                difference.attribute, difference.name
            )
        }
        "login" => format!("ALTER ROLE {} NO{};", difference.name, difference.attribute),
        "dependent" => format!("{};", difference.object.get("remove").map_or("", String::as_str)),
        "relation" => format!(
            "-- attach it to audit_logs; or look at its content, then:\nDROP {} {};",
            context.found().to_uppercase(),
            difference.name
        ),
        "label" => format!(
            "SECURITY LABEL FOR {} ON {} IS NULL;",
            difference.attribute, difference.name
        ),
        _ => String::new(),
    }
}

struct Context<'a> {
    difference: &'a Difference,
    expected: &'a Objects,
    names: &'a Names,
}

impl Context<'_> {
    fn found(&self) -> &str {
        self.difference.found.as_deref().unwrap_or_default()
    }

    fn wanted(&self) -> &str {
        self.difference.expected.as_deref().unwrap_or_default()
    }

    fn root(&self) -> String {
        format!("{}.audit_logs", self.names.schema)
    }

    /// The expected objects of a table have the label of a month's partition, or its own name.
    fn label<'b>(&self, relation: &'b str) -> &'b str {
        let key = Key {
            kind: "table".to_owned(),
            relation: relation.to_owned(),
            name: String::new(),
        };
        if self.expected.contains_key(&key) {
            relation
        } else {
            MONTH
        }
    }

    /// What is expected of the object in this table.
    fn expected_in(&self, kind: &str, relation: &str, name: &str) -> Option<&Attributes> {
        let label = self.label(relation);
        let key = |name: String| Key {
            kind: kind.to_owned(),
            relation: label.to_owned(),
            name,
        };
        let own = self.expected.get(&key(name.to_owned()));
        own.or_else(|| self.expected.get(&key(format!("of {name}"))))
    }

    /// The statement for each table that differs. NUL, which no name contains, is replaced by its name.
    fn each(&self, statement: &str) -> String {
        for_each(&self.difference.relations, statement)
    }

    /// The statement for audit_logs alone if it differs, because its partitions follow; otherwise for each table.
    fn root_or_each(&self, statement: &str) -> String {
        match self.difference.relations.first() {
            Some(first) if *first == self.root() => for_each(&self.difference.relations[..1], statement),
            _ => self.each(statement),
        }
    }
}

/// Privileges as GRANT takes them: those on columns, each on its own, become lists.
fn privileges(text: &str) -> Vec<String> {
    let mut lists: Vec<(String, Vec<String>)> = Vec::new();
    for one in text.split("; ") {
        let (privilege, column) = match one.split_once(" (") {
            Some((privilege, column)) => (privilege, column.strip_suffix(')')),
            None => (one, None),
        };
        let columns: Vec<String> = column.map(str::to_owned).into_iter().collect();
        match lists
            .iter_mut()
            .find(|(name, others)| name == privilege && others.is_empty() == columns.is_empty())
        {
            Some((_, others)) => others.extend(columns),
            None => lists.push((privilege.to_owned(), columns)),
        }
    }
    let joined = lists
        .into_iter()
        .map(|(privilege, columns)| match columns.as_slice() {
            [] => privilege,
            columns => format!("{privilege} ({})", columns.join(", ")),
        });
    joined.collect()
}

/// The statement for each table, in a loop if there are many.
fn for_each(relations: &[String], statement: &str) -> String {
    // A name with a dollar sign could end the loop's text, and one with a percent sign its format.
    let special = |text: &str| text.contains(['$', '%']) || text.contains(is_harmful);
    let in_loop = relations.len() > SINGLE
        && !relations.iter().any(|relation| special(relation))
        && !special(&statement.replace("\0", ""));
    if !in_loop {
        let lines: Vec<String> = relations
            .iter()
            .map(|relation| statement.replace("\0", relation) + ";")
            .collect();
        return lines.join("\n");
    }
    let names: Vec<String> = relations.iter().map(|relation| literal(relation)).collect();
    let statement = literal(&statement.replace("\0", "%1$s"));
    format!(
        "DO $do$\nDECLARE part text;\nBEGIN\n  FOREACH part IN ARRAY ARRAY[\n    {}\n  ]::text[] LOOP\n    \
         EXECUTE pg_catalog.format({statement}, part);\n  END LOOP;\nEND $do$;",
        names.join(",\n    ")
    )
}

/// A text as an SQL literal, whatever standard_conforming_strings is.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_on_columns_become_one_list() {
        assert_eq!(
            privileges("INSERT (a); INSERT (\"b c\"); SELECT; UPDATE (a)"),
            ["INSERT (a, \"b c\")", "SELECT", "UPDATE (a)"]
        );
    }

    #[test]
    fn a_few_tables_have_a_statement_each_and_many_a_loop() {
        let tables: Vec<String> = (1..=4).map(|n| format!("public.t{n}")).collect();
        assert_eq!(
            for_each(&tables[..2], "ALTER TABLE \0 NOT OF"),
            "ALTER TABLE public.t1 NOT OF;\nALTER TABLE public.t2 NOT OF;"
        );
        let looped = for_each(&tables, "ALTER TABLE \0 ALTER COLUMN a SET DEFAULT 'x'");
        assert!(
            looped.starts_with("DO $do$") && looped.contains("'public.t4'"),
            "{looped}"
        );
        assert!(
            looped.contains("'ALTER TABLE %1$s ALTER COLUMN a SET DEFAULT ''x'''"),
            "{looped}"
        );
        let odd = ["a", "b", "c", "\"$do$\""].map(str::to_owned);
        assert!(!for_each(&odd, "DROP TABLE \0").contains("EXECUTE"));
    }

    #[test]
    fn a_literal_survives_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
