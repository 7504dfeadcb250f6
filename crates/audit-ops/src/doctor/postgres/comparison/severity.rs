//! How bad a difference is: by what it permits. A pure function of the difference.

mod rights;
#[cfg(test)]
mod tests;

use self::rights::{grant, login, member, role, setting};
use super::difference::Change::{self, Changed, Missing, Unexpected};
use super::difference::Place::{self, Partition, Trail};
use super::difference::Single;
use crate::doctor::Code::{self, *};
use crate::doctor::Severity::{self, Critical, Info, Warning};

/// The verdict about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) code: Code,
    pub(super) severity: Severity,
    /// What it permits or prevents; may be empty.
    pub(super) consequence: &'static str,
}

fn verdict(code: Code, severity: Severity, consequence: &'static str) -> Option<Judgement> {
    Some(Judgement {
        code,
        severity,
        consequence,
    })
}

/// Judges a difference. None if it is as good as what is expected.
pub(super) fn judge(single: &Single) -> Option<Judgement> {
    let (change, place) = (single.change(), single.place);
    let (attribute, found) = (single.attribute, single.found.unwrap_or_default());
    match single.key.kind.as_str() {
        "table" if single.key.table().ends_with(".__diesel_schema_migrations") => {
            migrations(attribute, change)
        }
        "table" => table(attribute, change, place, found),
        "column" => column(&single.key.name, attribute, change),
        "constraint" => constraint(single, attribute, change),
        "index" => index(single, attribute, change),
        "trigger" => trigger(single, attribute, change, found),
        "rule" => verdict(OtherTriggers, Critical, "it rewrites statements"),
        "policy" => policy(change, place, found),
        "function" => function(single, attribute, change),
        "grant" => grant(single, attribute, change, place),
        "usage" => verdict(Grants, Warning, "it cannot use the trail"),
        "default privileges" => verdict(
            Grants,
            Warning,
            "a table or function that the owner creates manually is open",
        ),
        "role" => role(&single.key.relation, attribute, found),
        "member" => member(single),
        "combination" => verdict(
            Roles,
            Warning,
            "a login that writes or reads as a tenant should not be an auditor or maintainer too",
        ),
        "schema" if found.starts_with("the database's") => verdict(
            Roles,
            Warning,
            "as the schema's owner it can drop the trail's tables",
        ),
        "schema" => verdict(Roles, Critical, "it can drop the trail's tables"),
        "database" => verdict(Roles, Warning, "it can drop the database, and the trail with it"),
        "login" => login(&single.key.relation, attribute, found),
        "setting" => setting(&single.key.name, found),
        "relation" => verdict(
            UnattachedTables,
            Warning,
            "queries of the trail do not find it, and a partition of its name cannot be created",
        ),
        "label" => verdict(Tables, Warning, "an extension may show readers other values"),
        _ => dependent(single),
    }
}

fn table(attribute: &str, change: Change, place: Place, found: &str) -> Option<Judgement> {
    match (attribute, change, place) {
        ("", Missing, Partition) => verdict(
            DefaultPartition,
            Warning,
            "a row of a month without a partition is refused",
        ),
        ("", Missing, _) => verdict(Tables, Critical, "what it held is lost"),
        ("", Changed, _) if found == "foreign table" => {
            verdict(UnattachedTables, Critical, "its rows can be changed elsewhere")
        }
        ("", Unexpected, _) => verdict(
            UnattachedTables,
            Warning,
            "it is a partition that the trail's functions do not create",
        ),
        ("owner", ..) => verdict(
            Tables,
            Critical,
            "its owner can remove the protection of its rows",
        ),
        ("persistence", ..) => verdict(Tables, Critical, "a crash of the server empties it"),
        ("row security", Missing, Trail) => verdict(RowSecurity, Critical, "a reader sees every tenant"),
        ("row security", Missing, _) => verdict(
            RowSecurity,
            Warning,
            "whoever gets a right on it sees every tenant",
        ),
        ("row security" | "forced row security", ..) => verdict(
            RowSecurity,
            Warning,
            "the trail's functions, or its readers, do not see its rows",
        ),
        ("rights that the owner lacks", ..) => verdict(Grants, Warning, "the trail's functions need them"),
        ("foreign key triggers", ..) => verdict(Triggers, Warning, "references are not checked"),
        ("name", ..)
            if found
                .split_once(" instead of ")
                .is_some_and(|(table, name)| table.ends_with(&format!(".{name}"))) =>
        {
            verdict(UnattachedTables, Warning, "it is in another schema")
        }
        ("name", ..) => verdict(UnattachedTables, Info, "it was created manually"),
        ("bounds", ..) => verdict(
            UnattachedTables,
            Warning,
            "they are not those of the month in its name (UTC), so retention never drops it",
        ),
        ("detachment", ..) => verdict(UnattachedTables, Warning, "queries do not find its rows"),
        ("tablespace" | "options" | "toast options" | "replica identity", ..) => verdict(Tables, Info, ""),
        ("extension", ..) => verdict(Tables, Critical, "dropping the extension drops it"),
        _ => verdict(Tables, Warning, ""),
    }
}

/// The list of migrations belongs to the tool that runs them, as the owner: so do the triggers on it.
fn migrations(attribute: &str, change: Change) -> Option<Judgement> {
    match (attribute, change) {
        ("", Missing) => verdict(
            Migrations,
            Warning,
            "the next migration would run all of them again",
        ),
        ("owner", _) => verdict(
            Tables,
            Critical,
            "what its owner adds to it runs as the trail's owner",
        ),
        ("options" | "toast options" | "replica identity" | "tablespace", _) => verdict(Tables, Info, ""),
        _ => verdict(Tables, Warning, ""),
    }
}

fn column(name: &str, attribute: &str, change: Change) -> Option<Judgement> {
    let is_evidence = matches!(
        name,
        "id" | "created_at" | "recorded_at" | "tx_id" | "created_by" | "done_by" | "done_at"
    );
    match (attribute, change) {
        ("", Missing) => verdict(Tables, Critical, "its values are lost"),
        ("", Changed) => verdict(
            Tables,
            Critical,
            "the stored values may have been rewritten, and programs cannot use it",
        ),
        ("", Unexpected) => verdict(Tables, Warning, ""),
        ("position", _) => verdict(
            Tables,
            Critical,
            "it was dropped and created again, so that the values that were written are lost",
        ),
        ("generated" | "identity", _) => verdict(Tables, Critical, "the database replaces what is inserted"),
        ("default", _) if is_evidence => verdict(Tables, Critical, "the database records other values"),
        ("default", _) => verdict(Tables, Warning, ""),
        ("NOT NULL" | "collation", _) => verdict(Tables, Warning, ""),
        _ => verdict(Tables, Info, ""),
    }
}

fn constraint(single: &Single, attribute: &str, change: Change) -> Option<Judgement> {
    let text = single.expected.or(single.found).unwrap_or_default();
    let is_key = text.starts_with("PRIMARY KEY");
    match (attribute, change) {
        ("index", _) => verdict(Indexes, Warning, "queries do not use its index"),
        ("", Missing | Changed) if is_key => verdict(
            Indexes,
            Critical,
            "without the primary key, what is sent again is stored twice",
        ),
        ("", Missing | Changed) => verdict(Tables, Warning, ""),
        _ if is_key || text.starts_with("UNIQUE") || text.starts_with("EXCLUDE") => {
            verdict(Tables, Critical, SWALLOWS)
        }
        _ => verdict(Tables, Warning, "it can refuse rows"),
    }
}

/// Inserts skip a row that is stored already.
const SWALLOWS: &str = "it can refuse rows, or leave them out without an error";

fn index(single: &Single, attribute: &str, change: Change) -> Option<Judgement> {
    let is_lookup = single.key.name.starts_with("@month@_");
    let has = |attribute| single.object.contains_key(attribute);
    match (attribute, change) {
        // A partition that is still written to has none yet; those of ended ones are another check.
        ("", Missing) if is_lookup => None,
        ("", Missing) => verdict(Indexes, Warning, "queries are slow"),
        ("", Unexpected) if has("unique") => verdict(Indexes, Critical, SWALLOWS),
        ("", Unexpected) if has("expressions") => verdict(
            Indexes,
            Warning,
            "its expressions run as the user who inserts, and can refuse rows",
        ),
        ("", Unexpected) => verdict(Indexes, Info, "it slows down every insert"),
        ("unique", _) => verdict(Indexes, Critical, SWALLOWS),
        ("options" | "tablespace", _) => verdict(Indexes, Info, ""),
        ("validity", _) => verdict(Indexes, Warning, "queries do not use it"),
        _ => verdict(Indexes, Warning, ""),
    }
}

fn trigger(single: &Single, attribute: &str, change: Change, found: &str) -> Option<Judgement> {
    let disabled = |text: &str| matches!(text, "disabled" | "disabled except in replica mode");
    match (attribute, change) {
        ("cloned", _) => None,
        ("enabled", _) if disabled(found) => {
            verdict(Triggers, Critical, "nothing refuses a change of its rows")
        }
        ("enabled", _) => verdict(Triggers, Warning, "a session in replica mode can change its rows"),
        ("", Unexpected) if single.key.table().ends_with(".__diesel_schema_migrations") => verdict(
            OtherTriggers,
            Critical,
            "it runs with the rights of the trail's owner",
        ),
        ("", Unexpected) => {
            let enabled = single.object.get("enabled").is_some_and(|text| !disabled(text));
            if enabled && found.contains(" BEFORE ") && found.contains("INSERT") {
                verdict(
                    OtherTriggers,
                    Critical,
                    "it runs before a row is stored, and can change or drop it",
                )
            } else {
                verdict(OtherTriggers, Warning, "")
            }
        }
        _ => verdict(Triggers, Critical, "nothing refuses a change of its rows"),
    }
}

fn policy(change: Change, place: Place, found: &str) -> Option<Judgement> {
    match (change, place) {
        (Missing, _) => verdict(RowSecurity, Warning, "operations that it allows are refused"),
        (Changed, _) => verdict(RowSecurity, Critical, "it decides who sees and writes which rows"),
        (Unexpected, Trail) if found.starts_with("AS PERMISSIVE") => {
            verdict(RowSecurity, Critical, "it allows more")
        }
        (Unexpected, _) => verdict(RowSecurity, Warning, ""),
    }
}

fn function(single: &Single, attribute: &str, change: Change) -> Option<Judgement> {
    let has = |attribute, value: &str| single.object.get(attribute).is_some_and(|found| found == value);
    match (attribute, change) {
        ("", Missing) => verdict(Functions, Warning, "operations that call it fail"),
        ("", Unexpected) if has("security", "SECURITY DEFINER") => {
            verdict(Functions, Warning, "it runs with the rights of its owner")
        }
        ("", Unexpected) if single.overloads => verdict(
            Functions,
            Warning,
            "calls of the trail's function of this name may reach it",
        ),
        ("", Unexpected) => verdict(Functions, Info, ""),
        ("owner", _) => verdict(Functions, Critical, "its owner can replace it"),
        ("body" | "language" | "aggregate" | "library" | "kind of body" | "" | "result", _) => {
            verdict(Functions, Critical, "the trail relies on what it does")
        }
        ("security", Unexpected) => verdict(Functions, Critical, "it now runs with the rights of its owner"),
        ("security", _) => verdict(
            Functions,
            Warning,
            "it now runs with the rights of its caller, which are not sufficient",
        ),
        ("setting search_path", _) => verdict(
            Functions,
            Critical,
            "it may call functions of others with the rights of its owner",
        ),
        ("cost" | "rows", _) => verdict(Functions, Info, ""),
        ("extension", _) => verdict(Functions, Critical, "dropping the extension drops it"),
        ("rights that the owner lacks", _) => verdict(Grants, Warning, "the trail's functions need them"),
        _ => verdict(Functions, Warning, ""),
    }
}

fn dependent(single: &Single) -> Option<Judgement> {
    let reads_all = single.object.contains_key("reads every tenant for");
    match single.found.unwrap_or_default() {
        "view" | "materialized view" if reads_all => verdict(
            Dependents,
            Critical,
            "it shows the rows of every tenant to those who may read it",
        ),
        "child table" => verdict(Dependents, Critical, "its rows appear as rows of the table"),
        "subscription" => verdict(Dependents, Critical, "another server writes into the trail"),
        "publication" => verdict(
            Dependents,
            Warning,
            "it sends the rows of every tenant to another server",
        ),
        "event trigger" => verdict(
            Dependents,
            Warning,
            "it runs with the rights of the owner when a partition is created or dropped",
        ),
        "table constraint" => verdict(Dependents, Warning, "it can prevent months from being dropped"),
        "statistics object" | "trigger" | "default value" => verdict(Dependents, Info, ""),
        _ => verdict(Dependents, Warning, ""),
    }
}
