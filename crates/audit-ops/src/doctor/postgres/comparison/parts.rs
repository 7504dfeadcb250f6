//! Which role has which part of the trail: the writer, the reader, the auditor, the maintainer.
//!
//! The table audit_roles says so, but whoever changes one row of it must not make the doctor recommend rights for
//! another role. Therefore the rights and policies decide: the role that has most of what the migrations grant to a
//! part has that part.

use std::collections::BTreeMap;

use super::description::Objects;
use super::names::Names;
use super::remedy::literal;
use crate::doctor::postgres::session::{Row, Session};
use crate::doctor::{Code, DoctorError, Finding, Severity};

/// The parts. A role has one of them at most; a part whose rights few others have comes first.
pub(super) const PARTS: [&str; 4] = ["writer", "maintainer", "auditor", "reader"];

/// Counts for each part and role how many of the part's rights the role has. `@rights@` are the rights: part, kind, and the
/// object as the server names it. A function counts with its arguments, and only if the owner has it: anybody who may
/// create functions could create some of the same name. Its own rights on what it owns are no evidence.
const EVIDENCE: &str = "WITH rights (part, kind, name) AS (VALUES @rights@), \
     facts (part, role) AS ( \
         SELECT w.part, a.grantee FROM pg_proc f JOIN pg_class t ON t.relnamespace = f.pronamespace AND t.oid = @trail@ \
         JOIN rights w ON w.kind = 'function' AND w.name = f.oid::regprocedure::text, aclexplode(f.proacl) a \
         WHERE (@known_owner@ IS NULL OR f.proowner = @owner@) AND a.grantee <> f.proowner \
         UNION ALL \
         SELECT w.part, a.grantee FROM pg_class c JOIN pg_class t ON t.relnamespace = c.relnamespace AND t.oid = @trail@ \
         JOIN rights w ON w.kind = 'table' AND w.name = c.oid::regclass::text, aclexplode(c.relacl) a \
         WHERE a.privilege_type = 'SELECT' AND a.grantee <> c.relowner \
         UNION ALL \
         SELECT w.part, r FROM pg_policy p JOIN (VALUES ('writer', 'audit_logs_insert'), ('reader', 'audit_logs_read_tenant'), \
             ('auditor', 'audit_logs_read_all')) w (part, policy) ON w.policy = p.polname, unnest(p.polroles) r WHERE p.polrelid = @trail@) \
     SELECT f.part, r.oid::text, quote_ident(r.rolname), count(*)::text FROM facts f JOIN pg_roles r ON r.oid = f.role \
     WHERE r.oid <> @owner@ GROUP BY f.part, r.oid, r.rolname";

/// The roles as audit_roles names them; without a name if they no longer exist.
const NAMED: &str = "SELECT a.kind, a.role::oid::text, coalesce(quote_ident(r.rolname), '') FROM @schema@.audit_roles a \
     LEFT JOIN pg_roles r ON r.oid = a.role";

/// A role: its oid, its quoted name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Role {
    oid: u32,
    name: String,
}

/// A role, and how many rights of a part it has.
#[derive(Clone, Debug)]
struct Candidate {
    role: Role,
    rights: u32,
}

/// The roles as part, oid and name, and what is wrong with audit_roles.
pub(super) async fn query(
    session: &Session,
    names: &Names,
    expected: &Objects,
) -> Result<(Vec<[String; 3]>, Vec<Finding>), DoctorError> {
    let evidence = names.sql_with(EVIDENCE, &[("@rights@", rights(expected, names))]);
    let candidates = match session.query_in_savepoint(&evidence).await? {
        Ok(rows) => candidates(rows),
        Err(refused) => return Ok((Vec::new(), vec![Finding::not_run(Code::Roles, refused.message)])),
    };
    let (named, mut findings) = match session.query_in_savepoint(&names.sql(NAMED)).await? {
        Ok(rows) => (Some(named(rows)), Vec::new()),
        Err(refused) => (None, vec![refused.needs_a_right(Code::Roles)]),
    };
    let parts = decide(&candidates, named.as_ref());
    if let Some(named) = &named {
        findings.extend(
            PARTS
                .iter()
                .filter_map(|part| judge(part, &parts, named, &names.schema)),
        );
    }
    let roles = parts
        .into_iter()
        .map(|(part, role)| [part.to_owned(), role.oid.to_string(), role.name]);
    Ok((roles.collect(), findings))
}

/// The rights that the migrations grant to each part, as a list of SQL.
fn rights(expected: &Objects, names: &Names) -> String {
    let grants = expected.keys().filter(|key| key.kind == "grant");
    let rights = grants.filter_map(|key| {
        let part = key.name.strip_prefix('@')?.strip_suffix('@')?;
        let (kind, object) = key.relation.split_once(' ')?;
        let object = literal(&names.put(object));
        PARTS
            .contains(&part)
            .then(|| format!("('{part}', '{}', {object})", kind.to_lowercase()))
    });
    rights.collect::<Vec<_>>().join(", ")
}

fn candidates(rows: Vec<Row>) -> BTreeMap<String, Vec<Candidate>> {
    let mut candidates: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [part, oid, name, rights] = cells.as_slice() else {
            continue;
        };
        if let (Ok(oid), Ok(rights)) = (oid.parse(), rights.parse()) {
            let role = Role {
                oid,
                name: name.clone(),
            };
            candidates
                .entry(part.clone())
                .or_default()
                .push(Candidate { role, rights });
        }
    }
    candidates
}

fn named(rows: Vec<Row>) -> BTreeMap<String, Role> {
    let roles = rows.into_iter().filter_map(|row| {
        let [kind, oid, name] = <[Option<String>; 3]>::try_from(row).ok()?;
        Some((
            kind?,
            Role {
                oid: oid?.parse().ok()?,
                name: name?,
            },
        ))
    });
    roles.collect()
}

/// The role with each part: the one with most of its rights; of several the one in audit_roles, then the oldest. If no
/// role has any, for example because it was dropped and created again, audit_roles decides.
fn decide(
    candidates: &BTreeMap<String, Vec<Candidate>>,
    named: Option<&BTreeMap<String, Role>>,
) -> BTreeMap<&'static str, Role> {
    let mut decided: BTreeMap<&'static str, Role> = BTreeMap::new();
    for part in PARTS {
        let of_audit_roles = named
            .and_then(|named| named.get(part))
            .filter(|role| !role.name.is_empty());
        let free = candidates.get(part).into_iter().flatten();
        let free = free.filter(|candidate| !decided.values().any(|role| *role == candidate.role));
        let best = free.max_by_key(|candidate| {
            let is_named = Some(&candidate.role) == of_audit_roles;
            (candidate.rights, is_named, std::cmp::Reverse(candidate.role.oid))
        });
        if let Some(role) = best.map(|candidate| &candidate.role).or(of_audit_roles) {
            decided.insert(part, role.clone());
        }
    }
    decided
}

/// What is wrong with a part's row in audit_roles.
fn judge(
    part: &str,
    decided: &BTreeMap<&'static str, Role>,
    named: &BTreeMap<String, Role>,
    schema: &str,
) -> Option<Finding> {
    let (by_rights, by_name) = (decided.get(part), named.get(part));
    let set = |role: &Role| {
        format!(
            "INSERT INTO {schema}.audit_roles (kind, role) VALUES ('{part}', {}) ON CONFLICT (kind) DO UPDATE SET role = excluded.role;",
            literal(&role.name)
        )
    };
    match (by_name.filter(|role| !role.name.is_empty()), by_rights) {
        (Some(by_name), Some(by_rights)) if by_name == by_rights => None,
        (Some(by_name), Some(by_rights)) => Some(Finding::new(
            Code::Roles,
            Severity::Critical,
            format!(
                "audit_roles names {} as the {part}, but {} has the rights",
                by_name.name, by_rights.name
            ),
            format!(
                "{}\n-- then run the doctor again, and skip its other remedies for these roles",
                set(by_rights)
            ),
        )),
        (_, by_rights) => {
            let how = if by_name.is_some() {
                "was dropped"
            } else {
                "is missing"
            };
            let remedy = match by_rights {
                Some(role) => set(role),
                None => format!(
                    "DO $do$ BEGIN\n  IF pg_catalog.to_regrole('audit_{part}') IS NULL THEN CREATE ROLE audit_{part} NOLOGIN; END IF;\nEND $do$;\n\
                     INSERT INTO {schema}.audit_roles (kind, role) VALUES ('{part}', 'audit_{part}') ON CONFLICT (kind) DO UPDATE SET role = excluded.role;\n\
                     -- then run the doctor again: it lists the rights that the role needs"
                ),
            };
            Some(Finding::new(
                Code::Roles,
                Severity::Warning,
                format!("the role for the {part} {how}"),
                remedy,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(oid: u32) -> Role {
        Role {
            oid,
            name: format!("r{oid}"),
        }
    }

    fn decided(candidates: &[(&str, u32, u32)], named: &[(&str, u32)]) -> Vec<(&'static str, u32)> {
        let mut by_part: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
        for (part, oid, rights) in candidates {
            let candidate = Candidate {
                role: role(*oid),
                rights: *rights,
            };
            by_part.entry((*part).to_owned()).or_default().push(candidate);
        }
        let named = named
            .iter()
            .map(|(part, oid)| ((*part).to_owned(), role(*oid)))
            .collect();
        let parts = decide(&by_part, Some(&named));
        parts.into_iter().map(|(part, role)| (part, role.oid)).collect()
    }

    #[test]
    fn a_part_belongs_to_the_role_with_most_of_its_rights() {
        // Whatever audit_roles says, and although the other has a few.
        assert_eq!(
            decided(
                &[("maintainer", 1, 14), ("maintainer", 9, 3)],
                &[("maintainer", 9)]
            ),
            [("maintainer", 1)]
        );
        assert_eq!(
            decided(&[("writer", 1, 2), ("writer", 2, 2)], &[("writer", 2)]),
            [("writer", 2)]
        );
        assert_eq!(
            decided(&[("writer", 3, 2), ("writer", 2, 2)], &[]),
            [("writer", 2)]
        );
        assert_eq!(decided(&[], &[("reader", 4)]), [("reader", 4)]);
        // The auditor has most of the reader's rights, but is the auditor.
        assert_eq!(
            decided(
                &[
                    ("auditor", 1, 9),
                    ("auditor", 2, 3),
                    ("reader", 1, 3),
                    ("reader", 2, 3)
                ],
                &[]
            ),
            [("auditor", 1), ("reader", 2)]
        );
    }

    #[test]
    fn the_rights_of_every_part_are_known() {
        let rights = rights(&super::super::EXPECTED, &Names::of("s", "own", &[]));
        for right in [
            "('writer', 'function', 's.audit_logs_lookup(uuid[],timestamp with time zone[],uuid[],bigint[])')",
            "('maintainer', 'function', 's.audit_hold_release(bigint,text)')",
            "('reader', 'table', 's.audit_logs')",
            "('auditor', 'table', 's.audit_retention_ledger')",
        ] {
            assert!(rights.contains(right), "{right}: {rights}");
        }
    }
}
