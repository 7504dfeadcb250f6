//! Remedies for tables, columns, constraints and indexes.

use super::super::description::MONTH;
use super::super::difference::{Change, Difference};
use super::super::finding::schema_of;
use super::{Context, create};

impl Context<'_> {
    pub(super) fn table(&self) -> String {
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

    pub(super) fn column(&self) -> String {
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

    pub(super) fn constraint(&self) -> String {
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

    pub(super) fn index(&self) -> String {
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
                return self.attach_indexes(relations);
            }
            ("", Change::Missing) => creates().collect(),
            ("", Change::Unexpected) => drops().collect(),
            // An index of audit_logs is not valid while one of a partition is missing.
            ("validity", _) if relations != [self.root()] => return self.each("REINDEX TABLE $table"),
            _ => drops().chain(creates()).collect(),
        };
        lines.join("\n")
    }

    /// An index of audit_logs, for partitions that lack it.
    fn attach_indexes(&self, relations: &[String]) -> String {
        let name = &self.difference.name;
        let suffix = name.strip_prefix("audit_logs").unwrap_or(name);
        let each = relations.iter().map(|relation| {
            let index = self.expected_in("index", relation, &format!("of {name}"));
            let body = index.and_then(|index| index.get("")).map_or("", String::as_str);
            let schema = schema_of(relation);
            let table = relation.get(schema.len() + 1..).unwrap_or_default();
            format!(
                "CREATE INDEX {table}{suffix} ON {relation} {body};\n\
                 ALTER INDEX {schema}.{name} ATTACH PARTITION {schema}.{table}{suffix};"
            )
        });
        let statements: Vec<String> = each.collect();
        format!(
            "-- CREATE INDEX CONCURRENTLY does not block writers; auditlog migrate does that, too\n{}",
            statements.join("\n")
        )
    }

    fn recreate_tables(&self) -> String {
        let tables = self.difference.relations.iter();
        let lines: Vec<String> = tables
            .map(|relation| create::table(relation, &self.root(), self.expected))
            .collect();
        lines.join("\n")
    }
}

/// The names in `a=1, b=2`.
fn option_names(options: &str) -> String {
    let names: Vec<&str> = options
        .split(", ")
        .filter_map(|option| option.split('=').next())
        .collect();
    names.join(", ")
}
