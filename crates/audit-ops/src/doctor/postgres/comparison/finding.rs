//! Differences as findings: sentences, and the names by which an operator allows them.

use super::description::Objects;
use super::difference::{Change, Difference};
use super::names::Names;
use super::remedy;
use crate::doctor::text::comment;
use crate::doctor::{Finding, Severity};

/// Of more lines for --allow the first are shown.
const SHOWN_LINES: usize = 4;

/// A longer value is not shown.
const SHOWN: usize = 120;

pub(super) fn of(difference: &Difference, expected: &Objects, names: &Names) -> Finding {
    let mut remedy = remedy::of(difference, expected, names);
    let extras = difference.extras();
    for (kind, name) in extras.iter().take(SHOWN_LINES) {
        let allow = format!("or, if it is intended, allow it (--allow): {kind} {name}");
        remedy.push_str(&format!("\n{}", comment(&allow)));
    }
    if extras.len() > SHOWN_LINES {
        remedy.push_str("\n-- and so on, one line for each");
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
            ("login", _) if relations == "predefined" => format!("{name} is a member of {attribute}"),
            ("login", _) => format!("{name}, a member of one of the trail's roles, has {attribute}"),
            ("database", _) => format!("the owner of the database {name} is {found}"),
            ("combination", _) => format!("{name} has the roles {found}"),
            ("schema", _) => format!("the owner of the schema {name} is {found}"),
            ("setting", _) => format!("{name} is set to {} for {relations}", shown(found)),
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

    /// Kinds and names by which an operator allows it, all of them: an addition, or the position of a column, which
    /// nothing restores. The name says what is allowed, so that it covers nothing that is added later.
    pub(super) fn extras(&self) -> Vec<(String, String)> {
        let one = |kind: &str, name: &str| vec![(kind.replace(' ', "-"), name.to_owned())];
        // Partitions follow audit_logs.
        let tables = match self.relations.as_slice() {
            [first, ..] if first.ends_with(".audit_logs") => &self.relations[..1],
            relations => relations,
        };
        let each = |kind: &str| -> Vec<(String, String)> {
            let names = tables
                .iter()
                .map(|table| (kind.to_owned(), format!("{} on {table}", self.name)));
            names.collect()
        };
        let kind_and_attribute = (self.kind.as_str(), self.attribute.as_str());
        if kind_and_attribute == ("column", "position") {
            return each("column");
        }
        if self.change() != Change::Unexpected {
            return Vec::new();
        }
        let found = self.found.as_deref().unwrap_or_default();
        match kind_and_attribute {
            ("grant", privileges) => {
                let mut extras = Vec::new();
                for table in &self.relations {
                    let name = |one| format!("{} {one} on {table}", self.name);
                    extras.extend(privileges.split("; ").map(|one| ("grant".to_owned(), name(one))));
                }
                extras
            }
            ("default privileges", of) => one("grant", &format!("{} {found} on new {of}", self.name)),
            ("member", _) if self.severity == Severity::Info => one("role", &self.name),
            ("member", _) if self.severity == Severity::Warning => one(
                "member",
                &format!("{} of {}", self.name, self.relations.join(", ")),
            ),
            ("combination", _) => one("combination", &format!("{} {found}", self.name)),
            ("login", attribute) if self.severity < Severity::Critical => {
                one("login", &format!("{} {attribute}", self.name))
            }
            ("setting", _) => one(
                "setting",
                &format!("{}={found} for {}", self.name, self.relations.join(", ")),
            ),
            ("dependent" | "relation", _) => match self.object.get("reads every tenant for") {
                Some(readers) => one(found, &format!("{} read by {readers}", self.name)),
                None => one(found, &self.name),
            },
            ("function", "") => one("function", &self.name),
            ("table", "name") => one(
                "partition",
                found.split(" instead of ").next().unwrap_or_default(),
            ),
            ("index", "") if !self.name.starts_with('@') => {
                let table = self.relations.first().map_or("", String::as_str);
                one("index", &format!("{}.{}", schema_of(table), self.name))
            }
            ("column" | "constraint" | "index" | "trigger" | "rule" | "policy", "") => each(&self.kind),
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
    use crate::doctor::Code;

    fn difference(kind: &str, attribute: &str, found: &str, relations: &[&str]) -> Difference {
        Difference {
            code: Code::Grants,
            severity: Severity::Info,
            consequence: "",
            kind: kind.to_owned(),
            name: "x".to_owned(),
            attribute: attribute.to_owned(),
            expected: None,
            found: Some(found.to_owned()),
            object: [].into(),
            other_table: String::new(),
            relations: relations.iter().map(|relation| (*relation).to_owned()).collect(),
        }
    }

    fn names(difference: &Difference) -> Vec<String> {
        let extras = difference.extras().into_iter();
        extras.map(|(kind, name)| format!("{kind} {name}")).collect()
    }

    #[test]
    fn what_an_operator_allows_covers_nothing_else() {
        for (kind, attribute, found, relations, allowed) in [
            (
                "trigger",
                "",
                "CREATE",
                &["p.audit_logs_1", "p.audit_logs_2"][..],
                &["trigger x on p.audit_logs_1", "trigger x on p.audit_logs_2"][..],
            ),
            // The partitions have what audit_logs has.
            (
                "trigger",
                "",
                "CREATE",
                &["p.audit_logs", "p.audit_logs_1"],
                &["trigger x on p.audit_logs"],
            ),
            (
                "grant",
                "INSERT (a); SELECT",
                "yes",
                &["p.audit_logs"],
                &[
                    "grant x INSERT (a) on p.audit_logs",
                    "grant x SELECT on p.audit_logs",
                ],
            ),
            (
                "setting",
                "",
                "replica",
                &["ROLE app"],
                &["setting x=replica for ROLE app"],
            ),
            ("member", "", "writer", &["audit_writer"], &["role x"]),
        ] {
            assert_eq!(names(&difference(kind, attribute, found, relations)), allowed);
        }
        let mut view = difference("dependent", "", "view", &[]);
        assert_eq!(names(&view), ["view x"]);
        view.object
            .insert("reads every tenant for".to_owned(), "PUBLIC".to_owned());
        assert_eq!(names(&view), ["view x read by PUBLIC"]);
        let mut owner = difference("member", "", "owner", &["own"]);
        owner.severity = Severity::Critical;
        assert_eq!(names(&owner), [""; 0]);
    }

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
