//! Remedies for tables, columns, constraints and indexes.

use super::super::description::MONTH;
use super::super::difference::{Change, Difference};
use super::super::finding::schema_of;
use super::{Context, create, literal};
use crate::doctor::text::printable_sql;

/// Indexes of audit_logs that the migration 2026-11-29-000005 replaces, on an existing trail step by step.
const REPLACED: [&str; 2] = ["audit_logs_tenant_timeline", "audit_logs_created_at_brin"];

impl Context<'_> {
    pub(super) fn table(&self) -> String {
        let found = self.found();
        match (self.difference.attribute.as_str(), self.difference.change()) {
            ("", Change::Missing) => self.recreate_tables(),
            ("", Change::Unexpected) => self.each(
                "-- look at its rows, then detach it: it must not be the default partition under another name\n\
                 ALTER TABLE @root@ DETACH PARTITION \0",
            ),
            ("", _) => self.each("-- look at its rows, then detach it\nALTER TABLE @root@ DETACH PARTITION \0"),
            ("owner", _) => self.names.with_owner(|owner| self.each(&format!("ALTER TABLE \0 OWNER TO {owner}"))),
            ("persistence", _) => self.each("ALTER TABLE \0 SET LOGGED"),
            ("access method", _) => self.each("ALTER TABLE \0 SET ACCESS METHOD heap"),
            ("tablespace", _) => self.each("ALTER TABLE \0 SET TABLESPACE pg_default"),
            ("options" | "toast options", _) => {
                self.each(&format!("ALTER TABLE \0 RESET ({})", option_names(found)))
            }
            ("replica identity", _) => self.each("ALTER TABLE \0 REPLICA IDENTITY DEFAULT"),
            ("row security", Change::Missing) => self.each("ALTER TABLE \0 ENABLE ROW LEVEL SECURITY"),
            ("row security", _) => self.each("ALTER TABLE \0 DISABLE ROW LEVEL SECURITY"),
            ("forced row security", _) => self.each("ALTER TABLE \0 NO FORCE ROW LEVEL SECURITY"),
            ("detachment", _) => self.each("ALTER TABLE @root@ DETACH PARTITION \0 FINALIZE"),
            ("type", _) => self.each("ALTER TABLE \0 NOT OF"),
            ("partition of", _) => self.each(&format!("ALTER TABLE {found} DETACH PARTITION \0")),
            ("parents", _) => self.each(&format!("ALTER TABLE \0 NO INHERIT {found}")),
            ("extension", _) => self.each(&format!("ALTER EXTENSION {found} DROP TABLE \0")),
            ("rights that the owner lacks", _) => {
                self.names.with_owner(|owner| self.each(&format!("GRANT ALL ON TABLE \0 TO {owner}")))
            }
            ("foreign key triggers", _) => format!(
                "{}\n{}",
                self.each("ALTER TABLE \0 ENABLE TRIGGER ALL"),
                self.always()
            ),
            ("name", _) => match found.split_once(" instead of ") {
                Some((table, name)) if table.ends_with(&format!(".{name}")) => {
                    format!("ALTER TABLE {table} SET SCHEMA {};", self.names.schema)
                }
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
        let alter = |action: &str| self.root_or_each(&format!("ALTER TABLE \0 ALTER COLUMN {name} {action}"));
        match (attribute.as_str(), self.difference.change()) {
            ("", Change::Missing) => self.root_or_each(&format!(
                "-- its values can only come from a backup\nALTER TABLE \0 ADD COLUMN {}",
                create::column(name, &self.difference.object)
            )),
            ("", Change::Unexpected) => self.root_or_each(&format!("ALTER TABLE \0 DROP COLUMN {name}")),
            ("", _) => alter(&format!("TYPE {wanted} USING {name}::{wanted}")),
            ("position", _) => {
                "-- compare its values with a backup or an archive; nothing restores the position".to_owned()
            }
            ("default", _) if wanted.is_empty() => {
                self.each(&format!("ALTER TABLE \0 ALTER COLUMN {name} DROP DEFAULT"))
            }
            ("default", _) => self.each(&format!(
                "ALTER TABLE \0 ALTER COLUMN {name} SET DEFAULT {wanted}"
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
                    "ALTER TABLE \0 ALTER COLUMN {name} SET STORAGE {}",
                    if of_type == "inet" { "MAIN" } else { "EXTENDED" }
                ))
            }
            ("compression", _) => self.each(&format!(
                "ALTER TABLE \0 ALTER COLUMN {name} SET COMPRESSION default"
            )),
            ("statistics", _) => self.each(&format!("ALTER TABLE \0 ALTER COLUMN {name} SET STATISTICS -1")),
            ("options", _) => self.each(&format!(
                "ALTER TABLE \0 ALTER COLUMN {name} RESET ({})",
                option_names(found)
            )),
            _ => String::new(),
        }
    }

    pub(super) fn constraint(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        if attribute == "index" {
            return self.each("REINDEX TABLE \0");
        }
        let drop = format!("ALTER TABLE \0 DROP CONSTRAINT {name}");
        let add = format!("ALTER TABLE \0 ADD CONSTRAINT {name} {}", self.wanted());
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
                let body = index.map(create::index).unwrap_or_default();
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
            // Ended partitions may need it until they have their own.
            ("", Change::Unexpected) if REPLACED.contains(&name.as_str()) => {
                return "-- auditlog partitions ensure drops it once no partition needs it".to_owned();
            }
            ("", Change::Unexpected) => drops().collect(),
            // An index of a partition belongs to that of audit_logs, which must not be dropped for it.
            (attribute, _)
                if !name.starts_with('@') && relations.iter().all(is_part) && self.is_clone(relations) =>
            {
                return self.alter_clones(attribute, relations);
            }
            // PostgreSQL cannot alter the options of the index of a partitioned table.
            ("options" | "tablespace", _) if relations != [self.root()] => {
                let action = self.index_action(attribute).unwrap_or_default();
                let each = relations.iter();
                each.map(|relation| {
                    format!(
                        "ALTER INDEX {}.{} {action};",
                        schema_of(relation),
                        of_table(relation)
                    )
                })
                .collect()
            }
            // An index of audit_logs is not valid while one of a partition is missing.
            ("validity", _) if relations != [self.root()] => return self.each("REINDEX TABLE \0"),
            ("validity", _) => {
                let first =
                    "-- auditlog migrate completes it without blocking writers. Only if that does not help:";
                let first = std::iter::once(first.to_owned());
                first.chain(drops()).chain(creates()).collect()
            }
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
            let body = index.map(create::index).unwrap_or_default();
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

    /// Whether the index of these partitions is one of audit_logs.
    fn is_clone(&self, relations: &[String]) -> bool {
        let name = format!("of {}", self.difference.name);
        let label = relations.first().map_or("", |relation| self.label(relation));
        self.expected
            .keys()
            .any(|key| key.kind == "index" && key.relation == label && key.name == name)
    }

    /// Changes indexes of partitions, which have names of their own.
    fn alter_clones(&self, attribute: &str, relations: &[String]) -> String {
        let Some(action) = self.index_action(attribute) else {
            return self.each("REINDEX TABLE \0");
        };
        let parent = format!("{}.{}", self.names.schema, self.difference.name);
        let each = relations.iter().map(|relation| {
            format!(
                "SELECT pg_catalog.format({}, i.indexrelid::pg_catalog.regclass) FROM pg_catalog.pg_index i \
                 JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.indexrelid WHERE i.indrelid = {}::pg_catalog.regclass \
                 AND h.inhparent = {}::pg_catalog.regclass",
                literal(&format!("ALTER INDEX %s {}", action.replace('%', "%%"))),
                literal(relation),
                literal(&parent)
            )
        });
        let lines: Vec<String> = each.map(|query| in_block(&query)).collect();
        lines.join("\n")
    }

    /// What ALTER INDEX does about an attribute that does not need a new index.
    fn index_action(&self, attribute: &str) -> Option<String> {
        match attribute {
            "options" if self.wanted().is_empty() => Some(format!("RESET ({})", option_names(self.found()))),
            "options" => Some(format!("SET ({})", self.wanted())),
            "tablespace" => Some("SET TABLESPACE pg_default".to_owned()),
            _ => None,
        }
    }

    fn recreate_tables(&self) -> String {
        self.names.with_owner(|owner| {
            let tables = self.difference.relations.iter();
            let lines: Vec<String> = tables
                .map(|relation| create::table(relation, &self.root(), owner, self.expected))
                .collect();
            lines.join("\n")
        })
    }
}

/// Runs the statement that a query returns.
fn in_block(query: &str) -> String {
    // Nothing escapes later what is in dollar quotes.
    let query = printable_sql(query);
    let mut tag = "$do$".to_owned();
    while query.contains(&tag) {
        tag.insert(1, 'x');
    }
    format!("DO {tag}\nBEGIN\n  EXECUTE ({query});\nEND {tag};")
}

/// The names in `a=1, b=2`.
fn option_names(options: &str) -> String {
    let names: Vec<&str> = options
        .split(", ")
        .filter_map(|option| option.split('=').next())
        .collect();
    names.join(", ")
}
