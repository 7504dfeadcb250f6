//! Differences as findings: sentences, and the names by which an operator allows them.

use super::description::Objects;
use super::difference::{Change, Difference};
use super::names::Names;
use super::remedy;
use crate::doctor::Finding;

/// A longer value is not shown.
const SHOWN: usize = 120;

pub(super) fn of(difference: &Difference, expected: &Objects, names: &Names) -> Finding {
    let mut remedy = remedy::of(difference, expected, names);
    if let [(kind, name), ..] = difference.extras().as_slice() {
        remedy.push_str(&format!(
            "\n-- or, if it is intended, allow it (--allow): {kind} {name}"
        ));
    }
    Finding::new(
        difference.code,
        difference.severity,
        difference.sentence(),
        remedy.trim_start_matches('\n'),
    )
}

impl Difference {
    pub(super) fn change(&self) -> Change {
        match (&self.expected, &self.found) {
            (None, _) => Change::Unexpected,
            (_, None) => Change::Missing,
            _ => Change::Changed,
        }
    }

    /// What was found.
    pub(super) fn sentence(&self) -> String {
        let fact = self.fact();
        match self.consequence {
            "" => fact,
            consequence => format!("{fact}: {consequence}"),
        }
    }

    fn fact(&self) -> String {
        let (name, attribute, relations) = (&self.name, &self.attribute, list(&self.relations));
        let found = self.found.as_deref().unwrap_or_default();
        match (self.kind.as_str(), self.change()) {
            ("grant", Change::Missing) => format!("{name} may not {attribute} on {relations}"),
            ("grant", _) => {
                let option = if found == "yes" { "" } else { ", with grant option" };
                format!("{name} may {attribute} on {relations}{option}")
            }
            ("default privileges", _) => {
                format!("{name} will have {found} on new {attribute} ({relations})")
            }
            ("usage", _) => format!("{name} may not use the schema {relations}"),
            ("role", _) => format!("{name}, the role of the {relations}, has {attribute}"),
            ("member", _) => format!("{name} is a member of {relations}"),
            ("combination", _) => format!("{name} has the roles {found}"),
            ("schema", _) => format!("the owner of the schema {name} is {found}"),
            ("setting", _) => format!("{name} is set to {} for {relations}", shown(found)),
            ("prepared", _) => format!("the prepared transaction {name} ({found}) holds locks on the trail"),
            ("dependent", _) => {
                let readers = self.object.get("reads every tenant for");
                let readers = readers.map(|readers| format!(" ({readers} may read it)"));
                format!(
                    "the {found} {name} depends on the trail{}",
                    readers.unwrap_or_default()
                )
            }
            ("relation", _) => format!("the {found} {name} is not attached to audit_logs"),
            ("label", _) => format!("{attribute} labels the {name}: {}", shown(found)),
            (kind, Change::Missing) if attribute.is_empty() => format!("{} is missing", self.subject(kind)),
            (kind, Change::Unexpected) if attribute.is_empty() => {
                format!(
                    "{} is not part of the trail ({})",
                    self.subject(kind),
                    shown(found)
                )
            }
            (kind, _) => self.changed(&self.subject(kind)),
        }
    }

    fn changed(&self, subject: &str) -> String {
        let attribute = match self.attribute.as_str() {
            "" => "definition",
            attribute => attribute,
        };
        let (expected, found) = (self.expected.as_deref(), self.found.as_deref());
        match (attribute, expected.map(shown), found.map(shown)) {
            ("rights that the owner lacks", _, Some(rights)) => {
                format!("the owner has no {rights} on {subject}")
            }
            ("extension", _, Some(extension)) => format!("{subject} belongs to the extension {extension}"),
            ("name", _, Some(name)) => format!("a partition has the name {name}"),
            ("row security", Some(_), None) => format!("row security is off for {subject}"),
            ("row security", None, _) => format!("row security is on for {subject}"),
            ("forced row security", ..) => format!("row security is forced for {subject}"),
            ("enabled" | "persistence" | "validity", _, Some(found)) => format!("{subject} is {found}"),
            // The values are clauses.
            (_, Some(clause), None) if self.kind == "function" => format!("{subject} lacks {clause}"),
            (_, None, Some(clause)) if self.kind == "function" => format!("{subject} has {clause}"),
            (_, Some("yes"), None) => format!("{subject} has no {attribute}"),
            (_, Some(expected), None) => format!("{subject} has no {attribute} ({expected})"),
            (_, None, Some("yes")) => format!("{subject} has {attribute}"),
            (_, None, Some(found)) => format!("{subject} has the {attribute} {found}"),
            (_, Some("…"), _) | (_, _, Some("…")) => format!("the {attribute} of {subject} was changed"),
            (_, expected, found) => format!(
                "the {attribute} of {subject} is {} instead of {}",
                found.unwrap_or_default(),
                expected.unwrap_or_default()
            ),
        }
    }

    fn subject(&self, kind: &str) -> String {
        let relations = list(&self.relations);
        match kind {
            "table" => relations,
            "function" => format!("the function {}", self.name),
            kind => format!(
                "the {kind} {} on {relations}",
                self.name.replace("@table@_", "…_")
            ),
        }
    }

    /// Kind and name by which an operator allows it. Only an addition can be allowed.
    pub(super) fn extras(&self) -> Vec<(String, String)> {
        if self.change() != Change::Unexpected {
            return Vec::new();
        }
        let one = |kind: &str, name: &str| vec![(kind.replace(' ', "-"), name.to_owned())];
        let found = self.found.as_deref().unwrap_or_default();
        match (self.kind.as_str(), self.attribute.as_str()) {
            ("grant" | "default privileges" | "member" | "combination", _) => one("role", &self.name),
            ("setting", _) => one("setting", &self.name),
            ("dependent" | "relation", _) => one(found, &self.name),
            ("function", "") => one("function", &self.name),
            ("table", "name") => one(
                "partition",
                found.split(" instead of ").next().unwrap_or_default(),
            ),
            ("index", "") if !self.name.starts_with('@') => {
                let table = self.relations.first().map_or("", String::as_str);
                one("index", &format!("{}.{}", schema_of(table), self.name))
            }
            ("column" | "constraint" | "index" | "trigger" | "rule" | "policy", "") => {
                let table = self.relations.first().map_or("", String::as_str);
                one(&self.kind, &format!("{} on {table}", self.name))
            }
            _ => Vec::new(),
        }
    }
}

/// The quoted schema of a qualified name.
pub(super) fn schema_of(qualified: &str) -> &str {
    let mut quoted = false;
    let dot = qualified.char_indices().filter(|(_, c)| {
        quoted ^= *c == '"';
        *c == '.' && !quoted
    });
    dot.last().map_or("", |(at, _)| &qualified[..at])
}

fn shown(value: &str) -> &str {
    if value.len() > SHOWN || value.contains('\n') {
        "…"
    } else {
        value
    }
}

/// Names of tables, or their number if there are many.
fn list(relations: &[String]) -> String {
    match relations {
        [first, .., last] if relations.len() > 3 => {
            let what = if first.starts_with("FUNCTION ") {
                "functions"
            } else {
                "tables"
            };
            format!("{} {what} ({first} to {last})", relations.len())
        }
        relations => relations.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_name_ends_at_the_last_dot_outside_quotes() {
        for (name, schema) in [
            ("public.audit_logs", "public"),
            ("\"a.b\".audit_logs", "\"a.b\""),
            ("\"a\"\".b\".\"c.d\"", "\"a\"\".b\""),
            ("audit_logs", ""),
        ] {
            assert_eq!(schema_of(name), schema, "{name}");
        }
    }
}
