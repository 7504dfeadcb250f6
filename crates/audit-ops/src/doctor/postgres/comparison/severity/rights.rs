//! How bad a difference of rights, roles or settings is.

use super::super::difference::Change::{self, Missing};
use super::super::difference::Place::{self, Other, Partition, Trail};
use super::super::difference::Single;
use super::super::parts::PARTS;
use super::{Judgement, verdict};
use crate::doctor::Code::*;
use crate::doctor::Severity::{Critical, Info, Warning};

pub(super) fn grant(single: &Single, attribute: &str, change: Change, place: Place) -> Option<Judgement> {
    let privilege = attribute.split(' ').next().unwrap_or_default();
    if change == Missing {
        return verdict(Grants, Warning, "the trail's roles need it");
    }
    if single.key.relation.starts_with("FUNCTION ") || single.key.relation.starts_with("PROCEDURE ") {
        // These create what is missing; the others return rows, or remove them.
        let creates = [
            "ensure_partitions",
            "index_closed_months",
            "create_partition",
            "create_upcoming_partition",
            "check_limit",
            "audit_role",
        ];
        return if creates.iter().any(|name| single.key.relation.contains(name)) {
            verdict(Grants, Warning, "")
        } else {
            verdict(
                Grants,
                Critical,
                "it runs with the rights of the owner, or is part of what does",
            )
        };
    }
    let on_roles = single.key.relation.ends_with(".audit_roles");
    match (privilege, place) {
        // Everybody has it on public, unless somebody has revoked it.
        ("USAGE", _) if single.key.relation == "SCHEMA public" => verdict(Grants, Info, HOLDS_LOCKS),
        ("USAGE", _) => verdict(Grants, Warning, HOLDS_LOCKS),
        ("TRIGGER" | "INSERT" | "UPDATE", Other)
            if single.key.relation.ends_with(".__diesel_schema_migrations") =>
        {
            verdict(
                Grants,
                Critical,
                "what it adds there decides what runs as the trail's owner",
            )
        }
        ("CREATE", _) => verdict(
            Grants,
            Warning,
            "it can create tables and functions in the trail's schema",
        ),
        ("INSERT", Trail) if !attribute.contains('(') || forges(attribute) => verdict(
            Grants,
            Critical,
            "only the database may set recorded_at and tx_id",
        ),
        ("INSERT", Partition | Other) => verdict(Grants, Critical, "it can forge rows"),
        ("UPDATE" | "DELETE" | "TRUNCATE", Other) if on_roles => {
            verdict(Grants, Critical, "it decides who has which part")
        }
        ("UPDATE" | "DELETE" | "TRUNCATE", _) => verdict(Grants, Warning, "only the triggers refuse it"),
        _ => verdict(Grants, Warning, ""),
    }
}

/// PostgreSQL takes the lock that a statement needs before it looks at the rights on the table.
const HOLDS_LOCKS: &str =
    "it can hold locks on the trail's tables, and stop writers and readers, without a right on them";

fn forges(attribute: &str) -> bool {
    ["(recorded_at)", "(tx_id)"]
        .iter()
        .any(|column| attribute.ends_with(column))
}

pub(super) fn role(part: &str, attribute: &str, found: &str) -> Option<Judgement> {
    match (attribute, part) {
        // The check of missing roles says it.
        ("", _) => None,
        ("SUPERUSER", "owner") if found == "the first superuser" => {
            verdict(Roles, Info, "the trail's functions run with its rights")
        }
        ("SUPERUSER", "owner") => verdict(Roles, Warning, "the trail's functions run with its rights"),
        ("BYPASSRLS", "owner") => verdict(Roles, Info, ""),
        ("SUPERUSER", _) => verdict(Roles, Critical, "its members can do everything"),
        ("BYPASSRLS", _) => verdict(Roles, Critical, "it sees every tenant"),
        ("REPLICATION", _) => verdict(Roles, Warning, "it can copy the whole server"),
        ("CREATEROLE", _) => verdict(Roles, Warning, "before PostgreSQL 16 it can give itself any role"),
        _ => verdict(Roles, Info, ""),
    }
}

/// Roles of PostgreSQL that bypass the rights on tables.
const PREDEFINED: [&str; 6] = [
    "pg_execute_server_program",
    "pg_write_server_files",
    "pg_read_server_files",
    "pg_write_all_data",
    "pg_read_all_data",
    "pg_maintain",
];

/// Attributes and roles of a login, beside its part of the trail.
pub(super) fn login(how: &str, attribute: &str, found: &str) -> Option<Judgement> {
    let of_trail = found == "of the trail";
    match (how, attribute) {
        ("member", "SUPERUSER") => verdict(Roles, Critical, "it can remove the protection of the rows"),
        ("member", "BYPASSRLS") if found == "reads all" => {
            verdict(Roles, Info, "it sees every tenant in any case")
        }
        ("member", "BYPASSRLS") => verdict(Roles, Critical, "it sees every tenant"),
        ("member", "REPLICATION") => verdict(Roles, Warning, "it can copy the whole server"),
        ("member", "CREATEROLE") if found == "any role" => {
            verdict(Roles, Warning, "it can give itself any role")
        }
        ("member", _) => verdict(Roles, Info, ""),
        (_, "pg_write_all_data") => verdict(Roles, Critical, "it can forge holds and entries of the ledger"),
        (_, "pg_execute_server_program" | "pg_write_server_files") if of_trail => {
            verdict(Roles, Critical, "it can do what the server's superuser can")
        }
        (_, "pg_execute_server_program" | "pg_write_server_files") => {
            verdict(Roles, Warning, "it can do what the server's superuser can")
        }
        (_, "pg_read_server_files") => verdict(Roles, Warning, "it can read the files of every table"),
        (_, "pg_maintain") => verdict(Roles, Warning, "it can lock every table"),
        (_, "pg_read_all_data") if of_trail => verdict(Roles, Warning, "it reads the holds and the ledger"),
        (_, "pg_read_all_data") => verdict(Roles, Info, "it reads the holds and the ledger"),
        _ => verdict(Roles, Info, "it can end the sessions of writers"),
    }
}

pub(super) fn member(single: &Single) -> Option<Judgement> {
    let text = |attribute| single.object.get(attribute).map_or("", String::as_str);
    let (of, member) = (single.found.unwrap_or_default(), text("member"));
    let (uses, admin) = (text("use") == "yes", text("admin") == "yes");
    match (of, member) {
        (_, "a superuser") => None,
        ("another role", "owner") if PREDEFINED.contains(&&*single.key.relation) => {
            verdict(Roles, Warning, "it bypasses the rights on tables")
        }
        ("another role", "owner") => verdict(Roles, Info, ""),
        (_, "owner") if !uses => None,
        (_, "owner") => verdict(Roles, Info, ""),
        (_, part) if PARTS.contains(&part) => verdict(Roles, Critical, "its members have the rights of both"),
        // The check of this user says so.
        ("owner", "this user") => None,
        ("owner", _) if uses => verdict(Roles, Critical, "it can remove the protection of the rows"),
        ("owner", "with CREATEROLE") => verdict(Roles, Info, "it can make itself the owner (ADMIN option)"),
        ("owner", _) => verdict(Roles, Warning, "it can make itself the owner (ADMIN option)"),
        (_, "with CREATEROLE") if !uses => verdict(Roles, Info, "it can give itself the role (ADMIN option)"),
        _ if admin => verdict(Roles, Warning, "it can give the role to others (ADMIN option)"),
        (_, "this user") => None,
        _ => verdict(Roles, Info, ""),
    }
}

/// Settings that weaken the trail or change what its readers see.
const HARMFUL: [&str; 15] = [
    "session_replication_role",
    "row_security",
    "synchronous_commit",
    "default_transaction_read_only",
    "default_transaction_isolation",
    "session_preload_libraries",
    "local_preload_libraries",
    "role",
    "search_path",
    "event_triggers",
    "zero_damaged_pages",
    "ignore_system_indexes",
    "check_function_bodies",
    "default_tablespace",
    "default_table_access_method",
];

pub(super) fn setting(name: &str, found: &str) -> Option<Judgement> {
    let name = name.trim_matches('"');
    match name {
        "audit.tenant_id" if !found.is_empty() => verdict(
            Settings,
            Critical,
            "a reader that sets no tenant sees the rows of this one",
        ),
        _ if HARMFUL.contains(&name) => verdict(Settings, Warning, ""),
        _ => verdict(Settings, Info, ""),
    }
}
