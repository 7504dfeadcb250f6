//! SQL that undoes a difference. All names were quoted and qualified by the server.

mod create;

use super::description::{Attributes, Key, MONTH, Objects};
use super::difference::{Change, Difference};
use super::finding::schema_of;
use super::names::Names;

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
        "rule" => context.each(&format!("DROP RULE {} ON $table", difference.name)),
        "policy" => context.policy(),
        "function" => context.function(),
        "grant" => context.grant(),
        "usage" => context.each(&format!("GRANT USAGE ON SCHEMA $table TO {}", difference.name)),
        "default privileges" => context.each(&format!(
            "ALTER DEFAULT PRIVILEGES $table REVOKE ALL ON {} FROM {}",
            difference.attribute, difference.name
        )),
        "role" if difference.attribute == "SUPERUSER" && context.found() == "the first superuser" => {
            "-- another role without SUPERUSER can own the trail: REASSIGN OWNED BY".to_owned()
        }
        "role" => format!("ALTER ROLE {} NO{};", difference.name, difference.attribute),
        "member" => format!("{};", difference.object.get("remove").map_or("", String::as_str)),
        "combination" => context.combination(),
        "schema" => format!("ALTER SCHEMA {} OWNER TO {};", difference.name, names.owner),
        "setting" => context.each(&format!("ALTER $table RESET {}", difference.name)),
        "prepared" => format!("ROLLBACK PREPARED {};", difference.name),
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

    /// The statement for each table that differs; `$table` is its name.
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

    fn table(&self) -> String {
        let (found, wanted) = (self.found(), self.wanted());
        match (self.difference.attribute.as_str(), self.difference.change()) {
            ("", Change::Missing) => self.recreate_tables(),
            ("", Change::Unexpected) => self.each(
                "-- look at its rows, then detach it: it must not be the default partition under another name\n\
                 ALTER TABLE @root@ DETACH PARTITION $table",
            ),
            ("", _) => self.each("-- look at its rows, then detach it\nALTER TABLE @root@ DETACH PARTITION $table"),
            ("owner", _) => self.each(&format!("ALTER TABLE $table OWNER TO {wanted}")),
            ("persistence", _) => self.each("ALTER TABLE $table SET LOGGED"),
            ("access method", _) => self.each("ALTER TABLE $table SET ACCESS METHOD heap"),
            ("tablespace", _) => self.each("ALTER TABLE $table SET TABLESPACE pg_default"),
            ("options" | "toast options", _) => {
                self.each(&format!("ALTER TABLE $table RESET ({})", option_names(found)))
            }
            ("replica identity", _) => self.each("ALTER TABLE $table REPLICA IDENTITY DEFAULT"),
            ("row security", Change::Missing) => self.each("ALTER TABLE $table ENABLE ROW LEVEL SECURITY"),
            ("row security", _) => self.each("ALTER TABLE $table DISABLE ROW LEVEL SECURITY"),
            ("forced row security", _) => self.each("ALTER TABLE $table NO FORCE ROW LEVEL SECURITY"),
            ("detachment", _) => self.each("ALTER TABLE @root@ DETACH PARTITION $table FINALIZE"),
            ("type", _) => self.each("ALTER TABLE $table NOT OF"),
            ("parents", _) => self.each(&format!("ALTER TABLE $table NO INHERIT {found}")),
            ("extension", _) => self.each(&format!("ALTER EXTENSION {found} DROP TABLE $table")),
            ("rights that the owner lacks", _) => {
                self.each(&format!("GRANT ALL ON TABLE $table TO {}", self.names.owner))
            }
            ("foreign key triggers", _) => format!(
                "{}\n{}",
                self.each("ALTER TABLE $table ENABLE TRIGGER ALL"),
                self.always()
            ),
            ("name", _) => match found.split_once(" instead of ") {
                Some((table, name)) => format!("ALTER TABLE {table} RENAME TO {name};"),
                None => String::new(),
            },
            ("bounds", _) => "-- as the owner: detach it, create the months with audit_logs_ensure_partitions, and copy its rows"
                .to_owned(),
            _ => String::new(),
        }
        .replace("@root@", &self.root())
    }

    /// Enables every trigger of the tables as expected.
    fn always(&self) -> String {
        let mut statements = Vec::new();
        for relation in &self.difference.relations {
            let label = self.label(relation);
            let triggers = self.expected.iter().filter(|(key, attributes)| {
                key.kind == "trigger"
                    && key.relation == label
                    && attributes
                        .get("enabled")
                        .is_some_and(|enabled| enabled == "always")
            });
            statements.extend(
                triggers
                    .map(|(key, _)| format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {};", key.name)),
            );
        }
        statements.join("\n")
    }

    fn column(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let (found, wanted) = (self.found(), self.wanted());
        let alter =
            |action: &str| self.root_or_each(&format!("ALTER TABLE $table ALTER COLUMN {name} {action}"));
        match (attribute.as_str(), self.difference.change()) {
            ("", Change::Missing) => self.root_or_each(&format!(
                "-- its values can only come from a backup\nALTER TABLE $table ADD COLUMN {}",
                create::column(name, &self.difference.object)
            )),
            ("", Change::Unexpected) => self.root_or_each(&format!("ALTER TABLE $table DROP COLUMN {name}")),
            ("", _) => alter(&format!("TYPE {wanted} USING {name}::{wanted}")),
            ("default", _) if wanted.is_empty() => {
                self.each(&format!("ALTER TABLE $table ALTER COLUMN {name} DROP DEFAULT"))
            }
            ("default", _) => self.each(&format!(
                "ALTER TABLE $table ALTER COLUMN {name} SET DEFAULT {wanted}"
            )),
            ("NOT NULL", _) if wanted.is_empty() => alter("DROP NOT NULL"),
            ("NOT NULL", _) => alter("SET NOT NULL"),
            ("collation", _) => {
                let relation = self.difference.relations.first().map_or("", String::as_str);
                let column = self.expected_in("column", relation, name);
                let of_type = column
                    .and_then(|column| column.get(""))
                    .map_or("text", String::as_str);
                alter(&format!("TYPE {of_type} COLLATE pg_catalog.\"default\""))
            }
            ("generated", _) => alter("DROP EXPRESSION"),
            ("identity", _) => alter("DROP IDENTITY"),
            ("storage", _) => {
                let relation = self.difference.relations.first().map_or("", String::as_str);
                let column = self.expected_in("column", relation, name);
                let of_type = column
                    .and_then(|column| column.get(""))
                    .map_or("", String::as_str);
                // The storage of a type as PostgreSQL defines it.
                self.each(&format!(
                    "ALTER TABLE $table ALTER COLUMN {name} SET STORAGE {}",
                    if of_type == "inet" { "MAIN" } else { "EXTENDED" }
                ))
            }
            ("compression", _) => self.each(&format!(
                "ALTER TABLE $table ALTER COLUMN {name} SET COMPRESSION default"
            )),
            ("statistics", _) => self.each(&format!(
                "ALTER TABLE $table ALTER COLUMN {name} SET STATISTICS -1"
            )),
            ("options", _) => self.each(&format!(
                "ALTER TABLE $table ALTER COLUMN {name} RESET ({})",
                option_names(found)
            )),
            _ => String::new(),
        }
    }

    fn constraint(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        if attribute == "index" {
            return self.each("REINDEX TABLE $table");
        }
        let drop = format!("ALTER TABLE $table DROP CONSTRAINT {name}");
        let add = format!("ALTER TABLE $table ADD CONSTRAINT {name} {}", self.wanted());
        match self.difference.change() {
            Change::Missing => self.root_or_each(&add),
            Change::Unexpected => self.root_or_each(&drop),
            Change::Changed => format!("{}\n{}", self.root_or_each(&drop), self.root_or_each(&add)),
        }
    }

    fn index(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let differs = &self.difference.relations;
        let relations = match differs.first() {
            Some(first) if *first == self.root() => &differs[..1],
            _ => differs.as_slice(),
        };
        // A look-up index has the name of its month.
        let of_table = |relation: &str| {
            let table = relation.get(schema_of(relation).len() + 1..).unwrap_or_default();
            name.replace("@table@", table)
        };
        let drops = || {
            let each = relations.iter();
            each.map(|relation| format!("DROP INDEX {}.{};", schema_of(relation), of_table(relation)))
        };
        let creates = || {
            relations.iter().map(|relation| {
                let described = name.replace("@table@", MONTH);
                let index = self.expected_in("index", relation, &described);
                let body = index.and_then(|index| index.get("")).map_or("", String::as_str);
                format!("CREATE INDEX {} ON {relation} {body};", of_table(relation))
            })
        };
        let is_part = |relation: &String| {
            *relation == format!("{}_default", self.root()) || self.label(relation) == MONTH
        };
        let lines: Vec<String> = match (attribute.as_str(), self.difference.change()) {
            ("", Change::Missing) if !name.starts_with('@') && relations.iter().all(is_part) => {
                return "-- drop the index of audit_logs, which is not valid, and create it again".to_owned();
            }
            ("", Change::Missing) => creates().collect(),
            ("", Change::Unexpected) => drops().collect(),
            // An index of audit_logs is not valid while one of a partition is missing.
            ("validity", _) if relations != [self.root()] => return self.each("REINDEX TABLE $table"),
            _ => drops().chain(creates()).collect(),
        };
        lines.join("\n")
    }

    fn trigger(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let drop = format!("DROP TRIGGER IF EXISTS {name} ON $table");
        match (attribute.as_str(), self.difference.change()) {
            ("", Change::Unexpected) => {
                // A trigger for each row is cloned to the partitions.
                if self.found().contains(" FOR EACH ROW ") {
                    self.root_or_each(&drop)
                } else {
                    self.each(&drop)
                }
            }
            ("", _) => {
                let mut lines = Vec::new();
                for relation in &self.difference.relations {
                    let Some(trigger) = self.expected_in("trigger", relation, name) else {
                        continue;
                    };
                    let is_clone = trigger.contains_key("cloned");
                    if !(is_clone && self.difference.relations.contains(&self.root())) {
                        lines.push(drop.replace("$table", relation) + ";");
                        lines.push(self.wanted().replace("@table@", relation) + ";");
                    }
                }
                lines.push(self.each(&format!("ALTER TABLE $table ENABLE ALWAYS TRIGGER {name}")));
                lines.join("\n")
            }
            _ => self.each(&format!("ALTER TABLE $table ENABLE ALWAYS TRIGGER {name}")),
        }
    }

    fn policy(&self) -> String {
        let name = &self.difference.name;
        let drop = self.each(&format!("DROP POLICY IF EXISTS {name} ON $table"));
        match self.difference.change() {
            Change::Unexpected => drop,
            _ => format!(
                "{drop}\n{}",
                self.each(&format!("CREATE POLICY {name} ON $table {}", self.wanted()))
            ),
        }
    }

    fn combination(&self) -> String {
        let parts = ["auditor", "maintainer"].map(|part| self.names.role(part));
        let held: Vec<&str> = self.found().split(", ").collect();
        let revoked = parts.into_iter().flatten().filter(|role| held.contains(role));
        let lines: Vec<String> = revoked
            .map(|role| format!("REVOKE {role} FROM {};", self.difference.name))
            .collect();
        lines.join("\n")
    }

    fn grant(&self) -> String {
        let name = &self.difference.name;
        let is_no_table = |relation: &String| {
            ["FUNCTION ", "PROCEDURE ", "SCHEMA "]
                .iter()
                .any(|kind| relation.starts_with(kind))
        };
        let table = if self.difference.relations.iter().any(is_no_table) {
            ""
        } else {
            "TABLE "
        };
        let grant = |one: &String| format!("GRANT {one} ON {table}$table TO {name}");
        let revoke = |one: &String| format!("REVOKE {one} ON {table}$table FROM {name} CASCADE");
        let privileges = privileges(&self.difference.attribute);
        if self.difference.change() == Change::Missing {
            return self.lines(privileges.iter().map(grant));
        }
        let mut statements: Vec<String> = privileges.iter().map(revoke).collect();
        // A right on the table takes those on its columns with it.
        let relation = self.difference.relations.first().map_or("", String::as_str);
        let key = Key {
            kind: "grant".to_owned(),
            relation: format!("{table}{relation}"),
            name: name.clone(),
        };
        let kept: Vec<&str> = self
            .expected
            .get(&key)
            .into_iter()
            .flatten()
            .map(|(one, _)| one.as_str())
            .collect();
        let again =
            self.difference.change() == Change::Changed || privileges.iter().any(|one| !one.contains('('));
        if again && !kept.is_empty() {
            statements.extend(self::privileges(&kept.join("; ")).iter().map(grant));
        }
        self.lines(statements.into_iter())
    }

    fn lines(&self, statements: impl Iterator<Item = String>) -> String {
        let lines: Vec<String> = statements.map(|statement| self.each(&statement)).collect();
        lines.join("\n")
    }

    fn recreate_tables(&self) -> String {
        let tables = self.difference.relations.iter();
        let lines: Vec<String> = tables
            .map(|relation| create::table(relation, &self.root(), self.expected))
            .collect();
        lines.join("\n")
    }

    fn function(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let key = Key {
            kind: "function".to_owned(),
            relation: String::new(),
            name: name.clone(),
        };
        let wanted = self.expected.get(&key);
        let kind = self.difference.object.get("").map_or("FUNCTION", String::as_str);
        match (attribute.as_str(), wanted) {
            ("", None) => format!("DROP {kind} {name};"),
            ("owner", Some(_)) => format!("ALTER ROUTINE {name} OWNER TO {};", self.wanted()),
            ("extension", Some(_)) => format!("ALTER EXTENSION {} DROP ROUTINE {name};", self.found()),
            ("rights that the owner lacks", Some(_)) => {
                format!("GRANT EXECUTE ON ROUTINE {name} TO {};", self.names.owner)
            }
            ("", Some(wanted)) => {
                let mut lines = vec![create::function(name, &self.names.schema, wanted)];
                lines.push(format!("ALTER ROUTINE {name} OWNER TO {};", self.names.owner));
                lines.extend(create::grants(&format!("FUNCTION {name}"), self.expected));
                lines.join("\n")
            }
            ("security", Some(_)) if self.wanted().is_empty() => {
                format!("ALTER ROUTINE {name} SECURITY INVOKER;")
            }
            (attribute, Some(_)) if attribute.starts_with("setting ") && !attribute.contains(", ") => {
                match attribute.strip_prefix("setting ") {
                    Some(setting) if self.wanted().is_empty() => {
                        format!("ALTER ROUTINE {name} RESET {setting};")
                    }
                    _ => format!("ALTER ROUTINE {name} {};", self.wanted()),
                }
            }
            // Clauses of ALTER FUNCTION.
            (
                "security" | "volatility" | "strictness" | "parallel" | "leakproof" | "cost" | "rows",
                Some(_),
            ) if !self.wanted().is_empty() => {
                format!("ALTER FUNCTION {name} {};", self.wanted())
            }
            (_, Some(wanted)) => create::function(name, &self.names.schema, wanted),
            (_, None) => String::new(),
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

/// The names in `a=1, b=2`.
fn option_names(options: &str) -> String {
    let names: Vec<&str> = options
        .split(", ")
        .filter_map(|option| option.split('=').next())
        .collect();
    names.join(", ")
}

/// The statement for each table, in a loop if there are many.
fn for_each(relations: &[String], statement: &str) -> String {
    // A name with a dollar sign could end the loop's text, and one with a percent sign its format.
    let special = |text: &str| text.contains(['$', '%', '\n']);
    let in_loop = relations.len() > SINGLE
        && !relations.iter().any(|relation| special(relation))
        && !special(&statement.replace("$table", ""));
    if !in_loop {
        let lines: Vec<String> = relations
            .iter()
            .map(|relation| statement.replace("$table", relation) + ";")
            .collect();
        return lines.join("\n");
    }
    let names: Vec<String> = relations.iter().map(|relation| literal(relation)).collect();
    let statement = literal(&statement.replace("$table", "%1$s"));
    format!(
        "DO $do$\nDECLARE part text;\nBEGIN\n  FOREACH part IN ARRAY ARRAY[\n    {}\n  ]::text[] LOOP\n    \
         EXECUTE pg_catalog.format({statement}, part);\n  END LOOP;\nEND $do$;",
        names.join(",\n    ")
    )
}

/// A text as an SQL literal, whatever standard_conforming_strings is.
fn literal(text: &str) -> String {
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
            for_each(&tables[..2], "ALTER TABLE $table NOT OF"),
            "ALTER TABLE public.t1 NOT OF;\nALTER TABLE public.t2 NOT OF;"
        );
        let looped = for_each(&tables, "ALTER TABLE $table ALTER COLUMN a SET DEFAULT 'x'");
        assert!(
            looped.starts_with("DO $do$") && looped.contains("'public.t4'"),
            "{looped}"
        );
        assert!(
            looped.contains("'ALTER TABLE %1$s ALTER COLUMN a SET DEFAULT ''x'''"),
            "{looped}"
        );
        let odd = ["a", "b", "c", "\"$do$\""].map(str::to_owned);
        assert!(!for_each(&odd, "DROP TABLE $table").contains("EXECUTE"));
    }

    #[test]
    fn a_literal_survives_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
