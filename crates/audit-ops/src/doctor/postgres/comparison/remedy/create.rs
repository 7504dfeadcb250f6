//! Statements that create what the description contains.

use super::{Attributes, Key, Objects};

/// A column of CREATE TABLE or ADD COLUMN.
pub(super) fn column(name: &str, attributes: &Attributes) -> String {
    let of = |attribute| attributes.get(attribute);
    let mut text = format!("{name} {}", of("").map_or("text", String::as_str));
    if let Some(default) = of("default") {
        text.push_str(&format!(" DEFAULT {default}"));
    }
    if of("NOT NULL").is_some() {
        text.push_str(" NOT NULL");
    }
    text
}

/// A table of the trail, or its default partition, with everything that belongs to it.
pub(super) fn table(relation: &str, root: &str, owner: &str, expected: &Objects) -> String {
    let of = |kind: &'static str| {
        expected
            .iter()
            .filter(move |(key, _)| key.kind == kind && key.relation == relation)
    };
    let attribute = |name: &str| of("table").find_map(|(_, attributes)| attributes.get(name));
    let position = |attributes: &Attributes| attributes.get("position").and_then(|at| at.parse::<u16>().ok());
    let mut columns: Vec<_> = of("column").collect();
    columns.sort_by_key(|(_, attributes)| position(attributes));
    let columns: Vec<String> = columns
        .into_iter()
        .map(|(key, attributes)| column(&key.name, attributes))
        .collect();
    let mut lines = vec!["-- its rows can only come from a backup".to_owned()];
    lines.push(match attribute("partition") {
        Some(bound) => format!("CREATE TABLE {relation} PARTITION OF {root} {bound};"),
        None => format!("CREATE TABLE {relation} ({});", columns.join(", ")),
    });
    let own = |key: &Key| !key.name.starts_with("of ");
    for (key, attributes) in of("constraint").filter(|(key, _)| own(key)) {
        lines.push(format!(
            "ALTER TABLE {relation} ADD CONSTRAINT {} {};",
            key.name, attributes[""]
        ));
    }
    // References need the keys that were just added.
    lines.sort_by_key(|line| line.contains(" FOREIGN KEY "));
    for (key, attributes) in of("index").filter(|(key, _)| own(key)) {
        lines.push(format!(
            "CREATE INDEX {} ON {relation} {};",
            key.name,
            index(attributes)
        ));
    }
    for (key, attributes) in of("trigger") {
        if !attributes.contains_key("cloned") {
            lines.push(attributes[""].replace("@table@", relation) + ";");
        }
        lines.push(format!(
            "ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {};",
            key.name
        ));
    }
    if attribute("row security").is_some() {
        lines.push(format!("ALTER TABLE {relation} ENABLE ROW LEVEL SECURITY;"));
    }
    lines.push(format!("ALTER TABLE {relation} OWNER TO {owner};"));
    lines.extend(grants(&format!("TABLE {relation}"), expected));
    lines.join("\n")
}

/// What follows the table's name in CREATE INDEX.
pub(super) fn index(attributes: &Attributes) -> String {
    let of = |attribute: &str| attributes.get(attribute).map_or("", String::as_str);
    match of("options") {
        "" => of("").to_owned(),
        options => format!("{} WITH ({options})", of("")),
    }
}

/// The rights on an object, and no others.
pub(super) fn grants(object: &str, expected: &Objects) -> Vec<String> {
    let mut lines = vec![format!("REVOKE ALL ON {object} FROM PUBLIC;")];
    let rights = expected
        .iter()
        .filter(|(key, _)| key.kind == "grant" && key.relation == object);
    for (key, attributes) in rights {
        let all: Vec<&str> = attributes.keys().map(String::as_str).collect();
        lines.extend(
            super::privileges(&all.join("; "))
                .into_iter()
                .map(|privilege| format!("GRANT {privilege} ON {object} TO {};", key.name)),
        );
    }
    lines
}

/// A function or an aggregate of the trail's schema, whose name may contain a parenthesis.
pub(super) fn function(signature: &str, schema: &str, attributes: &Attributes) -> String {
    let of = |attribute: &str| attributes.get(attribute).map_or("", String::as_str);
    let bare = signature.strip_prefix(schema).unwrap_or(signature);
    let bare = bare.split('(').next().unwrap_or_default();
    let name = format!("{schema}{bare}");
    if of("") == "AGGREGATE" {
        let parallel = of("parallel").replace("PARALLEL ", ", PARALLEL = ");
        return format!(
            "CREATE OR REPLACE AGGREGATE {name}({}) ({}{parallel});",
            of("arguments"),
            of("aggregate")
        );
    }
    let clauses = [
        "volatility",
        "strictness",
        "security",
        "parallel",
        "leakproof",
        "cost",
        "rows",
        "support",
    ];
    let settings = attributes
        .iter()
        .filter(|(attribute, _)| attribute.starts_with("setting "));
    let clauses: Vec<&str> = clauses
        .into_iter()
        .map(of)
        .chain(settings.map(|(_, value)| value.as_str()))
        .filter(|clause| !clause.is_empty())
        .collect();
    let body = match of("kind of body") {
        "" => format!("AS {0}{1}{0}", tag(of("body")), of("body")),
        _ => of("body").to_owned(),
    };
    format!(
        "CREATE OR REPLACE FUNCTION {name}({}) RETURNS {}\nLANGUAGE {} {}\n{body};",
        of("arguments"),
        of("result"),
        of("language"),
        clauses.join(" ")
    )
}

/// A dollar quote that the text does not contain.
fn tag(text: &str) -> String {
    let mut tag = "$function$".to_owned();
    while text.contains(&tag) {
        tag.insert(1, 'x');
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::super::MONTH;
    use super::*;

    #[test]
    fn a_body_that_contains_the_dollar_quote_gets_another() {
        assert_eq!(tag("SELECT 1"), "$function$");
        assert_eq!(tag("$function$ $xfunction$"), "$xxfunction$");
    }

    #[test]
    fn no_name_of_a_month_is_left_in_a_created_table() {
        let expected = &crate::doctor::postgres::comparison::EXPECTED;
        let text = table(
            "@schema@.audit_logs_default",
            "@schema@.audit_logs",
            "own",
            expected,
        );
        assert!(!text.contains(MONTH), "{text}");
        assert!(
            text.contains("PARTITION OF @schema@.audit_logs DEFAULT;"),
            "{text}"
        );
    }
}
