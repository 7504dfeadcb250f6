//! What can this user do to a row that is there?

use std::collections::BTreeMap;

use uuid::Uuid;

use super::session::{Session, Tried};
use super::tenants;
use crate::doctor::Code::{self, *};
use crate::doctor::{DoctorError, Finding, Options, Severity};

/// What the catalog says of this user and the table, which decides what can be tried how.
pub(super) struct Standing {
    /// May insert a row of its own to be attacked.
    pub(super) inserts: bool,
    /// May read, as far as row security lets it.
    pub(super) selects: bool,
    /// Row security holds for it: it is neither owner nor superuser and has no BYPASSRLS.
    pub(super) bound: bool,
    /// Has a policy that shows every tenant.
    pub(super) audits: bool,
    /// A column that it may update, as SQL takes it; else one that it may not.
    column: String,
    /// Creates a table in the trail's schema.
    create: String,
    /// The trail's schema, and this user, as SQL takes them.
    schema: String,
    role: String,
}

const STANDING: &str = "SELECT \
     (SELECT bool_and(has_column_privilege(c.oid, name, 'INSERT')) FROM unnest(ARRAY['id', 'created_at', 'tenant_id', 'actor_id', 'actor_type', 'action']) name)::text, \
     has_table_privilege(c.oid, 'SELECT')::text, \
     row_security_active(c.oid)::text, \
     EXISTS (SELECT FROM pg_policy p, unnest(p.polroles) r WHERE p.polrelid = c.oid AND p.polname = 'audit_logs_read_all' AND r <> 0 AND pg_has_role(r, 'USAGE'))::text, \
     (SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped \
      ORDER BY has_column_privilege(c.oid, attnum, 'UPDATE') DESC, attname = 'action' DESC LIMIT 1), \
     format('CREATE TABLE %I.audit_doctor_probe ()', n.nspname), quote_ident(n.nspname), quote_ident(current_user) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'audit_logs'::regclass";

impl Standing {
    pub(super) async fn ask(session: &Session) -> Result<Self, DoctorError> {
        let row = session
            .rows(STANDING)
            .await?
            .into_iter()
            .next()
            .unwrap_or_default();
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let text = |at: usize| cells.get(at).cloned().unwrap_or_default();
        let holds = |at: usize| text(at) == "true";
        Ok(Self {
            inserts: holds(0),
            selects: holds(1),
            bound: holds(2),
            audits: holds(3),
            column: text(4),
            create: text(5),
            schema: text(6),
            role: text(7),
        })
    }
}

/// Two rows of two tenants, inserted for this examination. Their ids are this process's own random
/// numbers, so that two doctors do not meet.
pub(super) struct Probe {
    pub(super) mine: Uuid,
    pub(super) others: Uuid,
}

/// Tries everything that takes no lock a writer would notice, in a transaction that the caller rolls
/// back and whose search_path is pinned.
pub(super) async fn examine(session: &Session, options: &Options) -> Result<Vec<Finding>, DoctorError> {
    let standing = Standing::ask(session).await?;
    let (probe, writable) = plant(session, &standing).await?;
    let mut findings = vec![writable];
    findings.push(change(session, &standing, probe.as_ref(), &UPDATES).await?);
    findings.push(change(session, &standing, probe.as_ref(), &DELETES).await?);
    findings.extend(forge(session).await?);
    findings.extend(tenants::examine(session, &standing, probe.as_ref(), options.tenant.as_deref()).await?);
    findings.push(partitions(session).await?);
    findings.push(create(session, &standing).await?);
    Ok(findings)
}

/// Inserts the rows that are then attacked.
async fn plant(session: &Session, standing: &Standing) -> Result<(Option<Probe>, Finding), DoctorError> {
    if !standing.inserts {
        return Ok((None, Finding::ok(Writable, "this user may not write")));
    }
    let probe = Probe {
        mine: Uuid::new_v4(),
        others: Uuid::new_v4(),
    };
    let insert = format!(
        "INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, action) VALUES \
         ('{0}', now(), '{0}', 'auditlog doctor', 'system', 'audit.probe'), \
         ('{1}', now(), '{1}', 'auditlog doctor', 'system', 'audit.probe')",
        probe.mine, probe.others
    );
    let lost = |found: String| Finding::new(Writable, Severity::Critical, found, WRITE_AGAIN);
    Ok(match session.kept(&insert).await? {
        Tried::Done { rows: 2 } => (Some(probe), Finding::ok(Writable, "rows were inserted")),
        Tried::Done { rows } => (
            None,
            lost(format!(
                "of 2 rows inserted {rows} arrived: a trigger or a rule drops rows"
            )),
        ),
        Tried::Refused { sqlstate, message } => {
            (None, lost(format!("rows are refused: {message} ({sqlstate})")))
        }
        Tried::Waited => (None, Finding::unchecked(Writable, HELD)),
    })
}

const WRITE_AGAIN: &str =
    "-- see what the checks STRANGE_TRIGGERS, GRANTS, ROW_SECURITY, MONTHS_AHEAD and MIGRATIONS found";

/// A way to change rows: as a right, which needs no row, and on a row that is there.
struct Change {
    code: Code,
    verb: &'static str,
    right: &'static str,
    on_row: &'static [&'static str],
}

/// `$column` may be updated, if any; `$row` is the condition for one row.
const UPDATES: Change = Change {
    code: RowUpdate,
    verb: "UPDATE",
    right: "UPDATE audit_logs SET $column = DEFAULT WHERE false",
    on_row: &[
        "UPDATE audit_logs SET $column = $column WHERE $row",
        "SET LOCAL session_replication_role = replica; UPDATE audit_logs SET $column = $column WHERE $row",
        "INSERT INTO audit_logs (id, created_at, action) VALUES ('$id', now(), 'audit.probe') \
         ON CONFLICT (id, created_at) DO UPDATE SET $column = excluded.$column",
    ],
};
const DELETES: Change = Change {
    code: RowDelete,
    verb: "DELETE",
    right: "DELETE FROM audit_logs WHERE false",
    on_row: &[
        "DELETE FROM audit_logs WHERE $row",
        "SET LOCAL session_replication_role = replica; DELETE FROM audit_logs WHERE $row",
    ],
};

/// What was proven of a way to change rows.
enum Proven {
    /// It is refused.
    Refused(String),
    /// It was carried out.
    Done(String),
    /// The right to is there, but whether a trigger refuses was not seen.
    Right(String),
    /// Not even the right could be tried.
    Nothing(String),
}

async fn change(
    session: &Session,
    standing: &Standing,
    probe: Option<&Probe>,
    way: &Change,
) -> Result<Finding, DoctorError> {
    let Change { code, verb, .. } = *way;
    Ok(match prove(session, standing, probe, way).await? {
        Proven::Refused(how) => Finding::ok(code, format!("{verb} {how}")),
        Proven::Nothing(why) => Finding::unchecked(code, why),
        Proven::Done(how) => Finding::new(
            code,
            Severity::Critical,
            format!("{verb} was carried out on a stored row{how}"),
            "-- see what the checks TRIGGERS, FUNCTIONS and GRANTS found",
        ),
        Proven::Right(why) => Finding::new(
            code,
            Severity::Warning,
            format!("this user may {verb}; {why}"),
            format!(
                "REVOKE {verb} ON audit_logs FROM {};\n-- or from the role that it has it by, see GRANTS",
                standing.role
            ),
        ),
    })
}

/// Tries to change a row. That no row was found proves nothing: only a refusal does.
async fn prove(
    session: &Session,
    standing: &Standing,
    probe: Option<&Probe>,
    way: &Change,
) -> Result<Proven, DoctorError> {
    match session
        .tried(&way.right.replace("$column", &standing.column))
        .await?
    {
        Tried::Refused { sqlstate, .. } if sqlstate == "42501" => {
            return Ok(Proven::Refused("is refused: no right to (42501)".to_owned()));
        }
        Tried::Refused { sqlstate, message } => {
            return Ok(Proven::Nothing(format!("{message} ({sqlstate})")));
        }
        Tried::Waited => return Ok(Proven::Nothing(HELD.to_owned())),
        Tried::Done { .. } => {}
    }
    let Some(probe) = probe.filter(|_| standing.selects) else {
        return Ok(Proven::Right(NO_ROW.to_owned()));
    };
    tenants::set(session, &probe.mine.to_string()).await?;
    let row = format!("id = '{}' AND created_at = now()", probe.mine);
    let mut by_trigger = false;
    for statement in way.on_row {
        let sql = statement
            .replace("$row", &row)
            .replace("$id", &probe.mine.to_string());
        match session.tried(&sql.replace("$column", &standing.column)).await? {
            Tried::Refused { sqlstate, .. } if sqlstate == "UA001" => by_trigger = true,
            // It may not do what this statement needs beside: replica mode, another column.
            Tried::Refused { sqlstate, .. } if sqlstate == "42501" => {}
            Tried::Refused { sqlstate, message } => {
                return Ok(Proven::Right(format!(
                    "it failed for another reason: {message} ({sqlstate})"
                )));
            }
            Tried::Done { rows: 0 } => return Ok(Proven::Right(HIDDEN.to_owned())),
            Tried::Done { .. } if sql.contains("replica") => {
                return Ok(Proven::Done(", in replica mode".to_owned()));
            }
            Tried::Done { .. } => return Ok(Proven::Done(String::new())),
            Tried::Waited => return Ok(Proven::Right(HELD.to_owned())),
        }
    }
    Ok(match by_trigger {
        true => Proven::Refused("on a row that is there is refused (UA001)".to_owned()),
        false => Proven::Right("no statement got as far as a trigger".to_owned()),
    })
}

const HELD: &str = "another session held the table for longer than 200 ms";
const NO_ROW: &str =
    "whether a trigger refuses it could not be tried, for want of a row that it may insert and read";
const HIDDEN: &str =
    "row security alone hid the row from it, so that it is not proven that a trigger refuses";

/// Tries to set what only the database may set.
async fn forge(session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let mut findings = Vec::new();
    for (column, insert) in [
        (
            "recorded_at",
            "INSERT INTO audit_logs (id, action, recorded_at) VALUES (gen_random_uuid(), 'audit.probe', '2000-01-01')",
        ),
        (
            "tx_id",
            "INSERT INTO audit_logs (id, action, tx_id) VALUES (gen_random_uuid(), 'audit.probe', 1)",
        ),
    ] {
        findings.push(match session.tried(insert).await? {
            Tried::Refused { sqlstate, .. } if sqlstate == "42501" => Finding::ok(
                Forgery,
                format!("setting {column} is refused: no right to (42501)"),
            ),
            Tried::Refused { sqlstate, message } => {
                Finding::unchecked(Forgery, format!("{column}: {message} ({sqlstate})"))
            }
            Tried::Done { rows: 0 } => {
                Finding::unchecked(Forgery, format!("{column}: the row did not arrive"))
            }
            Tried::Done { .. } => Finding::new(
                Forgery,
                Severity::Critical,
                format!("a row with a {column} of this user's choice was stored"),
                "-- as a superuser or the owner it can; else see what the check GRANTS found",
            ),
            Tried::Waited => Finding::unchecked(Forgery, HELD),
        });
    }
    Ok(findings)
}

/// Statements on single partitions: this month's, the default one, and those on which the user has any
/// right. None of them finds a row; the right to is asked for all the same.
const PARTITIONS: &str = "SELECT c.oid::regclass::text, what, \
            format(CASE what WHEN 'SELECT' THEN 'SELECT count(*) FROM %s WHERE false' \
                             WHEN 'INSERT' THEN 'INSERT INTO %s (action) SELECT ''audit.probe'' WHERE false' \
                             WHEN 'UPDATE' THEN 'UPDATE %s SET action = DEFAULT WHERE false' \
                             ELSE 'DELETE FROM %s WHERE false' END, c.oid::regclass), \
            (what = 'INSERT' OR what = 'SELECT' AND NOT row_security_active(c.oid))::text \
     FROM pg_partition_tree('audit_logs') t JOIN pg_class c ON c.oid = t.relid, \
          unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY w (what, nth) \
     WHERE t.isleaf AND t.level > 0 \
       AND (c.relname IN ('audit_logs_default', to_char(now() AT TIME ZONE 'UTC', '\"audit_logs_\"YYYY_MM')) \
            OR has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE')) \
     ORDER BY c.relname, nth LIMIT 80";

async fn partitions(session: &Session) -> Result<Finding, DoctorError> {
    let statements = match session.asked(PARTITIONS).await? {
        Ok(rows) => rows,
        Err(why) => return Ok(Finding::unchecked(PartitionAccess, why)),
    };
    let (mut reached, mut open, mut refused) = (BTreeMap::<String, Vec<String>>::new(), false, 0);
    for row in statements {
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let [partition, what, statement, opens] = cells.as_slice() else {
            continue;
        };
        match session.tried(statement).await? {
            Tried::Done { .. } => {
                open |= opens == "true";
                reached.entry(partition.clone()).or_default().push(what.clone());
            }
            Tried::Refused { sqlstate, .. } if sqlstate == "42501" => refused += 1,
            // Of a partition's lock: this month's can be busy for a moment.
            Tried::Refused { .. } | Tried::Waited => {}
        }
    }
    if reached.is_empty() && refused == 0 {
        return Ok(Finding::unchecked(PartitionAccess, "no partition could be tried"));
    }
    if reached.is_empty() {
        return Ok(Finding::ok(
            PartitionAccess,
            "all that was tried is refused: no right to (42501)",
        ));
    }
    Ok(Finding::new(
        PartitionAccess,
        if open {
            Severity::Critical
        } else {
            Severity::Warning
        },
        format!(
            "past audit_logs, and so past its rights and policies, this user may {}",
            listed(reached)
        ),
        "-- as a superuser or the owner it can; else: SELECT audit_lock_down_table('…'); for each of them",
    ))
}

/// What may be done, each with the partitions in which: the first three by name.
fn listed(reached: BTreeMap<String, Vec<String>>) -> String {
    let mut by_rights = BTreeMap::<String, Vec<String>>::new();
    for (partition, rights) in reached {
        by_rights.entry(rights.join(", ")).or_default().push(partition);
    }
    let each = by_rights.into_iter().map(|(rights, partitions)| {
        let more = match partitions.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first: Vec<String> = partitions.into_iter().take(3).collect();
        format!("{rights} in {}{more}", first.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn create(session: &Session, standing: &Standing) -> Result<Finding, DoctorError> {
    Ok(match session.tried(&standing.create).await? {
        Tried::Refused { sqlstate, .. } if sqlstate == "42501" => {
            Finding::ok(CreateTable, "refused: no right to (42501)")
        }
        Tried::Refused { sqlstate, message } => {
            Finding::unchecked(CreateTable, format!("{message} ({sqlstate})"))
        }
        Tried::Waited => Finding::unchecked(
            CreateTable,
            "another session held the schema for longer than 200 ms",
        ),
        Tried::Done { .. } => Finding::new(
            CreateTable,
            Severity::Warning,
            format!(
                "this user can make tables and functions in the schema {}, beside the trail",
                standing.schema
            ),
            format!(
                "REVOKE CREATE ON SCHEMA {0} FROM PUBLIC;\nREVOKE CREATE ON SCHEMA {0} FROM {1};",
                standing.schema, standing.role
            ),
        ),
    })
}
