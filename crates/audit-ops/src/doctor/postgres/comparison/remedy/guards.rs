//! Remedies for triggers, policies, rights and functions.

use super::super::description::Key;
use super::super::difference::{Change, Difference};
use super::super::parts::PARTS;
use super::{Context, create, privileges};

impl Context<'_> {
    pub(super) fn trigger(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let drop = format!("DROP TRIGGER IF EXISTS {name} ON \0");
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
                        lines.push(drop.replace("\0", relation) + ";");
                        lines.push(self.wanted().replace("@table@", relation) + ";");
                    }
                }
                lines.push(self.each(&format!("ALTER TABLE \0 ENABLE ALWAYS TRIGGER {name}")));
                lines.join("\n")
            }
            _ => self.each(&format!("ALTER TABLE \0 ENABLE ALWAYS TRIGGER {name}")),
        }
    }

    pub(super) fn policy(&self) -> String {
        let name = &self.difference.name;
        let drop = self.each(&format!("DROP POLICY IF EXISTS {name} ON \0"));
        match self.difference.change() {
            Change::Unexpected => drop,
            _ => format!(
                "{drop}\n{}",
                self.each(&format!("CREATE POLICY {name} ON \0 {}", self.wanted()))
            ),
        }
    }

    pub(super) fn combination(&self) -> String {
        let parts = ["auditor", "maintainer"].map(|part| self.names.role(part));
        let held: Vec<&str> = self.found().split(", ").collect();
        let revoked = parts.into_iter().flatten().filter(|role| held.contains(role));
        let lines: Vec<String> = revoked
            .map(|role| format!("REVOKE {role} FROM {};", self.difference.name))
            .collect();
        lines.join("\n")
    }

    pub(super) fn grant(&self) -> String {
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
        let grant = |one: &String| format!("GRANT {one} ON {table}\0 TO {name}");
        let revoke = |one: &String| format!("REVOKE {one} ON {table}\0 FROM {name} CASCADE");
        let privileges = privileges(&self.difference.attribute);
        if self.difference.change() == Change::Missing {
            return self.lines(privileges.iter().map(grant));
        }
        let relation = self.difference.relations.first().map_or("", String::as_str);
        if name == "PUBLIC" && privileges == ["USAGE"] && relation.starts_with("SCHEMA ") {
            return self.usage_of_public(relation);
        }
        let mut statements: Vec<String> = privileges.iter().map(revoke).collect();
        // A right on the table takes those on its columns with it.
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

    /// The trail's roles need the right themselves before PUBLIC loses it.
    fn usage_of_public(&self, relation: &str) -> String {
        self.names.with_owner(|owner| {
            let roles = PARTS.iter().filter_map(|part| self.names.role(part));
            let roles: Vec<&str> = roles.chain([owner]).collect();
            format!(
                "-- programs that use other objects of this schema need the right, too; better give the trail a schema of its own\n\
                 GRANT USAGE ON {relation} TO {};\nREVOKE USAGE ON {relation} FROM PUBLIC CASCADE;",
                roles.join(", ")
            )
        })
    }

    fn lines(&self, statements: impl Iterator<Item = String>) -> String {
        let lines: Vec<String> = statements.map(|statement| self.each(&statement)).collect();
        lines.join("\n")
    }

    pub(super) fn function(&self) -> String {
        let Difference { name, attribute, .. } = self.difference;
        let key = Key {
            kind: "function".to_owned(),
            relation: String::new(),
            name: name.clone(),
        };
        let wanted = self.expected.get(&key);
        let kind = self.difference.object.get("").map_or("FUNCTION", String::as_str);
        match (attribute.as_str(), wanted) {
            // The list has its dependents, too.
            ("", None) => format!("DROP {kind} {name} CASCADE;"),
            ("owner", Some(_)) => self
                .names
                .with_owner(|owner| format!("ALTER ROUTINE {name} OWNER TO {owner};")),
            ("extension", Some(_)) => format!("ALTER EXTENSION {} DROP ROUTINE {name};", self.found()),
            ("rights that the owner lacks", Some(_)) => self
                .names
                .with_owner(|owner| format!("GRANT EXECUTE ON ROUTINE {name} TO {owner};")),
            // Without its owner it would run with the rights of the role that creates it.
            ("", Some(wanted)) => self.names.with_owner(|owner| {
                let mut lines = vec![create::function(name, &self.names.schema, wanted)];
                lines.push(format!("ALTER ROUTINE {name} OWNER TO {owner};"));
                lines.extend(create::grants(&format!("FUNCTION {name}"), self.expected));
                lines.join("\n")
            }),
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
